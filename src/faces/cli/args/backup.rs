//! The arguments of `netd backup` and `netd restore`.

use std::path::PathBuf;

use clap::Args;

use super::Format;

/// `netd backup`.
#[derive(Debug, Args)]
#[command(after_help = "\
Containers and reservations end with the boot and are not part of it. A file that is there is
replaced once the new one is complete.

Examples:
  netd backup /var/backups/netd.json
  netd backup - | ssh other netd restore -")]
pub struct BackupArgs {
    /// The file, or - for standard output
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `netd restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
A network or a service that is there as the backup has it stays as it is. If one is there
otherwise, or a name, a subnet, an address or a port is taken, nothing is changed.

Examples:
  netd restore /var/backups/netd.json")]
pub struct RestoreArgs {
    /// The file, or - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Output format
    #[command(flatten)]
    pub format: Format,
}
