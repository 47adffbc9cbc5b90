//! `completions` and `man`: generated from the definitions of the command line.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Session;
use super::args::Cli;
use super::output::Failure;

pub(super) fn completions(session: &mut Session<'_>, shell: Shell) -> Result<(), Failure> {
    // Through a buffer: the generator does not report write errors.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "netd", &mut script);
    Ok(session.out.write_all(&script)?)
}

pub(super) fn man(directory: &Path) -> Result<(), Failure> {
    let attempt = format!("write man pages to {}", directory.display());
    std::fs::create_dir_all(directory).map_err(|error| Failure::of(&attempt, error))?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(|error| Failure::of(&attempt, error))
}
