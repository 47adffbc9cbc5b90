//! The command line as data: verbs, flags, and the examples that their help shows. Completions and man pages are
//! generated from here.

mod backup;
mod daemon;
mod dns;
mod egress;
mod endpoint;
mod network;
mod output;
mod policy;
mod port;
mod reservation;
mod service;
mod stack;
mod tasks;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::api::v1;
use crate::faces::cli::filter::{self, Filter};
use crate::faces::cli::format::Spec;
use crate::model::names::ReservationId;
pub use backup::{BackupArgs, RestoreArgs};
pub use daemon::{Daemon, DaemonArgs, TeardownArgs};
pub use dns::{DnsVerb, LogVerb};
pub(in crate::faces::cli) use egress::EgressVerb;
pub use endpoint::{ConnectArgs, EndpointArgs, RunArgs};
pub use network::{CreateArgs, NetworkVerb};
use output::templates;
pub use output::{Format, Inspected, Listed, Output};
pub(in crate::faces::cli) use policy::{PolicyArgs, PolicyVerb};
pub use port::{ChangePortArgs, PortArgs, PortVerb};
pub use reservation::{ReservationVerb, ReserveArgs};
pub use service::{CreateServiceArgs, MemberArgs, ServiceArgs, ServiceVerb, UpdateServiceArgs};
pub use stack::{DeployArgs, EngineSocket, StackVerb};
pub use tasks::TaskArgs;

/// The daemon's default socket.
pub const DEFAULT_SOCKET: &str = "/run/netd/netd.sock";

/// Container networking and service discovery
#[derive(Debug, Parser)]
#[command(
    name = "netd",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "\
Examples:
  netd network create net1
  netd connect net1 web -p 4000:80        connect the container web and publish its port 80
  netd run --network net1 -- busybox sh   a shell in a fresh network namespace on net1
  netd ps                                 what is connected to what
  netd COMMAND -h                         more about one command"
)]
pub struct Cli {
    /// The daemon's socket [default: /run/netd/netd.sock]
    #[arg(long, global = true, env = "NETD_SOCKET", hide_env_values = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The command
    #[command(subcommand)]
    pub verb: Verb,
}

impl Cli {
    /// The socket that client verbs talk to.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| DEFAULT_SOCKET.into())
    }
}

/// The verbs, by who carries them out.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the daemon in the foreground
    Daemon(Daemon),
    /// Check a configuration file, or show the effective configuration
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Remove everything that netd made: networks, interfaces, firewall rules, files
    Teardown(TeardownArgs),
    /// Verbs that use a running daemon, or none.
    #[command(flatten)]
    Client(ClientVerb),
}

/// `netd config`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Check a configuration file, and the certificates and keys that it names
    #[command(after_help = "Examples:\n  netd config check /etc/netd/netd.toml")]
    Check {
        /// The file
        file: PathBuf,
    },
    /// Show the effective configuration as TOML
    #[command(after_help = "Examples:\n  netd config show\n  netd config show --config ./netd.toml --json")]
    Show {
        /// The flags of the daemon
        #[command(flatten)]
        daemon: DaemonArgs,
        /// Output format
        #[command(flatten)]
        format: Format,
    },
}

/// Option of verbs that change something.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct DryRun {
    /// Print the changes without making them
    #[arg(long)]
    pub dry_run: bool,
}

/// The verbs that use a running daemon, or none.
#[derive(Debug, Subcommand)]
pub enum ClientVerb {
    /// Show whether the daemon is ready, and its problems
    #[command(
        after_help = "Exit status: 0 when it is ready, 1 when not.\n\nExamples:\n  netd status\n  netd status --wait 10"
    )]
    Status {
        /// Wait until the daemon is ready, at most this many seconds
        #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
        wait: Option<u32>,
        /// Output format
        #[command(flatten)]
        format: Format,
    },
    /// Create, list, inspect and remove networks
    #[command(subcommand)]
    Network(NetworkVerb),
    /// Connect a container to a network
    Connect(Box<ConnectArgs>),
    /// Disconnect a container from a network
    #[command(after_help = "\
