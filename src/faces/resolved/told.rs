//! What one resolved was told, and the difference to what it must be told.

use std::collections::BTreeMap;

use super::Trouble;
use super::manager::{ManagerProxy, knows_no_link};
use super::wanted::Settings;
use crate::model::names::IfName;

/// What a running resolved was told, by the link's index.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<i32, Link>);

#[derive(Debug)]
struct Link {
    name: IfName,
    /// `None`: begun, and not known to be finished.
    settings: Option<Settings>,
}

impl Told {
    /// Tells it what differs; links that are not wanted are reverted. Every link is tried; the first error is returned, and the same call tries again what
    /// failed.
    pub(super) async fn tell(
        &mut self,
        manager: &ManagerProxy<'_>,
        wanted: BTreeMap<i32, (IfName, Settings)>,
    ) -> Result<(), Trouble> {
        let mut first = Ok(());
        let gone = self.0.iter().filter(|(index, _)| !wanted.contains_key(index));
        for (index, name) in gone.map(|(index, link)| (*index, link.name.clone())).collect::<Vec<_>>() {
            match manager.revert_link(index).await {
                Err(source) if !knows_no_link(&source) => {
                    first = first.and(Err(Trouble::Refused { link: name, source }));
                }
                _ => drop(self.0.remove(&index)),
            }
        }
        for (index, (name, settings)) in wanted {
            if self.0.get(&index).and_then(|link| link.settings.as_ref()) == Some(&settings) {
                continue;
            }
            let link = Link { name: name.clone(), settings: None };
            self.0.insert(index, link);
            match manager.set(index, &settings).await {
                Ok(()) => {
                    tracing::info!(link = %name, domains = settings.domains.join(" "), "the host asks us for our names");
                    self.0.insert(index, Link { name, settings: Some(settings) });
                }
                // It does not answer, and will not for the others.
                Err(source @ zbus::Error::InputOutput(_)) => return Err(Trouble::Refused { link: name, source }),
                Err(source) => first = first.and(Err(Trouble::Refused { link: name, source })),
            }
        }
        first
    }
}
