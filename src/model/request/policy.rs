//! The request to add and remove policies.

use crate::model::policy::Rule;

/// A change of policies, which takes effect as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyChange {
    /// What is to be there. What is there already is no error.
    pub add: Vec<Rule>,
    /// The ids of policies that are to be gone.
    pub remove: Vec<u64>,
    /// Nothing else is to be there.
    pub only: bool,
}
