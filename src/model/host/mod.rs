//! The kernel's side: the steps that change it, and what is observed of it.

pub mod element;
pub mod foreign_firewall;
pub mod observed;
pub mod step;
