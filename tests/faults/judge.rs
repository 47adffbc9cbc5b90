//! Judges what is wrong after a fault. What is known to be wrong is left out, and the rest is judged all the same.

use std::collections::BTreeSet;

use netd::store::memory::Fault::{DiesAfter, DiesBefore};

use crate::drive::Fault;

/// What is wrong and stays so for now.
pub(crate) struct Known {
    pub(crate) scenario: &'static str,
    /// Whether it is wrong with this fault, which hit this call first.
    fault: fn(Fault, &str) -> bool,
    /// How the lines begin that say what is wrong.
    lines: &'static [&'static str],
    /// Why it stays.
    pub(crate) reason: &'static str,
}

pub(crate) const KNOWN: &[Known] = &[
    Known {
        scenario: "attach, giving the addresses",
        fault: |fault, hit| {
            matches!(
                (fault, hit),
                (Fault::Commit(0, DiesAfter), _) | (Fault::DeathAfter(_), "apply Elements" | "apply Address")
            )
        },
        lines: &[
            "default route is missing: (3, IfName(\"eth0\")",
            "default route belongs to nobody: (3, IfName(\"eth1\")",
        ],
        reason: "a start leaves a default route over another interface as it is, because another program (Multus) may \
                 have moved it there; it cannot tell this from a daemon that was killed before it moved the route",
    },
    Known {
        scenario: "disconnect the only network, where names are answered within",
        fault: |fault, _| matches!(fault, Fault::Commit(0, DiesAfter)),
        lines: &["name service within 1 belongs to nobody"],
        reason: "a start does not know the namespaces of containers without endpoints; the next connect replaces the \
                 redirection",
    },
    Known {
        scenario: "disconnect on an interface of the host",
        fault: |fault, _| matches!(fault, Fault::Commit(0, DiesAfter)),
        lines: &["name service within 1 belongs to nobody"],
        reason: "as above",
    },
    Known {
        scenario: "connect where a name is taken in the container, so that it is decided again",
        fault: |fault, hit| match fault {
            Fault::Commit(nth, died) => (nth, died) == (0, DiesAfter) || (nth, died) == (1, DiesBefore),
            Fault::DeathAfter(_) => ["apply Hold", "apply Release", "apply Elements"].contains(&hit),
            _ => false,
        },
        lines: &[
            "interface IfName(\"ndv-web-net1\") is missing: Pair { bridge: IfName(\"nd-net1\"), ifname: IfName(\"eth0\")",
            "default route is missing: (1, IfName(\"eth0\")",
            "problem: interface ndv-web-net1 of web on net1: ",
            "(\"net1\", Some((\"web\", \"eth0\")))",
            "(\"net1\", Some((\"web\", \"eth1\"))): None",
        ],
        reason: "the daemon was killed with the first try in the store; a start cannot tell that the name was taken \
                 before, and shows a problem",
    },
];

/// The judge of one scenario with one fault.
#[derive(Default)]
pub(crate) struct Judge {
    /// Indices of [`KNOWN`]: what may be wrong.
    known: Vec<usize>,
    /// What of it was wrong.
    pub(crate) met: BTreeSet<usize>,
}

impl Judge {
    pub(crate) fn of(scenario: &str, fault: Fault, hit: &str) -> Self {
        let concerned = |known: &Known| known.scenario == scenario && (known.fault)(fault, hit);
        let known = KNOWN.iter().enumerate().filter(|(_, known)| concerned(known)).map(|(index, _)| index);
        Self { known: known.collect(), met: BTreeSet::new() }
    }

    /// Fails with the first of what is wrong, which tells the story.
    pub(crate) fn none(&mut self, what: &str, wrong: impl IntoIterator<Item = String>) -> Result<(), String> {
        let wrong: Vec<String> = wrong.into_iter().filter(|line| !self.is_known(line)).collect();
        let first: Vec<&str> = wrong.iter().take(3).map(String::as_str).collect();
        if wrong.is_empty() { Ok(()) } else { Err(format!("{what}: {} ({} in all)", first.join("; "), wrong.len())) }
    }

    fn is_known(&mut self, line: &str) -> bool {
        let says = |index: &&usize| KNOWN[**index].lines.iter().any(|begin| line.starts_with(begin));
        let known = self.known.iter().find(says).copied();
        self.met.extend(known);
        known.is_some()
    }
}
