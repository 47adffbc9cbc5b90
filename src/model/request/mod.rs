//! Requests of callers, parsed but not decided: every `None` is a choice left to netd.

mod endpoint;
mod engine_network;
mod handover;
mod network;
mod policy;
mod port;
mod reservation;
mod service;

pub use endpoint::{
    AddressRange, AddressSpec, AttachmentKey, Attachments, CheckSpec, ContainerRef, EndpointSpec, InterfaceSource,
    NetnsRef, PersonRequest, Requester, RuntimeRequest,
};
pub use engine_network::EngineNetworkChange;
pub use handover::{HandoverAction, HandoverChange};
pub use network::{DriverSpec, NetworkSpec};
pub use policy::PolicyChange;
pub use port::{PortAction, PortChange};
pub use reservation::ReservationSpec;
pub use service::{MemberAction, MemberChange, ServiceSpec, ServiceUpdate};
