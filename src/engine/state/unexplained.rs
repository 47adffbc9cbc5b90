//! Links of netd that belong to nothing it knows because records were lost. They are not strays: they stay.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::model::host::observed::HostFacts;
use crate::model::host::step::Step;
use crate::model::names::IfName;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unexplained {
    /// No records were lost.
    Nothing,
    /// Records may have been lost; the kernel was not looked at so far.
    Unknown,
    /// These. What has joined them later is not one of them.
    Links(BTreeSet<IfName>),
}

impl Unexplained {
    /// Whether the link stays although it belongs to nothing.
    pub(crate) fn contains(&self, name: &IfName) -> bool {
        matches!(self, Self::Links(links) if links.contains(name))
    }

    /// Whether there may be links of networks that are not known.
    pub(crate) fn may_have_networks(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Unknown => true,
            Self::Links(links) => !links.is_empty(),
        }
    }

    /// The facts of the host for a network with that bridge: if it is one of these links, it is not in the network's way,
    /// which comes back.
    pub(crate) fn facts_for<'a>(&self, bridge: Option<&IfName>, facts: &'a HostFacts) -> Cow<'a, HostFacts> {
        let Some(bridge) = bridge.filter(|bridge| self.contains(bridge)) else { return Cow::Borrowed(facts) };
        let mut facts = facts.clone();
        facts.interfaces.remove(bridge);
        facts.routes.retain(|(_, name)| name.as_ref() != Some(bridge));
        facts.addresses.retain(|(_, name)| name != bridge);
        Cow::Owned(facts)
    }

    /// Leaves out the steps that make bridges which stand: if a later step fails, they must not go. A repair follows.
    pub(crate) fn spare(&self, steps: &mut Vec<Step>) {
        steps.retain(|step| !matches!(step, Step::AddBridge(link) if self.contains(&link.name)));
    }

    /// What is left of it when these links belong to nothing.
    pub(crate) fn among(&self, strays: BTreeSet<IfName>) -> BTreeSet<IfName> {
        match self {
            Self::Nothing => BTreeSet::new(),
            Self::Unknown => strays,
            Self::Links(links) => links.intersection(&strays).cloned().collect(),
        }
    }
}
