//! Arguments that are not a command: one clear line, then the usage. Also where clap's help and version come out.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ErrorKind};

use super::args::Cli;

/// Why there is nothing to carry out: wrong usage, or help was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Misuse {
    /// What to print; ends with a line end.
    pub text: String,
    /// 2 for wrong usage, 0 where the text is what was asked for (and goes to stdout).
    pub code: u8,
}

impl Misuse {
    pub(super) fn new(error: &clap::Error, args: &[OsString]) -> Self {
        if !error.use_stderr() {
            return Self { text: error.render().to_string(), code: 0 };
        }
        Self { text: explain(error, &verb(args)), code: 2 }
    }

    /// Prints it where it belongs.
    pub fn report(&self) -> ExitCode {
        // A reader that has gone does not want it any more.
        let _ = match self.code {
            0 => std::io::stdout().write_all(self.text.as_bytes()),
            _ => std::io::stderr().write_all(self.text.as_bytes()),
        };
        ExitCode::from(self.code)
    }
}

/// The verb that was meant, as far as the arguments tell ("network create").
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
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return format!("{prefix}: a command is missing: see `{help}`\n\n{}", error.render());
    }
    // A value that our own parsers refused carries their words; clap's frame around them only repeats the value.
    let source = std::error::Error::source(error);
    if let (Some(source), Some(flag)) = (source, error.get(ContextKind::InvalidArg)) {
        return format!("{prefix}: {}: {}\n", flag.to_string().trim_end_matches("..."), one_line(&source.to_string()));
    }
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n").map(str::trim_end).filter(|paragraph| !paragraph.trim().is_empty());
    let what = one_line(paragraphs.next().unwrap_or_default().trim_start_matches("error: "));
    let mut text = format!("{prefix}: {what}: see `{help}`\n");
    for paragraph in paragraphs.filter(|paragraph| !paragraph.starts_with("For more information")) {
        text.push_str(paragraph.trim_start_matches('\n'));
        text.push('\n');
    }
    text
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
