//! The command line as data: verbs, flags, and the examples that their help shows. Completions and man pages are
//! generated from here.

mod backup;
mod daemon;
mod dns;
mod endpoint;
mod port;
mod reservation;
mod values;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::api::v1;
use crate::model::address::Subnet;
use crate::model::names::{NetworkName, ReservationId};
use crate::model::network::HostAccess;
use crate::model::upstream::Upstream;
pub use backup::{BackupArgs, RestoreArgs};
pub use daemon::{Daemon, DaemonArgs, TeardownArgs};
pub use dns::{DnsVerb, LogVerb};
pub use endpoint::{ConnectArgs, EndpointArgs, RunArgs};
pub use port::{ChangePortArgs, PortArgs, PortVerb};
pub use reservation::{ReservationVerb, ReserveArgs};
use values::checked;

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

/// The output format of verbs that read.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Format {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
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
    Connect(ConnectArgs),
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
    /// Run a command in a fresh network namespace on a network
    Run(RunArgs),
    /// List containers: networks, addresses, published ports
    #[command(after_help = "Examples:\n  netd ps\n  netd ps --json")]
    Ps {
        /// Output format
        #[command(flatten)]
        format: Format,
    },
    /// List the published ports of a container, and the hosts that can reach them; publish further ones
    Port(PortArgs),
    /// Show everything about containers or networks
    #[command(after_help = "Examples:\n  netd inspect web\n  netd inspect web net1 --json")]
    Inspect {
        /// Names, ids or beginnings of ids
        #[arg(required = true, value_name = "NAME", value_parser = v1::container_reference)]
        names: Vec<String>,
        /// Output format
        #[command(flatten)]
        format: Format,
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
    #[command(after_help = "Examples:\n  netd events\n  netd events --json | jq .message")]
    Events {
        /// Output format
        #[command(flatten)]
        format: Format,
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
    /// Back up the definitions: networks, and the addresses that they keep for names
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
  netd.alias=NAME,…          netd.expose=PORT,…    netd.dns=SERVER,…
  netd.ip=IP                 netd.ip6=IP           netd.mac=MAC       netd.ifname=NAME
  netd.NETWORK.KEY=VALUE     on that network only: publish, alias, expose, dns, ip, ip6, mac, ifname
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

/// `netd network`.
#[derive(Debug, Subcommand)]
pub enum NetworkVerb {
    /// Create a network
    Create(Box<CreateArgs>),
    /// List networks
    #[command(alias = "list", after_help = "Examples:\n  netd network ls")]
    Ls {
        /// Output format
        #[command(flatten)]
        format: Format,
    },
    /// Show everything about networks
    #[command(after_help = "Examples:\n  netd network inspect net1\n  netd network inspect net1 --json")]
    Inspect {
        /// Names or ids
        #[arg(required = true, value_name = "NAME", value_parser = v1::network_reference)]
        names: Vec<String>,
        /// Output format
        #[command(flatten)]
        format: Format,
    },
    /// Remove networks without containers and reservations
    #[command(alias = "remove", after_help = "Examples:\n  netd network rm net1 net2")]
    Rm {
        /// Names or ids
        #[arg(required = true, value_name = "NAME", value_parser = v1::network_reference)]
        names: Vec<String>,
        /// Dry run
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Remove every network without containers and reservations
    #[command(after_help = "Examples:\n  netd network prune\n  netd network prune --dry-run")]
    Prune {
        /// Dry run
        #[command(flatten)]
        dry_run: DryRun,
        /// Output format
        #[command(flatten)]
        format: Format,
    },
}

/// `netd network create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Options of the bridge driver (-o), also under Docker's names:
  bridge=NAME       com.docker.network.bridge.name
  mtu=BYTES         com.docker.network.driver.mtu
  icc=BOOL          com.docker.network.bridge.enable_icc
  masquerade=BOOL   com.docker.network.bridge.enable_ip_masquerade
  gateway_mode=nat|isolated   com.docker.network.bridge.gateway_mode_ipv4 and _ipv6; isolated: the
                    host has no address on the network (needs --internal)
Options of every network:
  dns.listen=auto|gateway|container   where the name service listens: at the gateway, or inside
                    each container; auto: at the gateway wherever containers can reach it there
  dns.servers=SERVER,…   as --dns
  sticky=BOOL       as --sticky

Examples:
  netd network create net1
  netd network create net2 --subnet 10.7.0.0/24 --gateway 10.7.0.254 --ipv6
  netd network create quiet --internal --label team=red -o bridge=br-quiet
  netd network create lab --dns 9.9.9.9 --dns tls://1.1.1.1#one.one.one.one --host-access ports")]
pub struct CreateArgs {
    /// The network's name
    #[arg(value_parser = checked::<NetworkName>)]
    pub name: String,
    /// The driver
    #[arg(long, short, default_value = "bridge", value_parser = values::driver)]
    pub driver: String,
    /// A subnet; repeat for more [default: one from the pools]
    #[arg(long, value_name = "CIDR", value_parser = checked::<Subnet>)]
    pub subnet: Vec<String>,
    /// The gateway of one of the subnets [default: its first address]
    #[arg(long, value_name = "IP", value_parser = v1::gateway)]
    pub gateway: Vec<IpAddr>,
    /// The range of automatic addresses within a subnet
    #[arg(long, value_name = "CIDR", value_parser = checked::<Subnet>)]
    pub ip_range: Vec<String>,
    /// Enable IPv6; without an IPv6 subnet, a random one is used
    #[arg(long)]
    pub ipv6: bool,
    /// No access to or from other networks and hosts
    #[arg(long)]
    pub internal: bool,
    /// Isolate its containers from each other
    #[arg(long)]
    pub no_icc: bool,
    /// Do not masquerade: outgoing traffic keeps the container's address
    #[arg(long)]
    pub no_masquerade: bool,
    /// Bytes, 68 (with IPv6 1280) to 65535 [default: the uplink's]
    #[arg(long, value_name = "N", value_parser = values::mtu)]
    pub mtu: Option<u32>,
    /// An upstream for external names: `IP[:PORT]`, `tls://IP[:PORT][#NAME]` or `https://IP[:PORT][/PATH][#NAME]`;
    /// repeat for more [default: those of the daemon]
    #[arg(long, value_name = "SERVER", value_delimiter = ',')]
    pub dns: Vec<Upstream>,
    /// What its containers may reach on the host, besides the name service: none, published ports, or all [default:
    /// none with --internal, else all]
    #[arg(long, value_name = "none|ports|all", value_parser = checked::<HostAccess>)]
    pub host_access: Option<String>,
    /// Keep each container's address for its name: it gets the same address again if that is free
    #[arg(long)]
    pub sticky: bool,
    /// A label; repeat for more
    #[arg(long, value_name = "K=V", value_parser = values::label)]
    pub label: Vec<(String, String)>,
    /// An option of the network or its driver; repeat for more
    #[arg(short = 'o', long = "opt", value_name = "KEY=VALUE", value_parser = values::option)]
    pub option: Vec<(String, String)>,
    /// Dry run
    #[command(flatten)]
    pub dry_run: DryRun,
    /// Output format
    #[command(flatten)]
    pub format: Format,
}
