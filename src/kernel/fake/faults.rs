//! Faults that a test injects into the fake kernel: calls that fail, and the death of the process.

use std::collections::BTreeSet;

use crate::model::host::step::Step;

/// What goes wrong from now on; nothing by default. It also counts what is called, so that a test can run a command
/// once without faults, and then once for each call that can fail.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    fails: Option<Failing>,
    /// The process dies after that many changes of the world; `None`: it does not.
    abort_after: Option<usize>,
    calls: usize,
    changes: usize,
    /// The names of the methods and steps that were called.
    names: BTreeSet<&'static str>,
    hits: Vec<String>,
}

#[derive(Debug, Clone)]
struct Failing {
    /// A method of the trait `Kernel` (`observe`) or a step (`Attach`); `None`: every method.
    name: Option<&'static str>,
    /// How many matching calls succeed before.
    left: usize,
    for_good: bool,
}

impl Faults {
    /// The `nth` call (0: the next) fails, whichever it is.
    pub fn call(nth: usize) -> Self {
        let fails = Some(Failing { name: None, left: nth, for_good: false });
        Self { fails, ..Self::default() }
    }

    /// The `nth` call (0: the next) of a method of the trait `Kernel` (`observe`) or with a step (`Attach`) fails.
    pub fn call_of(name: &'static str, nth: usize) -> Self {
        let fails = Some(Failing { name: Some(name), left: nth, for_good: false });
        Self { fails, ..Self::default() }
    }

    /// All later matching calls fail too.
    #[must_use]
    pub fn for_good(mut self) -> Self {
        self.fails.iter_mut().for_each(|fails| fails.for_good = true);
        self
    }

    /// The process dies when the world has changed that often: nothing that it does afterwards has an effect.
    pub fn abort_after(changes: usize) -> Self {
        Self { abort_after: Some(changes), ..Self::default() }
    }

    /// How many calls there were since these faults were set.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// How many calls changed the world since these faults were set.
    pub fn changes(&self) -> usize {
        self.changes
    }

    /// The names of the methods, and of the steps, that were called since these faults were set.
    pub fn names(&self) -> &BTreeSet<&'static str> {
        &self.names
    }

    /// The calls that failed, or the one after which the process died, in their order.
    pub fn hits(&self) -> &[String] {
        &self.hits
    }

    /// Counts a call of that method, with that step; returns whether it fails.
    pub(super) fn fails(&mut self, method: &'static str, step: Option<&Step>) -> bool {
        let step = step.map(name);
        self.calls += 1;
        self.names.insert(method);
        self.names.extend(step);
        let matches = |name: &'static str| name == method || Some(name) == step;
        let Some(fails) = self.fails.as_mut().filter(|fails| fails.name.is_none_or(matches)) else { return false };
        if fails.left > 0 {
            fails.left -= 1;
            return false;
        }
        if !fails.for_good {
            self.fails = None;
        }
        self.hits.push(called(method, step));
        true
    }

    /// Counts a change of the world; returns whether the process dies now.
    pub(super) fn changed(&mut self, method: &'static str, step: Option<&Step>) -> bool {
        self.changes += 1;
        let dies = self.abort_after == Some(self.changes);
        if dies {
            self.hits.push(called(method, step.map(name)));
        }
        dies
    }
}

fn called(method: &str, step: Option<&str>) -> String {
    step.map_or_else(|| method.to_owned(), |step| format!("{method} {step}"))
}

/// The name of the step's variant.
pub(super) fn name(step: &Step) -> &'static str {
    match step {
        Step::Forwarding(_) => "Forwarding",
        Step::StopForwarding(_) => "StopForwarding",
        Step::AddBridge(_) => "AddBridge",
        Step::DeleteBridge(_) => "DeleteBridge",
        Step::VirtualAddresses { .. } => "VirtualAddresses",
        Step::AddShim(_) => "AddShim",
        Step::DeleteShim(_) => "DeleteShim",
        Step::ShimRoutes { .. } => "ShimRoutes",
        Step::DeleteInner { .. } => "DeleteInner",
        Step::Attach(_) => "Attach",
        Step::Detach(_) => "Detach",
        Step::DeleteStray(_) => "DeleteStray",
        Step::Address(_) => "Address",
        Step::RemoveAddresses(_) => "RemoveAddresses",
        Step::Adopt(_) => "Adopt",
        Step::Shape(_) => "Shape",
        Step::Foreign(_) => "Foreign",
        Step::Unshape(_) => "Unshape",
        Step::DefaultRoutes { .. } => "DefaultRoutes",
        Step::Elements { .. } => "Elements",
        Step::Table(..) => "Table",
        Step::DropTables => "DropTables",
        Step::Hold(_) => "Hold",
        Step::CheckPortsFree { .. } => "CheckPortsFree",
        Step::Release(_) => "Release",
        Step::ForgetFlows(_) => "ForgetFlows",
        Step::Resolv { .. } => "Resolv",
        Step::Rename { .. } => "Rename",
        Step::RestorePorts(_) => "RestorePorts",
        Step::Restore { .. } => "Restore",
    }
}
