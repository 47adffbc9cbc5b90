//! `netd service`.

use clap::{Args, Subcommand};

use super::output::templates;
use super::values::{self, checked, optional};
use super::{DryRun, EngineSocket, Format, Inspected, Listed, TaskArgs};
use crate::api::v1::{self, Seconds, ServiceNetworkObject};
use crate::faces::cli::filter::{self, Filter};
use crate::model::names::{Alias, ServiceName};
use crate::model::publication::PortSpec;
use crate::model::service::{Affinity, HealthKind, Mode, Target, WhenNoneReady};

/// `netd service`.
#[derive(Debug, Subcommand)]
pub enum ServiceVerb {
    /// Create a service: one name for several containers
    Create(Box<CreateServiceArgs>),
    /// List services
    #[command(
        alias = "list",
        after_help = templates!(
            "  netd service ls\n  netd service ls -q -f network=net1\n  \
             netd service ls --format 'table {{.Name}}\\t{{.Replicas}}\\t{{.Ports}}'",
            "Filters: id, label (KEY or KEY=VALUE), mode (dns, vip), name, network (name), origin (defined,\n\
labels). Of the values of one key one must fit, of different keys and of labels all. id and name\n\
fit a part; ^ and $ tie it to the beginning and the end.\n\n\
Fields of a TEMPLATE: .ID .Name .Mode .Replicas .Networks .Addresses .Ports .Labels .Label \"KEY\"\n\
.CreatedAt .UpdatedAt .Version .Origin; empty, since netd does not know: .Image"
        )
    )]
    Ls {
        /// Only services that fit; repeat for more
        #[arg(long, short = 'f', value_name = "KEY=VALUE", value_parser = filter::service)]
        filter: Vec<Filter>,
        /// How to print
        #[command(flatten)]
        listed: Listed,
    },
    /// Show everything about services
    #[command(after_help = templates!(
        "  netd service inspect web\n  netd service inspect web --json\n  \
         netd service inspect web --format '{{range .Networks}}{{join .Addresses \" \"}}{{end}}'",
        "A TEMPLATE has the fields of --json, without regard to case and underscores:\n\
.when_none_ready, .WhenNoneReady."
    ))]
    Inspect {
        /// Names or ids
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// How to print
        #[command(flatten)]
        output: Inspected,
    },
    /// List the members of a service: addresses, states, and why one is not used
    #[command(after_help = templates!(
        "  netd service ps web\n  netd service ps web -q -f state=ready\n  \
         netd service ps web --format '{{.Name}} {{.State}} {{.Why}}'",
        "Filters: id, name, network (name), state (starting, ready, unhealthy, draining). Of the values of\n\
one key one must fit, of different keys all. id and name fit a part; ^ and $ tie it to the beginning\n\
and the end.\n\n\
Fields of a TEMPLATE: .ID .Name .Network .Addresses .State .Since .Why, as Docker's .CurrentState\n\
and .Error; empty, since netd does not know: .Image .Node .DesiredState .Ports"
    ))]
    Ps {
        /// Name or id of the service
        #[arg(value_name = "NAME")]
        name: String,
        /// Only members that fit; repeat for more
        #[arg(long, short = 'f', value_name = "KEY=VALUE", value_parser = filter::member)]
        filter: Vec<Filter>,
        /// How to print
        #[command(flatten)]
        listed: Listed,
    },
    /// Change a service: only what is given
    Update(Box<UpdateServiceArgs>),
    /// Remove services; their members stay connected
    #[command(alias = "remove", after_help = "Examples:\n  netd service rm web\n  netd service rm web api --dry-run")]
    Rm {
        /// Names or ids
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Dry run
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Let nothing new reach a member, because it is about to be stopped
    #[command(after_help = "\
When the command returns, names no longer lead to the member, and new connections do not either.
Connections that exist stay for the service's --grace.

Examples:
  netd service drain web1
  netd service drain web1 --dry-run")]
    Drain(MemberArgs),
    /// Use a drained member again
    #[command(after_help = "Examples:\n  netd service undrain web1")]
    Undrain(MemberArgs),
    /// Say that a member is ready, whatever its health checks say
    #[command(after_help = "Examples:\n  netd service ready web1")]
    Ready(MemberArgs),
    /// Say that a member is not ready, whatever its health checks say
    #[command(after_help = "Examples:\n  netd service unready web1")]
    Unready(MemberArgs),
    /// Let a member's health checks decide again, after `ready` or `unready`
    #[command(after_help = "Examples:\n  netd service checked web1")]
    Checked(MemberArgs),
    /// Change how many tasks services have
    #[command(after_help = "Examples:\n  netd service scale web=3 api=2")]
    Scale {
        /// A service and the number of its tasks
        #[arg(required = true, value_name = "NAME=N", value_parser = values::scale)]
        to: Vec<(String, u32)>,
        /// Where the Engine API is
        #[command(flatten)]
        socket: EngineSocket,
    },
    /// Show what the tasks of a service have printed
    #[command(after_help = "Examples:\n  netd service logs web\n  netd service logs -f --tail 10 web")]
    Logs {
        /// Name or id of the service
        #[arg(value_name = "NAME")]
        name: String,
        /// Go on as they print
        #[arg(long, short)]
        follow: bool,
        /// Only so many last lines of each
        #[arg(long, short = 'n', value_name = "LINES")]
        tail: Option<u32>,
        /// With the time of each line
        #[arg(long, short)]
        timestamps: bool,
        /// Where the Engine API is
        #[command(flatten)]
        socket: EngineSocket,
    },
}

