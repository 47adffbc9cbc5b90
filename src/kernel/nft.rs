//! The firewall table.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{KernelError, KernelEvent};
use crate::model::element::Element;
use crate::model::observed::Structure;

/// The firewall table.
#[derive(Debug, Default)]
pub struct Nft {
    elements: BTreeSet<Element>,
}

impl Nft {
    /// Opens it.
    pub fn new() -> Result<Self, KernelError> {
        Ok(Self::default())
    }

    /// Replaces the whole table.
    pub fn replace_table(&mut self, elements: &[Element]) -> Result<(), KernelError> {
        self.elements = elements.iter().cloned().collect();
        Ok(())
    }

    /// Removes, then adds.
    pub fn change(&mut self, remove: &[Element], add: &[Element]) -> Result<(), KernelError> {
        self.elements.retain(|element| !remove.contains(element));
        self.elements.extend(add.iter().cloned());
        Ok(())
    }

    /// What is there.
    pub fn observe(&mut self) -> Result<(Structure, BTreeSet<Element>), KernelError> {
        Ok((Structure::Intact, self.elements.clone()))
    }

    /// Tells foreign changes.
    pub fn watch(&mut self, _tell: Arc<dyn Fn(KernelEvent) + Send + Sync>) -> Result<(), KernelError> {
        Ok(())
    }
}
