//! Wrong usage: one clear line that names the help to read. It also handles clap's help and version.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::args::Cli;

/// Why there is no command to carry out: wrong usage, or a request for help.
#[derive(Debug, PartialEq, Eq)]
pub struct Misuse {
    /// For stdout: the requested text, or the help if there were no arguments at all.
    pub help: String,
    /// For stderr: one line, if the usage is wrong.
    pub text: String,
    /// 2 for wrong usage, 0 for requested help.
    pub code: u8,
}

impl Misuse {
    pub(super) fn new(error: &clap::Error, args: &[OsString]) -> Self {
        if !error.use_stderr() {
            return Self { help: error.render().to_string(), text: String::new(), code: 0 };
        }
        let help = if args.len() <= 1 { Cli::command().render_help().to_string() } else { String::new() };
        Self { help, text: explain(error, &verb(args)), code: 2 }
    }

    /// Prints the texts and returns the exit code.
    pub fn report(&self) -> ExitCode {
        // Ignore write errors: the reader may have gone.
        let _ = std::io::stdout().write_all(self.help.as_bytes());
        let _ = std::io::stderr().write_all(self.text.as_bytes());
        ExitCode::from(self.code)
    }
}

/// The verb as far as the arguments determine it ("network create").
fn verb(args: &[OsString]) -> String {
    let mut command = Cli::command();
    let mut path = Vec::new();
    let mut args = args.iter().skip(1).map(|arg| arg.to_string_lossy());
    while let Some(arg) = args.next() {
        if arg == "--socket" {
            args.next();
        } else if !arg.starts_with('-') {
            let Some(found) = command.find_subcommand(arg.as_ref()) else { break };
            path.push(found.get_name().to_owned());
            command = found.clone();
        }
    }
    path.join(" ")
}

fn explain(error: &clap::Error, verb: &str) -> String {
    let prefix = if verb.is_empty() { "netd".to_owned() } else { format!("netd: {verb}") };
    let help = if verb.is_empty() { "netd -h".to_owned() } else { format!("netd {verb} -h") };
    let what = match error.kind() {
        // The latter occurs if the environment provides an argument.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            "a command is missing".to_owned()
        }
        _ => what(error),
    };
    format!("{prefix}: {what}: see `{help}`\n")
}

/// The error in one line, without final punctuation.
fn what(error: &clap::Error) -> String {
    // If a parser of netd rejected a value, use its message; clap's message around it only repeats the value.
    let source = std::error::Error::source(error);
    if let (Some(source), Some(flag)) = (source, error.get(ContextKind::InvalidArg)) {
        return format!("{}: {}", flag.to_string().trim_end_matches("..."), one_line(&source.to_string()));
    }
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let what = one_line(first.trim_start_matches("error: "));
    match maybe(error) {
        Some(meant) => format!("{what}, maybe {meant}"),
        None => what,
    }
}

/// A suggestion: something that is spelled similarly, or the command to which the flag belongs.
fn maybe(error: &clap::Error) -> Option<String> {
    for kind in [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue] {
        match error.get(kind) {
            Some(ContextValue::String(one)) => return Some(format!("`{one}`")),
            Some(ContextValue::Strings(some)) => return some.first().map(|one| format!("`{one}`")),
            _ => {}
        }
    }
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    let flag = flag.strip_prefix("--")?;
    let has = |command: &&clap::Command| command.get_arguments().any(|argument| argument.get_long() == Some(flag));
    let cli = Cli::command();
    let owners: Vec<&str> = cli.get_subcommands().filter(has).map(clap::Command::get_name).collect();
    match owners.as_slice() {
        [one] => Some(format!("`netd {one} --{flag}`")),
        _ => None,
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