Examples:
  netd disconnect net1 web
  netd disconnect net1 web --keep web    it can come again by `netd connect net1 web --reservation web`
  netd disconnect net1 web --dry-run")]
    Disconnect {
        /// Name or id of the network
        #[arg(value_parser = v1::network_reference)]
        network: String,
        /// Name, id or beginning of the id of the container
        #[arg(value_parser = v1::container_reference)]
        container: String,
        /// Keep its addresses, MAC address and ports as a reservation with this id
        #[arg(long, value_name = "ID")]
        keep: Option<ReservationId>,
        /// Dry run
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Reserve addresses and ports for a container to come, list and release reservations
    #[command(subcommand)]
    Reservation(ReservationVerb),
    /// Give several containers one name, and one address and published ports if wanted
    #[command(subcommand)]
    Service(ServiceVerb),
    /// Say who may reach whom
    #[command(subcommand)]
    Policy(PolicyVerb),
    /// Show what containers send to the outside
    #[command(subcommand)]
    Egress(EgressVerb),
    /// Deploy and remove the networks and services of a compose file
    #[command(subcommand)]
    Stack(StackVerb),
    /// Run a command in a fresh network namespace on a network
    Run(Box<RunArgs>),
    /// List containers: networks, addresses, published ports
    #[command(after_help = templates!(
        "  netd ps\n  netd ps --json\n  netd ps -q -f network=net1 -f publish=8000-8999/tcp\n  \
         netd ps --format 'table {{.Names}}\\t{{.Ports}}'",
        "Filters: expose and publish (80, 80-90/udp), id, label (KEY or KEY=VALUE), name, network\n\
(name or id), status (running). Of the values of one key one must fit, of different keys and of\n\
labels all. id and name fit a part; ^ and $ tie it to the beginning and the end.\n\n\
Fields of a TEMPLATE: .ID .Names .Networks .Addresses .Ports .Labels .Label \"KEY\" .State\n\
.Status; empty, since netd does not know: .Image .Command .CreatedAt .RunningFor .Size .Mounts"
    ))]
    Ps {
        /// Only containers that fit; repeat for more
        #[arg(long, short = 'f', value_name = "KEY=VALUE", value_parser = filter::container)]
        filter: Vec<Filter>,
        /// How to print
        #[command(flatten)]
        listed: Listed,
    },
    /// List the published ports of a container, and the hosts that can reach them; publish further ones
    Port(PortArgs),
    /// Show everything about containers or networks
    #[command(after_help = templates!(
        "  netd inspect web\n  netd inspect web net1 --json\n  \
         netd inspect web --format '{{range .Endpoints}}{{.Network}} {{join .Addresses \" \"}}\\n{{end}}'",
        "A TEMPLATE has the fields of --json, without regard to case and underscores:\n\
.host_ifname, .HostIfname."
    ))]
    Inspect {
        /// Names, ids or beginnings of ids
        #[arg(required = true, value_name = "NAME", value_parser = v1::container_reference)]
        names: Vec<String>,
        /// How to print
        #[command(flatten)]
        output: Inspected,
    },
    /// Show what the daemon's DNS answers, and why
    #[command(after_help = "\
Of a name that is not ours, the upstreams are really asked.

