//! `netd policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{DryRun, Format};
use crate::api::v1;

/// `netd policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyVerb {
    /// Let flows pass
    #[command(after_help = SUBJECTS)]
    Allow(PolicyArgs),
    /// Let flows not pass, whatever else allows them
    #[command(after_help = SUBJECTS)]
    Deny(PolicyArgs),
    /// Let nothing reach the containers of a network unless a policy allows it
    #[command(
        after_help = "Examples:\n  netd policy default-deny net1\n  netd policy allow web db:5432\n  netd policy allow outside web:80"
    )]
    DefaultDeny {
        /// The network
        network: String,
        /// Dry run
        #[command(flatten)]
        dry_run: DryRun,
        /// Output format
        #[command(flatten)]
        format: Format,
    },
    /// List policies, whom they are about now, and how many packets they have denied
    #[command(alias = "list", after_help = "Examples:\n  netd policy ls\n  netd policy ls --json")]
    Ls {
        /// Output format
        #[command(flatten)]
        format: Format,
    },
    /// Remove policies
    #[command(alias = "remove", after_help = "Examples:\n  netd policy rm 3\n  netd policy rm 3 4 --dry-run")]
    Rm {
        /// Their ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<u64>,
        /// Dry run
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Show whether one reaches another, and what decides
    #[command(after_help = "\
Exit status: 0 if all that FROM stands for reach all that TO stands for, 1 if not.

Examples:
  netd policy test web db:5432
  netd policy test outside web:80 --json")]
    Test {
        /// Who would begin the flow
        from: String,
        /// To whom, with :PORT for a port
        to: String,
        /// Output format
        #[command(flatten)]
        format: Format,
    },
    /// Make the policies be exactly those of a YAML file
    #[command(after_help = "\
The file is applied whole or not at all; policies that are not in it are removed. `-` is standard input.

  policies:
    - default-deny net1
    - allow web db:5432
    - deny any host:22

Examples:
  netd policy apply policies.yaml --dry-run
  netd policy apply policies.yaml")]
    Apply {
        /// The file
        file: PathBuf,
        /// Dry run
        #[command(flatten)]
        dry_run: DryRun,
        /// Output format
        #[command(flatten)]
        format: Format,
    },
}

/// `netd policy allow` and `netd policy deny`.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// Who begins the flows
    pub from: String,
    /// To whom, and to which of its ports: TO[:PORT[-END][/PROTOCOL]]
    pub to: String,
    /// Dry run
    #[command(flatten)]
    pub dry_run: DryRun,
    /// Output format
    #[command(flatten)]
    pub format: Format,
}

/// What FROM and TO can be.
const SUBJECTS: &str = "\
FROM and TO:
  NAME, NAME.NETWORK     containers with that name or alias, members of a service with it
  service:NAME           members of the service
  network:NAME           the containers of a network; a NAME that only a network has is one too
  label:KEY[=VALUE]      containers with the label; KEY=VALUE is one too
  host                   this host
  outside                who is neither this host nor a container of netd
  any                    everybody

A deny stands before every allow. Ports are those of the receiver, TCP unless another protocol is given.
Containers need not be there yet: a policy holds from the first packet of those that come. What may
pass on networks without policies stays as it is.

Examples:
  netd policy allow web db:5432
  netd policy deny label:tier=test network:prod
  netd policy deny web outside --dry-run";

impl PolicyVerb {
    /// Checks that it is a network's name.
    pub(in crate::faces::cli) fn network(text: &str) -> Result<String, crate::model::Invalid> {
        v1::network_reference(text)
    }
}
