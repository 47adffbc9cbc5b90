//! `netd stack`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Format;

/// Where netd's Engine API is.
#[derive(Debug, Clone, Default, Args)]
pub struct EngineSocket {
    /// The socket of netd's Engine API [default: docker.sock beside the daemon's socket]
    #[arg(long, env = "NETD_DOCKER_SOCKET", hide_env_values = true, value_name = "PATH")]
    pub docker_socket: Option<PathBuf>,
}

/// `netd stack`.
#[derive(Debug, Subcommand)]
pub enum StackVerb {
    /// Make the networks and services of a compose file, or make them as it says
    Deploy(DeployArgs),
    /// List stacks
    #[command(alias = "list", after_help = "Examples:\n  netd stack ls")]
    Ls {
        /// Output format
        #[command(flatten)]
        format: Format,
    },
    /// List the tasks of a stack, and the members of its services without an image
    #[command(after_help = "Examples:\n  netd stack ps lab")]
    Ps {
        /// The stack
        name: String,
        /// Where the Engine API is
        #[command(flatten)]
        socket: EngineSocket,
        /// Output format
        #[command(flatten)]
        format: Format,
    },
    /// List the services of a stack
    #[command(after_help = "Examples:\n  netd stack services lab")]
    Services {
        /// The stack
        name: String,
        /// Where the Engine API is
        #[command(flatten)]
        socket: EngineSocket,
        /// Output format
        #[command(flatten)]
        format: Format,
    },
    /// Remove stacks: their services, then their networks
    #[command(alias = "remove", after_help = "Examples:\n  netd stack rm lab")]
    Rm {
        /// The stacks
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Where the Engine API is
        #[command(flatten)]
        socket: EngineSocket,
    },
}

/// `netd stack deploy`.
#[derive(Debug, Args)]
#[command(after_help = "\
FILE is a compose file of version 3. The engine named in netd.toml runs the services that have an
image. A service without one is networking only: its label netd.select selects the members, and it
needs no engine.

Examples:
  netd stack deploy -c compose.yml lab
  netd stack deploy -c - lab < compose.yml
  netd stack deploy -c compose.yml --prune lab   remove services that the file no longer has")]
pub struct DeployArgs {
    /// The compose file; - is standard input
    #[arg(long, short = 'c', value_name = "FILE")]
    pub compose_file: PathBuf,
    /// Remove services that the file no longer has
    #[arg(long)]
    pub prune: bool,
    /// The stack
    pub name: String,
    /// Where the Engine API is
    #[command(flatten)]
    pub socket: EngineSocket,
}
