//! `netd dns`.

use clap::Subcommand;

use super::Format;
use crate::api::v1;

/// `netd dns`.
#[derive(Debug, Subcommand)]
pub enum DnsVerb {
    /// Log the queries of containers: switch logging on or off, list logged containers, show entries
    #[command(
        subcommand,
        after_help = "\
The last entries of a container are kept until its log is switched off, the container goes, or
the daemon stops. They are also written to the daemon's log, with the target netd::dns.

Examples:
  netd dns log on web
  netd dns log show web --follow
  netd dns log off web"
    )]
    Log(LogVerb),
}

/// `netd dns log`.
#[derive(Debug, Subcommand)]
pub enum LogVerb {
    /// Log a container's queries from now on
    #[command(after_help = "Examples:\n  netd dns log on web")]
    On {
        /// Name, id or beginning of the id
        #[arg(value_parser = v1::container_reference)]
        container: String,
    },
    /// Stop logging a container's queries, and delete its entries
    #[command(after_help = "Examples:\n  netd dns log off web")]
    Off {
        /// Name, id or beginning of the id
        #[arg(value_parser = v1::container_reference)]
        container: String,
    },
    /// List the containers whose queries are logged
    #[command(alias = "list", after_help = "Examples:\n  netd dns log ls")]
    Ls {
        /// Output format
        #[command(flatten)]
        format: Format,
    },
    /// Show the last queries of a container and their replies
    #[command(after_help = "\
Examples:
  netd dns log show web
  netd dns log show web --follow                 and every further one
  netd dns log show web --follow --json | jq .   a JSON line each")]
    Show {
        /// Name, id or beginning of the id
        #[arg(value_parser = v1::container_reference)]
        container: String,
        /// Print further queries as they come, until logging is switched off
        #[arg(long, short)]
        follow: bool,
        /// Output format
        #[command(flatten)]
        format: Format,
    },
}