/// `netd service create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Members are the containers on the service's networks that have all labels of --select (`netd connect
--label`, or those of their engine), and those of --member. The name resolves to the ready ones, or
with --mode vip to an address of its own, from which connections are passed on to them. SPEC is that
of `netd connect`, without an address of the host. A DURATION is 500ms, 2s, 1m30s.

Examples:
  netd service create web --network net1 --select app=web
  netd service create web --network net1,alias=www --select app=web --mode vip -p 8080:80
  netd service create api --network net1 --member api1 --member api2 --health http:8080/healthz
  netd service create db --network back --select app=db --target 5432 --health engine
  netd service create web --network net1 --select app=web -p 80 --dry-run
  netd service create web --network net1 --image busybox --replicas 3 --command 'httpd -f' -p 4000:80")]
pub struct CreateServiceArgs {
    /// Its name
    #[arg(value_parser = checked::<ServiceName>)]
    pub name: String,
    /// A network that it is on, with its further names there; repeat for more
    #[arg(
        long = "network",
        required = true,
        value_name = "NETWORK[,alias=NAME]...",
        value_parser = values::service_network
    )]
    pub networks: Vec<ServiceNetworkObject>,
    /// What else it has
    #[command(flatten)]
    pub options: ServiceArgs,
    /// Its tasks
    #[command(flatten)]
    pub tasks: TaskArgs,
    /// Dry run
    #[command(flatten)]
    pub dry_run: DryRun,
    /// Output format
    #[command(flatten)]
    pub format: Format,
}

/// `netd service update`.
#[derive(Debug, Args)]
#[command(after_help = "\
An option that can be repeated replaces all that the service has of its kind; an empty value stands
for none: --select ''. On the networks that it keeps, it keeps its addresses.

Examples:
  netd service update web --publish-add 8443:443
  netd service update web --publish-rm 80           whichever port of the host leads to port 80
  netd service update web --mode vip --affinity client
  netd service update web --member-add web3 --member-rm web1
  netd service update web --health tcp:80 --interval 5s --dry-run
  netd service update web --image busybox:1.37      the engine replaces its tasks
  netd service update web --rollback")]
pub struct UpdateServiceArgs {
    /// Name or id
    pub name: String,
    /// A network that it is on, with its further names there; repeat for more
    #[arg(long = "network", value_name = "NETWORK[,alias=NAME]...", value_parser = values::service_network)]
    pub networks: Vec<ServiceNetworkObject>,
    /// What else it has
    #[command(flatten)]
    pub options: ServiceArgs,
    /// Its tasks
    #[command(flatten)]
    pub tasks: TaskArgs,
    /// Publish a further port; repeat for more
    #[arg(long, value_name = "SPEC")]
    pub publish_add: Vec<PortSpec>,
    /// Stop publishing a port; what SPEC leaves out means any; repeat for more
    #[arg(long, value_name = "SPEC")]
    pub publish_rm: Vec<PortSpec>,
    /// A further member by name; repeat for more
    #[arg(long, value_name = "CONTAINER", value_parser = v1::container_reference)]
    pub member_add: Vec<String>,
    /// A member to list no longer; repeat for more
    #[arg(long, value_name = "CONTAINER", value_parser = v1::container_reference)]
    pub member_rm: Vec<String>,
    /// Make it as it was before its last update
    #[arg(long)]
    pub rollback: bool,
    /// Refuse if the service has another version than this
    #[arg(long, value_name = "VERSION")]
    pub if_version: Option<u64>,
    /// Dry run
    #[command(flatten)]
    pub dry_run: DryRun,
    /// Output format
    #[command(flatten)]
    pub format: Format,
}

/// The options that `create` and `update` share. A list of which an element is `None` is given, but without that element.
#[derive(Debug, Default, Args)]
pub struct ServiceArgs {
    /// A label that makes containers members; repeat for labels that they must have besides
    #[arg(long, value_name = "LABEL=VALUE", value_parser = optional(values::selector))]
    pub select: Vec<Option<(String, String)>>,
    /// A member by name or id, which need not exist yet; repeat for more
    #[arg(long, value_name = "CONTAINER", value_parser = optional(v1::container_reference))]
    pub member: Vec<Option<String>>,
    /// What its name resolves to: the addresses of ready members, or an address of its own [default: dns]
    #[arg(long, value_name = "dns|vip")]
    pub mode: Option<Mode>,
    /// Publish a port at every address of the host; repeat for more
    #[arg(short = 'p', long = "publish", value_name = "SPEC", value_parser = optional(str::parse::<PortSpec>))]
    pub ports: Vec<Option<PortSpec>>,
    /// The port that its members serve, as in 80 or 53/udp: SRV records name it, and health checks ask it
    #[arg(long, value_name = "PORT", value_parser = optional(str::parse::<Target>))]
    pub target: Option<OrNone<Target>>,
    /// Which member gets a connection: any, or one for each client's address [default: none]
    #[arg(long, value_name = "none|client")]
    pub affinity: Option<Affinity>,
    /// For how many seconds the connections of a drained member stay [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    pub grace: Option<u32>,
    /// When a member is ready [default: none]
    #[arg(long, value_name = "tcp:PORT|http:PORT/PATH|engine|none")]
    pub health: Option<HealthKind>,
    /// The time between two probes of a member [default: 2s]
    #[arg(long, value_name = "DURATION")]
    pub interval: Option<Seconds>,
    /// The time after which a probe has failed [default: 1s]
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<Seconds>,
    /// After how many failed probes in a row a ready member is unhealthy [default: 3]
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// What its name resolves to while no member is ready [default: empty]
    #[arg(long, value_name = "empty|all")]
    pub when_none_ready: Option<WhenNoneReady>,
    /// A label of the service itself; repeat for more
    #[arg(long, value_name = "K=V", value_parser = optional(values::label))]
    pub label: Vec<Option<(String, String)>>,
    /// A further DNS name on each of its networks; repeat for more
    #[arg(long = "alias", value_name = "NAME", value_parser = optional(str::parse::<Alias>))]
    pub aliases: Vec<Option<Alias>>,
}

/// A value that may be given as empty, which stands for none. Clap would take an option of an option for a flag whose
/// value may be left out.
pub(super) type OrNone<T> = Option<T>;

/// A member of services.
#[derive(Debug, Args)]
pub struct MemberArgs {
    /// Name, id or beginning of the id of the container
    #[arg(value_name = "MEMBER", value_parser = v1::container_reference)]
    pub member: String,
    /// Dry run
    #[command(flatten)]
    pub dry_run: DryRun,
    /// Output format
    #[command(flatten)]
    pub format: Format,
}
