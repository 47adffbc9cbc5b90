//! Runs a program of the host with a time limit and an output limit, so that one that hangs does not block the engine.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::Duration;

/// How long a program may take, including its waits for locks.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of output; more is an error.
const OUTPUT_MAX: u64 = 64 << 20;

/// The result of a program.
pub struct Output {
    /// Whether it exited successfully.
    pub success: bool,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its error output.
    pub stderr: Vec<u8>,
}

/// Runs the program until it exits, or kills it when its time is up.
pub fn run(words: &[&str], input: &str) -> io::Result<Output> {
    let Some((program, arguments)) = words.split_first() else { return Err(io::Error::other("no program")) };
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(error.kind(), format!("the program {program} is not installed")),
        _ => error,
    })?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (sender, receiver) = channel();
    let input = input.as_bytes().to_vec();
    // These threads end with the program, which closes its pipes. A program that exits early closes them too; its own
    // message is then more useful.
    Builder::new().name("feed".into()).spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)))?;
    let complaints = sender.clone();
    Builder::new().name("collect".into()).spawn(move || complaints.send((false, collect(stderr))))?;
    Builder::new().name("collect".into()).spawn(move || sender.send((true, collect(stdout))))?;
    let mut outputs = [Vec::new(), Vec::new()];
    let deadline = crate::base::deadline::Deadline::after(PATIENCE);
    for _ in 0..2 {
        match receiver.recv_timeout(deadline.remaining().unwrap_or_default()) {
            Ok((out, bytes)) => outputs[usize::from(out)] = bytes?,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                // It may have exited in the meantime.
                let _ = child.kill();
                let _ = child.wait();
                let why = format!("{program} did not end within {} s", PATIENCE.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
    }
    let success = child.wait()?.success();
    let [stderr, stdout] = outputs;
    Ok(Output { success, stdout, stderr })
}

fn collect(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(pipe) = pipe else { return Ok(bytes) };
    let read = pipe.take(OUTPUT_MAX + 1).read_to_end(&mut bytes)?;
    if read as u64 > OUTPUT_MAX {
        return Err(io::Error::other(format!("it wrote more than {} MiB", OUTPUT_MAX >> 20)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_exit_status_are_returned() {
        let output = run(&["sh", "-c", "cat; echo no >&2; exit 3"], "in").unwrap();
        assert_eq!((output.success, output.stdout, output.stderr), (false, b"in".to_vec(), b"no\n".to_vec()));
        let error = run(&["no-such-program"], "").err().unwrap();
        assert_eq!(error.to_string(), "the program no-such-program is not installed");
    }
}