Examples:
  netd resolve web --from client        as the container client would see it
  netd resolve web.net1 AAAA            as the host, which sees every network
  netd resolve www.example.com MX       who of the upstreams says so
  netd resolve 10.77.0.2                the names of an address")]
    Resolve {
        /// The name, or an IP address
        name: String,
        /// A, AAAA, PTR, … [default: A; PTR for an IP address]
        #[arg(value_name = "TYPE")]
        kind: Option<String>,
        /// The container that asks [default: the host]
        #[arg(long, value_name = "CONTAINER", value_parser = v1::container_reference)]
        from: Option<String>,
        /// Output format
        #[command(flatten)]
        format: Format,
    },
    /// Show the work of the name service
    #[command(subcommand)]
    Dns(DnsVerb),
    /// Print one line per change as it happens
    #[command(after_help = templates!(
        "  netd events\n  netd events --json | jq .message\n  \
         netd events -f type=network -f event=create --format '{{.Time}} {{.Network}}'",
        "Filters: type (network, container, service, reservation, daemon), event (create, connect, port.add,\n\
service.member, …), network, container and service (name or id, or its beginning). Of the values of one key one must fit, of\n\
different keys all.\n\n\
A TEMPLATE has the fields of --json, without regard to case and underscores: .Container.Name."
    ))]
    Events {
        /// Only events that fit; repeat for more
        #[arg(long, short = 'f', value_name = "KEY=VALUE", value_parser = filter::event)]
        filter: Vec<Filter>,
        /// Output format
        #[command(flatten)]
        json: Format,
        /// json, or a Go template for each event
        #[arg(long, value_name = "TEMPLATE", value_parser = Spec::parse_line, conflicts_with = "json")]
        format: Option<Spec>,
    },
    /// Compare what netd made with what is there
    ///
    /// Prints nothing if all is as it must be; otherwise one line for each difference, and the exit status is 1. netd
    /// repairs differences by itself, most of them within a second.
    #[command(after_help = "Examples:\n  netd diff\n  netd diff --json")]
    Diff {
        /// Output format
        #[command(flatten)]
        format: Format,
    },
    /// Print the whole state, sorted
    #[command(after_help = "Examples:\n  netd dump\n  netd dump --json > state.json")]
    Dump {
        /// Output format
        #[command(flatten)]
        format: Format,
    },
    /// Back up the definitions: networks, the addresses that they keep for names, and services
    Backup(BackupArgs),
    /// Restore the definitions of a backup: all or none
    Restore(RestoreArgs),
    /// Attach and detach the containers of OCI runtimes (runc, crun), as their hook
    ///
    /// Reads the container's state from standard input. In the bundle's config.json it is a createRuntime (or prestart)
    /// and a poststop hook; the container's annotations say what it is attached to.
    #[command(after_help = "\
Annotations; lists are separated by commas:
  netd.network=NETWORK,…     the networks to join, which must exist
  netd.publish=SPEC,…        as -p of `netd connect`
  netd.name=NAME             the container's name [default: its id]
  netd.alias=NAME,…          netd.expose=PORT,…    netd.dns=SERVER,…    netd.label=K=V,…
  netd.ip=IP                 netd.ip6=IP           netd.mac=MAC       netd.ifname=NAME
  netd.NETWORK.KEY=VALUE     on that network only: publish, alias, expose, dns, label, ip, ip6, mac,
                             ifname
  netd.files=keep            leave the container's resolv.conf and hosts as they are

Examples:
  in config.json:
    \"annotations\": {\"netd.network\": \"net1\", \"netd.publish\": \"4000:80\"},
    \"hooks\": {\"createRuntime\": [{\"path\": \"/usr/local/bin/netd\", \"args\": [\"netd\", \"hook\"]}],
              \"poststop\": [{\"path\": \"/usr/local/bin/netd\", \"args\": [\"netd\", \"hook\"]}]}")]
    Hook,
    /// Print the versions of this program and of the daemon
    #[command(after_help = "Examples:\n  netd version")]
    Version {
        /// Output format
        #[command(flatten)]
        format: Format,
    },
    /// Print shell completions
    #[command(after_help = "Examples:\n  netd completions bash > /usr/share/bash-completion/completions/netd")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the man pages
    #[command(after_help = "Examples:\n  netd man /usr/local/share/man/man1")]
    Man {
        /// The directory; created if it does not exist
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}
