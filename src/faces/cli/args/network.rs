//! `netd network`.

use std::net::IpAddr;

use clap::{Args, Subcommand};

use super::output::templates;
use super::values::{self, checked};
use super::{DryRun, Format, Inspected, Listed};
use crate::api::v1;
use crate::faces::cli::filter::{self, Filter};
use crate::model::address::Subnet;
use crate::model::names::NetworkName;
use crate::model::network::HostAccess;
use crate::model::upstream::Upstream;

/// `netd network`.
#[derive(Debug, Subcommand)]
pub enum NetworkVerb {
    /// Create a network
    Create(Box<CreateArgs>),
    /// List networks
    #[command(
        alias = "list",
        after_help = templates!(
            "  netd network ls\n  netd network ls -q -f dangling=true\n  \
             netd network ls --format 'table {{.Name}}\\t{{.Driver}}\\t{{.Label \"team\"}}'",
            "Filters: dangling (true: without containers), driver, id, label (KEY or KEY=VALUE), name,\n\
scope (local), type (custom). Of the values of one key one must fit, of different keys and of\n\
labels all. id and name fit a part; ^ and $ tie it to the beginning and the end.\n\n\
Fields of a TEMPLATE: .ID .Name .Driver .Scope .IPv4 .IPv6 .Internal .Labels .Label \"KEY\"\n\
.CreatedAt .Bridge .Subnets"
        )
    )]
    Ls {
        /// Only networks that fit; repeat for more
        #[arg(long, short = 'f', value_name = "KEY=VALUE", value_parser = filter::network)]
        filter: Vec<Filter>,
        /// How to print
        #[command(flatten)]
        listed: Listed,
    },
    /// Show everything about networks
    #[command(after_help = templates!(
        "  netd network inspect net1\n  netd network inspect net1 --json\n  \
         netd network inspect net1 --format '{{(index .Subnets 0).Subnet}}'",
        "A TEMPLATE has the fields of --json, without regard to case and underscores:\n\
.host_access, .HostAccess."
    ))]
    Inspect {
        /// Names or ids
        #[arg(required = true, value_name = "NAME", value_parser = v1::network_reference)]
        names: Vec<String>,
        /// How to print
        #[command(flatten)]
        output: Inspected,
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
