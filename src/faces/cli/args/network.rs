//! `netd network`.

use std::net::IpAddr;

use clap::{Args, Subcommand};

use super::output::templates;
use super::values::{self, checked};
use super::{DryRun, Format, Inspected, Listed};
use crate::api::v1;
use crate::faces::cli::filter::{self, Filter};
use crate::model::address::Subnet;
use crate::model::egress::{Allowance, Stance};
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
    /// Give a network other subnets; every address keeps its place, and open connections end
    #[command(after_help = "\
Without --subnet, netd chooses other subnets for those that overlap with the host's routes and
addresses (`netd status` names them).

Examples:
  netd network renumber net1
  netd network renumber net1 --subnet 10.201.0.0/24")]
    Renumber {
        /// Name or id
        #[arg(value_name = "NETWORK", value_parser = v1::network_reference)]
        name: String,
        /// A subnet that takes the place of one as long; repeat for more
        #[arg(long, value_name = "PREFIX")]
        subnet: Vec<String>,
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
  host_ipv4=IP, host_ipv6=IP  com.docker.network.host_ipv4 and _ipv6; an address of the host from
                    which its containers are seen, instead of masquerading
  gateway_mode=nat|nat-unprotected|routed|isolated   com.docker.network.bridge.gateway_mode_ipv4
                    and _ipv6; nat-unprotected: containers are reached at their own addresses;
                    routed: so, at published ports only, and nothing is translated; isolated: the
                    host has no address on the network (needs --internal)
  mode=unmanaged    bridge=NAME is the host's: netd neither makes nor changes it
  vlan=ID           with mode=unmanaged: the VLAN of that bridge that its containers are kept in
Options of macvlan and ipvlan:
  parent=INTERFACE  the interface of the host that it is to be on (needed)
  macvlan_mode=bridge|private|vepa|passthru, ipvlan_mode=l2|l3|l3s
  host_address=IP   with --host-access all: the host's address there
Options of every network:
  dns.listen=auto|gateway|container   where the name service listens: at the gateway, or inside
                    each container; auto: at the gateway wherever containers can reach it there
  dns.servers=SERVER,…   as --dns
  sticky=BOOL       as --sticky
  ipam=netd|dhcp    who gives addresses; dhcp: the DHCP server of the network that macvlan or the
                    host's bridge leads to [default: netd]
  publish=open|strict   who decides which packets reach published ports: netd, which lets all
                    through, or the host's own firewall [default: as netd.toml says]
  relay=mdns,ssdp   relays discovery (mDNS, SSDP) to and from the LAN
  relay_interfaces=NAME,…   over these interfaces or networks, and not over the default routes
  egress=STANCE     as --egress
  egress-allow=WHOM,…  as --egress-allow

Examples:
  netd network create net1
  netd network create net2 --subnet 10.7.0.0/24 --gateway 10.7.0.254 --ipv6
  netd network create quiet --internal --label team=red -o bridge=br-quiet
  netd network create lab --dns 9.9.9.9 --dns tls://1.1.1.1#one.one.one.one --host-access ports
  netd network create lan -d macvlan -o parent=eth0 --subnet 192.0.2.0/24 --ip-range 192.0.2.64/26
  netd network create home -o relay=mdns,ssdp
  netd network create lan -d macvlan -o parent=eth0 -o ipam=dhcp")]
pub struct CreateArgs {
    /// The network's name
    #[arg(value_parser = checked::<NetworkName>)]
    pub name: String,
    /// The driver: bridge, macvlan, ipvlan or none
    #[arg(long, short, default_value = "bridge", value_parser = values::driver)]
    pub driver: String,
    /// A subnet; repeat for more [default: one from the pools]
    #[arg(long, value_name = "CIDR", value_parser = checked::<Subnet>)]
    pub subnet: Vec<String>,
    /// The gateway of one of the subnets [default: its first address; with macvlan, ipvlan and mode=unmanaged none]
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
    /// none with --internal, macvlan and ipvlan, else all]
    #[arg(long, value_name = "none|ports|all", value_parser = checked::<HostAccess>)]
    pub host_access: Option<String>,
    /// Whether anything but what is allowed may be sent to the outside and to the host by its containers
    /// [default: open]
    #[arg(long, value_name = "open|deny")]
    pub egress: Option<Stance>,
    /// What may be sent all the same: NAME, *.NAME, an address or a prefix, each with a port if
    /// wanted, as in NAME:443 or NAME:8000-8015/udp; repeat for more; alone it means --egress deny
    #[arg(long, value_name = "WHOM", value_delimiter = ',')]
    pub egress_allow: Vec<Allowance>,
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
