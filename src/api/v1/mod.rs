//! Version 1 of the published JSON: what the HTTP API and `--json` speak. Fields are only ever added.
//!
//! Requests refuse unknown fields by name; replies may grow, so a reader must skip what it does not know.

mod attach;
mod backup;
mod connect;
mod dns;
mod egress;
mod endpoint;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod lease;
mod network;
mod options;
mod parse;
mod plan;
mod policy;
mod port;
mod reservation;
mod service;
mod state;
pub mod text;
mod time;

pub use attach::{
    AddressRange, AddressRequest, Attach, AttachOne, AttachTogether, AttachedTogether, Attachment, AttachmentRef,
    Bandwidth, CheckAttachment, Collected, Dns, Interface, KeepAttachments, Route, attachment_key, attachments_of,
};
pub use backup::{Backup, NetworkBackup, Restored, ServiceBackup, StickyAddress, VirtualAddresses};
pub use connect::{Connect, PortObject, PortRequest};
pub use dns::{Holder, LoggedContainer, LoggedQuery, Resolved};
pub use egress::EgressLine;
pub use endpoint::{Container, ContainerRef, Endpoint, Port, PortReach, SkippedPort};
pub use lease::Lease;
pub use network::{
    CreateNetwork, HostInterface, NameServers, Network, NetworkDns, Renumber, Subnet, SubnetObject, SubnetRequest,
    driver,
};
pub use parse::{RecordName, boolean, container_reference, gateway, ipv4, ipv6, network_reference, record};
pub use plan::{Difference, PlanRequest, PlannedStep, Teardown};
pub use policy::{ChangePolicies, Judgement, PoliciesChanged, Policy, PolicyRule, policy_id};
pub use port::{PublishPort, PublishedPorts, port_change};
pub use reservation::{Reservation, Reserve};
pub use service::{
    ChangeMember, CreateService, HealthRequest, Member, Replicas, Seconds, Service, ServiceHealth, ServiceNetwork,
    ServiceNetworkObject, ServiceNetworkRequest, UpdateService,
};
pub use state::{Dump, ErrorBody, ErrorDetail, Event, EventType, Files, ForeignChain, Pruned, Status, Version};
pub use time::rfc3339;
