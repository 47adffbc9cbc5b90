//! The program `nft`, which loads whole tables.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use super::possible;
use crate::logic::firewall;
use crate::logic::firewall::guard::{Targets, text as guard_text};
use crate::logic::firewall::services;
use crate::model::host::element::{Element, Table};
use crate::os::descriptors;

/// What `nft -f` reads.
enum Input {
    Json(String),
    Text(String),
}

impl Input {
    /// The transaction that replaces a table, for each version of nft.
    fn of(table: Table, elements: &[Element]) -> Vec<Self> {
        match table {
            Table::Inet => vec![Self::inet(elements, true)],
            Table::Bridge => {
                [Targets::Named, Targets::Numbers].map(|targets| Self::Text(guard_text(elements, targets))).into()
            }
            Table::Services => vec![Self::Text(services::text(elements))],
        }
    }

    fn inet(elements: &[Element], hands_over: bool) -> Self {
        Self::Json(firewall::table(&elements.iter().cloned().collect(), hands_over).to_string())
    }
}

/// Replaces a table in one transaction. Returns false if this kernel cannot hand packets to netd, and the table therefore
/// lacks the rule that does.
pub(super) fn load(table: Table, elements: &[Element]) -> io::Result<bool> {
    match run_first(&Input::of(table, elements)) {
        Err(_) if table == Table::Inet && !possible::hands_over() => {
            run_first(&[Input::inet(elements, false)]).map(|()| false)
        }
        loaded => loaded.map(|()| true),
    }
}

/// Deletes a table, also one that is not there.
pub(super) fn delete(table: Table) -> io::Result<()> {
    run_nft(&Input::Text(format!("add {table}\ndelete {table}\n")))
}

/// Runs the first of these transactions that this version of nft understands.
fn run_first(inputs: &[Input]) -> io::Result<()> {
    let mut outcome = Ok(());
    for input in inputs {
        outcome = run_nft(input);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Runs `nft -f -`. The helper of the nftables crate would discard nft's stderr.
fn run_nft(input: &Input) -> io::Result<()> {
    let mut nft = Command::new("nft");
    let (options, input) = match input {
        Input::Json(json) => (["-j", "-f", "-"].as_slice(), json),
        Input::Text(text) => (["-f", "-"].as_slice(), text),
    };
    nft.args(options).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    descriptors::give_back(&mut nft);
    let mut nft = nft.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(error.kind(), "the program nft is not installed"),
        _ => error,
    })?;
    // nft reads all input before it writes anything, so neither waits for the other. If it exited early, the pipe is
    // closed; its own message is then more useful.
    let written = nft.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    let output = nft.wait_with_output()?;
    if !output.status.success() {
        let lines = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = lines.lines().map(str::trim).filter(|line| !line.is_empty()).take(3).collect();
        return Err(io::Error::other(format!("nft said: {}", lines.join(" / "))));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::throwaway::{in_netns, run};

    #[test]
    fn a_kernel_that_hands_no_packets_over_has_everything_else() {
        in_netns(|| {
            assert!(load(Table::Inet, &[]).unwrap(), "this kernel does");
            let whole = run("nft list table inet netd");
            run_first(&[Input::inet(&[], false)]).unwrap();
            let rest = run("nft list table inet netd");
            let handed = |of: &str| format!(" log prefix \"netd strict{of}\" group 28260");
            let without =
                [", from a container", ""].iter().fold(whole.clone(), |left, of| left.replacen(&handed(of), "", 1));
            assert_eq!(without, rest);
            assert_ne!(whole, rest);
        });
    }
}
