//! The kernel's side: the steps that change it, and its observed state.

pub mod backend;
mod describe;
pub mod element;
pub mod foreign_firewall;
mod kind;
mod link;
pub mod observed;
pub mod parent;
pub mod probe;
pub mod reach;
pub mod routing;
pub mod step;
