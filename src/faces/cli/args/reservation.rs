//! `netd reservation`.

use std::net::{Ipv4Addr, Ipv6Addr};

use clap::{Args, Subcommand};

use super::{DryRun, Format};
use crate::api::v1;
use crate::model::address::Mac;
use crate::model::names::ReservationId;
use crate::model::publication::PortSpec;

/// `netd reservation`.
#[derive(Debug, Subcommand)]
pub enum ReservationVerb {
    /// Reserve addresses, a MAC address and ports on a network
    Create(ReserveArgs),
    /// List reservations
    #[command(
        alias = "list",
        after_help = "Examples:\n  netd reservation ls\n  netd reservation ls --network net1 --json"
    )]
    Ls {
        /// Only those on this network, by name or id
        #[arg(long, value_name = "NETWORK", value_parser = v1::network_reference)]
        network: Option<String>,
        /// Output format
        #[command(flatten)]
        format: Format,
    },
    /// Release reservations
    #[command(
        alias = "remove",
        after_help = "Examples:\n  netd reservation rm web\n  netd reservation rm web db --dry-run"
    )]
    Rm {
        /// Their ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<ReservationId>,
        /// Dry run
        #[command(flatten)]
        dry_run: DryRun,
    },
}

/// `netd reservation create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nobody else gets what is reserved, and the host ports are held, until a container is connected
with the reservation, it is released, or the host boots.

SPEC is that of `netd connect`. Without a host port a free one is chosen and printed.

Examples:
  netd reservation create net1 web -p 4000:80
  netd connect net1 web --reservation web
  netd reservation create net1 db --ip 10.77.0.9 --mac 02:42:0a:4d:00:09 --dry-run")]
pub struct ReserveArgs {
    /// Name or id of the network
    #[arg(value_parser = v1::network_reference)]
    pub network: String,
    /// The id of the reservation, such as the name of the container to come
    pub id: ReservationId,
    /// A port to publish; repeat for more
    #[arg(short = 'p', long = "publish", value_name = "SPEC")]
    pub ports: Vec<PortSpec>,
    /// A fixed IPv4 address
    #[arg(long, value_name = "IP", value_parser = v1::ipv4)]
    pub ip: Option<Ipv4Addr>,
    /// A fixed IPv6 address
    #[arg(long, value_name = "IP", value_parser = v1::ipv6)]
    pub ip6: Option<Ipv6Addr>,
    /// A fixed MAC address
    #[arg(long)]
    pub mac: Option<Mac>,
    /// Dry run
    #[command(flatten)]
    pub dry_run: DryRun,
    /// Output format
    #[command(flatten)]
    pub format: Format,
}
