//! The host: facts about it, its settings, its ports, and firewalls of other programs.

mod asked_forwarding;
pub mod attached;
pub mod capability;
pub mod facts;
pub mod foreign_firewalls;
pub mod interfaces;
pub mod kept_ports;
pub mod listener;
pub mod port_holder;
pub mod port_owner;
mod port_range;
