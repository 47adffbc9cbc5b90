//! The kernel's side: the steps that change it, and its observed state.

pub mod backend;
mod describe;
pub mod element;
pub mod foreign_firewall;
pub mod observed;
pub mod probe;
pub mod routing;
pub mod step;
