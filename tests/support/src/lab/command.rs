//! Programs with a time limit, and their output.

use std::fmt;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::wait::seen;

/// Longest run of any program a test starts and waits for.
const LIMIT_SECONDS: &str = "40";

/// The output and the end of a program.
#[derive(Clone)]
pub struct Out {
    /// The command line.
    pub line: String,
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.code.map_or_else(|| "ended by a signal".to_owned(), |code| format!("exit code {code}"));
        write!(f, "\n$ {}\n{}{}({end})", self.line, self.stdout, self.stderr)
    }
}

impl Out {
    /// Asserts that the program succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.code == Some(0), "{self:#?}");
        self
    }

    /// Whether the program succeeded, for a wait.
    pub fn succeeded(self) -> Result<Self, Self> {
        seen(self, |out| out.code == Some(0))
    }

    /// Asserts that netd refused the command (exit code 1), and returns the one line of its message.
    #[track_caller]
    pub fn refused(self) -> String {
        assert!(self.code == Some(1), "it should have been refused: {self:#?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert!(lines.len() == 1 && lines[0].starts_with("netd: "), "not one clear line: {self:#?}");
        lines[0].to_owned()
    }

    /// Its output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {self:#?}"))
    }
}

/// Runs a line, split at white space.
pub fn run(line: &str) -> Out {
    run_words(&line.split_whitespace().collect::<Vec<_>>())
}

/// Runs a program with exactly these arguments; the daemon's socket is in its environment.
pub fn run_words(words: &[&str]) -> Out {
    let output = limited(words).stdin(Stdio::null()).output();
    finish(words, &output.unwrap_or_else(|error| panic!("start {words:?}: {error}")))
}

/// Runs a program with an input.
pub fn run_with_input(words: &[&str], input: &str) -> Out {
    let mut command = limited(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("start {words:?}: {error}"));
    // A program that ends without reading everything is judged by its exit code.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    finish(words, &child.wait_with_output().expect("its output"))
}

/// `ip -batch` in a namespace.
pub fn ip_batch(ns: &str, commands: &str) {
    run_with_input(&["ip", "-n", ns, "-batch", "-"], commands).ok();
}

fn limited(words: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", LIMIT_SECONDS]).args(words);
    command.env("NETD_SOCKET", super::daemon::SOCKET).env_remove("RUST_LOG").env("LC_ALL", "C");
    command
}

fn finish(words: &[&str], output: &Output) -> Out {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Out {
        line: words.join(" "),
        code: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}
