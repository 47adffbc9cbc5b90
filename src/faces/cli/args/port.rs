//! `netd port`.

use clap::{Args, Subcommand};

use super::output::templates;
use super::{DryRun, Format, Output};
use crate::api::v1;
use crate::model::publication::PortSpec;

/// `netd port`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = templates!(
        "  netd port web
  netd port web --json
  netd port web --format '{{.ContainerPort}}/{{.Protocol}} {{.HostPort}}'
  netd port add web 4000:80
  netd port rm web 4000:80
  netd port -- add                      of a container with the name add",
        "A TEMPLATE has the fields of --json, without regard to case and underscores:\n\
.host_port, .HostPort."
    )
)]
pub struct PortArgs {
    /// Name, id or beginning of the id
    #[arg(required = true, value_parser = v1::container_reference)]
    pub container: Option<String>,
    /// How to print
    #[command(flatten)]
    pub output: Output,
    /// What to change
    #[command(subcommand)]
    pub verb: Option<PortVerb>,
}

/// What changes a container's ports.
#[derive(Debug, Subcommand)]
pub enum PortVerb {
    /// Publish a port of a connected container; other connections go on
    #[command(after_help = "\
SPEC is that of `netd connect`. Without a host port a free one is chosen and printed. Ports lead to
the container's address on the network of its default route.

Examples:
  netd port add web 4000:80
  netd port add web 127.0.0.1:5300:53/udp
  netd port add web 80 --json
  netd port add web 4000:80 --network net1 --dry-run")]
    Add {
        /// The container and the port
        #[command(flatten)]
        port: ChangePortArgs,
        /// Output format
        #[command(flatten)]
        format: Format,
    },
    /// Stop publishing a port of a connected container; its connections end
    #[command(
        alias = "remove",
        after_help = "\
What SPEC leaves out means any: 80 is the one port of the host that leads to port 80.

Examples:
  netd port rm web 4000:80
  netd port rm web 127.0.0.1:5300:53/udp
  netd port rm web 4000:80 --drain      existing connections stay
  netd port rm web 80 --network net1 --dry-run"
    )]
    Rm {
        /// The container and the port
        #[command(flatten)]
        port: ChangePortArgs,
        /// Let existing connections stay; new ones are refused
        #[arg(long)]
        drain: bool,
    },
}

/// A container and a port.
#[derive(Debug, Args)]
pub struct ChangePortArgs {
    /// Name, id or beginning of the id of the container
    #[arg(value_parser = v1::container_reference)]
    pub container: String,
    /// The port
    #[arg(value_name = "SPEC")]
    pub port: PortSpec,
    /// One of its networks [default: to add, that of its default route; to remove, any]
    #[arg(long, value_name = "NETWORK", value_parser = v1::network_reference)]
    pub network: Option<String>,
    /// Dry run
    #[command(flatten)]
    pub dry_run: DryRun,
}
