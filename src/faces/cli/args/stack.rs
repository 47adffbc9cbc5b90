//! `netd stack`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::output::templates;
use super::{Listed, Output};
use crate::faces::cli::filter::{self, Filter};

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
    #[command(
        alias = "list",
        after_help = templates!(
            "  netd stack ls\n  netd stack ls --format '{{.Name}}: {{.Services}}'",
            "Fields of a TEMPLATE: .Name .Services"
        )
    )]
    Ls {
        /// How to print
        #[command(flatten)]
        output: Output,
    },
    /// List the tasks of a stack, and the members of its services without an image
    #[command(after_help = templates!(
        "  netd stack ps lab\n  netd stack ps lab -q -f desired-state=running\n  \
         netd stack ps lab --format '{{.Name}} {{.CurrentState}} {{.Error}}'",
        "Filters: desired-state (running, shutdown, accepted, remove), id, name, node. Of the values of one\n\
key one must fit, of different keys all. id, name and node fit a part; ^ and $ tie it to the\n\
beginning and the end.\n\n\
Fields of a TEMPLATE: .ID .Name .Image .Node .DesiredState .CurrentState .Since .Error .Ports"
    ))]
    Ps {
        /// The stack
        name: String,
        /// Only tasks that fit; repeat for more
        #[arg(long, short = 'f', value_name = "KEY=VALUE", value_parser = filter::stack_task)]
        filter: Vec<Filter>,
        /// Where the Engine API is
        #[command(flatten)]
        socket: EngineSocket,
        /// How to print
        #[command(flatten)]
        listed: Listed,
    },
    /// List the services of a stack
    #[command(after_help = templates!(
        "  netd stack services lab\n  netd stack services lab -q -f mode=global\n  \
         netd stack services lab --format 'table {{.Name}}\\t{{.Replicas}}'",
        "Filters: id, label (KEY or KEY=VALUE), mode (replicated, global; without an image: vip, dns), name,\n\
network (name). Of the values of one key one must fit, of different keys and of labels all. id and\n\
name fit a part; ^ and $ tie it to the beginning and the end.\n\n\
Fields of a TEMPLATE: .ID .Name .Mode .Replicas .Image .Ports .Labels .Label \"KEY\""
    ))]
    Services {
        /// The stack
        name: String,
        /// Only services that fit; repeat for more
        #[arg(long, short = 'f', value_name = "KEY=VALUE", value_parser = filter::stack_service)]
        filter: Vec<Filter>,
        /// Where the Engine API is
        #[command(flatten)]
        socket: EngineSocket,
        /// How to print
        #[command(flatten)]
        listed: Listed,
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
