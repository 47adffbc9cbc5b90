//! Commands: what the handle sends to the engine's thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use tokio::sync::oneshot;

use super::error::Error;
use super::leased::LeaseNews;
use super::report::{Difference, Planned, PoliciesChanged, Request, Restored};
use super::state::problems::Subject;
use super::telemetry::egress::Answered;
use crate::kernel::KernelEvent;
use crate::model::address::{Family, Subnet};
use crate::model::backup::Backup;
use crate::model::desired::Attached;
use crate::model::endpoint::Endpoint;
use crate::model::host::observed::ForeignNetwork;
use crate::model::ids::ContainerId;
use crate::model::names::{IfName, NetworkName, ReservationId, ServiceName};
use crate::model::network::Network;
use crate::model::publication::Publication;
use crate::model::request::{
    Attachments, CheckSpec, EndpointSpec, EngineNetworkChange, HandoverChange, MemberChange, NetworkSpec, PolicyChange,
    PortChange, ReservationSpec, ServiceSpec, ServiceUpdate,
};
use crate::model::reservation::Reservation;
use crate::model::service::{Health, Service};
use crate::model::upstream::Upstream;

/// The reply to a command, sent after all readers can see its effects.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// An answer, and who waits until its addresses are open; false: they are not.
pub(crate) type Waiting = (Box<Answered>, oneshot::Sender<bool>);

/// Results of health checks: of a container for a service, or of its engine's own (`None`).
pub type HealthResults = BTreeMap<(ContainerId, Option<ServiceName>), Health>;

/// Reports whether the caller has disconnected.
#[derive(Clone)]
pub(crate) struct Gone(Arc<dyn Fn() -> bool + Send + Sync>);

impl Gone {
    pub(crate) fn new(gone: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(gone))
    }

    pub(crate) fn is_gone(&self) -> bool {
        (self.0)()
    }
}

impl std::fmt::Debug for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Gone").field(&self.is_gone()).finish()
    }
}

/// A command: the only input of the engine.
#[derive(Debug)]
pub(crate) enum Command {
    CreateNetwork(Box<NetworkSpec>, Vec<ForeignNetwork>, Reply<Arc<Network>>),
    RemoveNetwork(String, Reply<Arc<Network>>),
    SetUpstreams(String, Vec<Upstream>, Reply<Arc<Network>>),
    RenumberNetwork(String, Vec<Subnet>, Vec<ForeignNetwork>, Reply<Arc<Network>>),
    PruneNetworks(Reply<Vec<NetworkName>>),
    CreateService(Box<ServiceSpec>, Reply<Arc<Service>>),
    UpdateService(Box<ServiceUpdate>, Reply<Arc<Service>>),
    RemoveService(String, Reply<Arc<Service>>),
    ChangeMember(Box<MemberChange>, Reply<Arc<Attached>>),
    ChangePolicies(Box<PolicyChange>, Reply<PoliciesChanged>),
    NoteHealth(HealthResults),
    NoteLabels(ContainerId, BTreeMap<String, String>),
    NoteLease(Box<LeaseNews>, oneshot::Sender<Option<String>>),
    Keep(String, String, Reply<()>),
    Reserve(Box<ReservationSpec>, Reply<Arc<Reservation>>),
    ReleaseReservation(String, Reply<Arc<Reservation>>),
    ChangeHandover(Box<HandoverChange>, Reply<Arc<Endpoint>>),
    ChangeEngineNetwork(Box<EngineNetworkChange>, Reply<Option<Arc<Network>>>),
    ChooseSubnet {
        family: Family,
        wanted: Option<Subnet>,
        avoid: Vec<Subnet>,
        foreign: Vec<ForeignNetwork>,
        reply: Reply<Subnet>,
    },
    ChangePort(Box<PortChange>, Reply<(Arc<Endpoint>, Vec<Publication>)>),
    Disconnect {
        network: String,
        container: String,
        keep: Option<ReservationId>,
        reply: Reply<Arc<Endpoint>>,
    },
    Connect {
        spec: Box<EndpointSpec>,
        foreign: Vec<ForeignNetwork>,
        gone: Gone,
        reply: Reply<Arc<Endpoint>>,
    },
    ConnectTogether {
        specs: Vec<EndpointSpec>,
        foreign: Vec<ForeignNetwork>,
        gone: Gone,
        reply: Reply<Vec<Arc<Endpoint>>>,
    },
    Detach(Box<Attachments>, Reply<()>),
    Check(Box<CheckSpec>, Reply<()>),
    Gc {
        owner: NetworkName,
        valid: Vec<(ContainerId, IfName)>,
        reply: Reply<Vec<Arc<Endpoint>>>,
    },
    Capacity(String, Reply<()>),
    Diff(Reply<Vec<Difference>>),
    Backup(Reply<Backup>),
    Restore(Box<Backup>, Vec<ForeignNetwork>, Reply<Restored>),
    Plan(Box<Request>, Vec<ForeignNetwork>, Reply<Vec<Planned>>),
    Report {
        subject: Subject,
        problem: Option<String>,
    },
    Kernel(KernelEvent),
    Teardown {
        dry_run: bool,
        reply: Reply<Vec<Planned>>,
    },
    Open(Waiting),
    Alive(Sender<()>),
    Stop(oneshot::Sender<()>),
}

impl Command {
    /// The answer whose addresses are to be opened.
    pub(crate) fn opened(self) -> Option<Waiting> {
        match self {
            Self::Open(waiting) => Some(waiting),
            _ => None,
        }
    }

    /// Whether the command removes endpoints. Such commands are carried out together.
    pub(crate) fn disconnects(&self) -> bool {
        let gone = |event: &KernelEvent| matches!(event, KernelEvent::LinkGone(_) | KernelEvent::NetnsGone(_));
        matches!(self, Self::Disconnect { .. } | Self::Detach(..)) || matches!(self, Self::Kernel(event) if gone(event))
    }
}

/// How many commands may wait; further callers wait for a free slot.
pub(crate) const MAILBOX: usize = 1024;
