//! The settings that one resolved has, and the difference to those that it must have.

use std::collections::BTreeMap;

use super::Trouble;
use super::manager::{ManagerProxy, knows_no_link};
use super::target::Settings;
use crate::model::names::IfName;

/// The settings of a running resolved, by the link's index.
#[derive(Debug, Default)]
pub(super) struct Applied(BTreeMap<i32, Link>);

#[derive(Debug)]
struct Link {
    name: IfName,
    /// `None`: a change has begun and is not known to be complete.
    settings: Option<Settings>,
}

impl Applied {
    /// Sends the differences, and reverts links that are not wanted. Tries every link and returns the first error. The
    /// next call retries what failed.
    pub(super) async fn tell(
        &mut self,
        manager: &ManagerProxy<'_>,
        target: BTreeMap<i32, (IfName, Settings)>,
    ) -> Result<(), Trouble> {
        let mut first = Ok(());
        let gone = self.0.iter().filter(|(index, _)| !target.contains_key(index));
        for (index, name) in gone.map(|(index, link)| (*index, link.name.clone())).collect::<Vec<_>>() {
            match manager.revert_link(index).await {
                Err(source) if !knows_no_link(&source) => {
                    first = first.and(Err(Trouble::Refused { link: name, source }));
                }
                _ => drop(self.0.remove(&index)),
            }
        }
        for (index, (name, settings)) in target {
            if self.0.get(&index).and_then(|link| link.settings.as_ref()) == Some(&settings) {
                continue;
            }
            let link = Link { name: name.clone(), settings: None };
            self.0.insert(index, link);
            match manager.set(index, &settings).await {
                Ok(()) => {
                    tracing::info!(link = %name, domains = settings.domains.join(" "), "systemd-resolved forwards netd's names to netd");
                    self.0.insert(index, Link { name, settings: Some(settings) });
                }
                // resolved does not reply, and would not for the other links.
                Err(source @ zbus::Error::InputOutput(_)) => return Err(Trouble::Refused { link: name, source }),
                Err(source) => first = first.and(Err(Trouble::Refused { link: name, source })),
            }
        }
        first
    }
}
