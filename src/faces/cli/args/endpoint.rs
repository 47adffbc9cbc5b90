//! `connect` and `run`: what makes an endpoint.

use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use clap::Args;

use super::values::{checked, label, process};
use super::{DryRun, Format};
use crate::api::v1;
use crate::model::address::Mac;
use crate::model::egress::{Allowance, Stance};
use crate::model::exposure::Exposure;
use crate::model::names::{Alias, ContainerName, IfName, ReservationId};
use crate::model::publication::PortSpec;
use crate::model::upstream::Upstream;

/// `netd connect`.
#[derive(Debug, Args)]
#[command(after_help = "\
CONTAINER is, with --netns or --pid, the name that the container gets. Otherwise it is looked for
among the containers netd knows, the named network namespaces (ip netns), and the running
containers of Docker and Podman, in this order.

SPEC is [[HOST_IP:][HOST_PORT[-END]]:]CONTAINER_PORT[-END][/tcp|udp|sctp], IPv6 in brackets.
Without a host port a free one is chosen and printed. Docker's long form is understood as well:
published=8080,target=80,protocol=tcp,mode=host. With publish=strict in it, the host's own firewall
decides who reaches the port, with publish=open netd does.

Examples:
  netd connect net1 web -p 4000:80
  netd connect net1 db --pid 4711 --ip 10.77.0.9 --alias postgres
  netd connect net1 proxy --alias '*.app' --expose 8080=http --label tier=front
  netd connect net1 dns --netns /run/netns/dns -p 127.0.0.1:5300:53/udp
  netd connect net1 web -p 4000:80 --dry-run
  netd connect net1 web --reservation web      as `netd reservation create` reserved it")]
pub struct ConnectArgs {
    /// Name or id of the network
    #[arg(value_parser = v1::network_reference)]
    pub network: String,
    /// The container
    #[arg(value_parser = v1::container_reference)]
    pub container: String,
    /// Ports, names, address
    #[command(flatten)]
    pub endpoint: EndpointArgs,
    /// Take the place of this reservation, with its addresses, MAC address and ports
    #[arg(long, value_name = "ID", conflicts_with_all = ["ip", "ip6", "mac", "ports"])]
    pub reservation: Option<ReservationId>,
    /// A fixed IPv6 address
    #[arg(long, value_name = "IP", value_parser = v1::ipv6)]
    pub ip6: Option<Ipv6Addr>,
    /// A fixed MAC address
    #[arg(long)]
    pub mac: Option<Mac>,
    /// The interface in the container [default: the first free of eth0, eth1, …; of nd0, nd1, … in a container of
    /// another engine]
    #[arg(long, value_name = "NAME")]
    pub ifname: Option<IfName>,
    /// The path of its network namespace
    #[arg(long, value_name = "PATH", conflicts_with = "pid")]
    pub netns: Option<PathBuf>,
    /// The id of a process in its network namespace
    #[arg(long, value_parser = process)]
    pub pid: Option<u32>,
    /// Dry run
    #[command(flatten)]
    pub dry_run: DryRun,
    /// Output format
    #[command(flatten)]
    pub format: Format,
}

/// The options that `netd connect` and `netd run` share.
#[derive(Debug, Args)]
pub struct EndpointArgs {
    /// Publish a port; repeat for more
    #[arg(short = 'p', long = "publish", value_name = "SPEC")]
    pub ports: Vec<PortSpec>,
    /// A further DNS name on this network, or `*.NAME` for all names below NAME; repeat for more
    #[arg(long = "alias", value_name = "NAME")]
    pub aliases: Vec<Alias>,
    /// A fixed IPv4 address
    #[arg(long, value_name = "IP", value_parser = v1::ipv4)]
    pub ip: Option<Ipv4Addr>,
    /// A port that it serves without publishing it, announced in DNS (SRV), as in 8080/tcp=http; repeat for more
    #[arg(long, value_name = "PORT")]
    pub expose: Vec<Exposure>,
    /// A label, announced in DNS (TXT); repeat for more
    #[arg(long, value_name = "K=V", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// Let it send from addresses that are not its own, as routers and DHCP servers do
    #[arg(long)]
    pub trusted: bool,
    /// An upstream for external names, asked before those of the network; as in `netd network create`; repeat for more
    #[arg(long, value_name = "SERVER", value_delimiter = ',')]
    pub dns: Vec<Upstream>,
    /// Whether anything but what is allowed may be sent to the outside and to the host [default: as the
    /// network says]
    #[arg(long, value_name = "open|deny")]
    pub egress: Option<Stance>,
    /// What may be sent all the same: NAME, *.NAME, an address or a prefix, each with a port if
    /// wanted, as in NAME:443 or NAME:8000-8015/udp; repeat for more; alone it means --egress deny
    #[arg(long, value_name = "WHOM", value_delimiter = ',')]
    pub egress_allow: Vec<Allowance>,
}

/// `netd run`.
#[derive(Debug, Args)]
#[command(after_help = "\
The command has a network namespace of its own, and a mount namespace with its resolv.conf and
hosts. Signals are passed on to it, its exit status is passed back, and it is disconnected when
it ends.

Examples:
  netd run --network net1 --name web -p 4000:80 -- busybox httpd -f -p 80
  netd run --network net1 -- curl http://web/")]
pub struct RunArgs {
    /// The container's name [default: run- and eight random digits]
    #[arg(long, value_parser = checked::<ContainerName>)]
    pub name: Option<String>,
    /// Name or id of the network [default: the network default, created on first use]
    #[arg(long, value_parser = v1::network_reference)]
    pub network: Option<String>,
    /// Ports, names, address
    #[command(flatten)]
    pub endpoint: EndpointArgs,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}
