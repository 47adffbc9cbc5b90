//! The arguments of the daemon, and of the verb that does its work without it.

use std::path::PathBuf;

use clap::Args;

use super::{DryRun, Format};

/// `netd daemon`.
#[derive(Debug, Default, Args)]
#[command(after_help = "\
It works in the network namespace it is started in, logs to stderr, and leaves networks and
traffic standing when it stops. When it is ready it tells systemd, and `netd status` says so.

Examples:
  netd daemon
  netd daemon --socket /tmp/n/netd.sock --state-dir /tmp/n/state --runtime-dir /tmp/n/run")]
pub struct Daemon {
    /// Its configuration
    #[command(flatten)]
    pub config: DaemonArgs,
    /// Make a missing or exchanged netd.redb from the copy that the runtime directory has of this boot
    #[arg(long)]
    pub rebuild: bool,
}

/// The flags that are part of the daemon's configuration.
#[derive(Debug, Default, Args)]
pub struct DaemonArgs {
    /// Configuration file [default: /etc/netd/netd.toml, where it exists]
    #[arg(long, env = "NETD_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The directory of networks, kept across reboots [default: /var/lib/netd]
    #[arg(long, env = "NETD_STATE_DIR", hide_env_values = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The directory of endpoints, valid until the next boot [default: /run/netd]
    #[arg(long, env = "NETD_RUNTIME_DIR", hide_env_values = true, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,
    /// Log filter: error, warn, info, debug or trace, or TARGET=LEVEL,… [default: info]
    #[arg(long, env = "NETD_LOG", hide_env_values = true, value_name = "FILTER")]
    pub log: Option<String>,
}

/// `netd teardown`.
#[derive(Debug, Default, Args)]
#[command(after_help = "\
Nothing else removes what netd made: stopping netd leaves networks and traffic as they are.
A running daemon removes it and ends; without one, this does, as root. Forwarding stays on, since
other programs may need it. What is there already is no error, so it can be repeated.

Examples:
  netd teardown --dry-run
  netd teardown
  netd teardown --yes")]
pub struct TeardownArgs {
    /// Do not ask; needed unless a person answers on a terminal
    #[arg(long, short)]
    pub yes: bool,
    /// Dry run
    #[command(flatten)]
    pub dry_run: DryRun,
    /// Output format
    #[command(flatten)]
    pub format: Format,
    /// The flags that the daemon was started with, for when none runs
    #[command(flatten)]
    pub daemon: DaemonArgs,
}
