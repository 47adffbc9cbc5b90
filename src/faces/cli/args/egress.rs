//! `netd egress`.

use clap::Subcommand;

use super::Format;
use crate::api::v1;

/// `netd egress`.
#[derive(Debug, Subcommand)]
pub enum EgressVerb {
    /// Show what a container has asked for and what it has been denied
    ///
    /// Of containers that were connected with --egress or --egress-allow, or whose network was created with one of them. The
    /// log begins with the daemon; denied packets are counted every 10 s.
    #[command(after_help = "\
VERDICT:
  allowed   the name is allowed: its addresses were opened before the answer left
  open      nothing is denied to the container
  refused   the name is not allowed: no name server was asked
  failed    its addresses could not be opened: the container got no answer
  denied    packets to this destination were dropped

Examples:
  netd egress log web
  netd egress log web --as-allow    one allowance for each line, to be chosen from")]
    Log {
        /// Name, id or beginning of the id
        #[arg(value_parser = v1::container_reference)]
        container: String,
        /// Print what --egress-allow would have to be given
        #[arg(long, conflicts_with = "json")]
        as_allow: bool,
        /// Output format
        #[command(flatten)]
        format: Format,
    },
}
