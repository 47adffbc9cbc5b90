//! Runs another program, such as an IPAM plugin, until it exits, with the given input, and collects its output.
//!
//! It uses the standard library only, because it is part of the small plugin binary too.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{Builder, ScopedJoinHandle, scope};

/// Bytes of each output that are kept; the rest is read and discarded, so that the program can exit.
pub const OUTPUT_MAX: usize = 1 << 20;

/// The result of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// At most [`OUTPUT_MAX`] bytes.
    pub stdout: Vec<u8>,
    /// At most [`OUTPUT_MAX`] bytes.
    pub stderr: Vec<u8>,
}

/// Runs the program with exactly that environment and input, until it has exited and both its outputs are closed: a
/// process that it leaves behind must not keep them open.
///
/// A program need not read its input. A Rust program ignores SIGPIPE from its start, so a closed pipe is an error here
/// and does not end this process; the program itself gets the signal's default action back.
///
/// # Errors
/// If it cannot be started, or its pipes fail for another reason than being closed early.
pub fn run(program: &Path, environment: &[(OsString, OsString)], stdin: &[u8]) -> io::Result<Output> {
    let mut command = Command::new(program);
    command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let outputs = exchange(&mut child, stdin);
    if outputs.is_err() {
        // It may wait for input that never comes. If it has exited already, the kill has no effect.
        let _ = child.kill();
    }
    let status = child.wait()?;
    let (stdout, stderr) = outputs?;
    Ok(Output { code: status.code(), stdout, stderr })
}

/// Writes and reads at the same time: otherwise a program that writes before it has read its input would block on this
/// process while this process blocks on it.
fn exchange(child: &mut Child, stdin: &[u8]) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    scope(|scope| {
        let errors = Builder::new().spawn_scoped(scope, move || collect(errors))?;
        let feeder = Builder::new().spawn_scoped(scope, move || feed(input, stdin));
        if feeder.is_err() {
            // Its input cannot be written: it must be killed before its outputs can be read to the end.
            let _ = child.kill();
        }
        let stdout = collect(output);
        let (stderr, fed) = (join(errors), feeder.and_then(join));
        fed?;
        Ok((stdout?, stderr?))
    })
}

fn join<T>(thread: ScopedJoinHandle<'_, io::Result<T>>) -> io::Result<T> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread at the program's pipes panicked")))
}

/// Writes all bytes, then closes the pipe.
fn feed(input: Option<impl Write>, bytes: &[u8]) -> io::Result<()> {
    match input.map_or(Ok(()), |mut input| input.write_all(bytes)) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

fn collect(output: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut collected = Vec::new();
    let Some(mut output) = output else { return Ok(collected) };
    output.by_ref().take(OUTPUT_MAX as u64).read_to_end(&mut collected)?;
    io::copy(&mut output, &mut io::sink())?;
    Ok(collected)
}

/// The first regular file with that name in the folders of a colon-separated list (`CNI_PATH`). A name with a slash is
/// refused, because it could lead out of them. Empty folder names are skipped.
pub fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    if name.is_empty() || name.contains('/') {
        return None;
    }
    let folders = std::env::split_paths(path).filter(|folder| !folder.as_os_str().is_empty());
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Output {
        run(Path::new("/bin/sh"), &[], script.as_bytes()).unwrap()
    }

    #[test]
    fn it_gets_that_environment_and_no_other() {
        let pairs = [("CNI_COMMAND".into(), "ADD".into()), ("EMPTY".into(), OsString::new())];
        let output = run(Path::new("/usr/bin/env"), &pairs, b"").unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "CNI_COMMAND=ADD\nEMPTY=\n");
        assert_eq!(output.code, Some(0));
    }

    #[test]
    fn exit_status_and_output_are_returned() {
        let output = shell("echo out; echo err >&2; exit 7");
        assert_eq!(output, Output { code: Some(7), stdout: b"out\n".into(), stderr: b"err\n".into() });
        assert_eq!(shell("kill -9 $$").code, None);
        assert_eq!(run(Path::new("/no/such/program"), &[], b"").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn neither_waits_for_the_other() {
        let much = vec![b'x'; 4 << 20];
        let echoed = run(Path::new("/bin/cat"), &[], &much).unwrap();
        assert_eq!((echoed.code, echoed.stdout.len()), (Some(0), OUTPUT_MAX));
        let deaf = run(Path::new("/bin/true"), &[], &much).unwrap();
        assert_eq!((deaf.code, deaf.stdout.len()), (Some(0), 0));
        let loud = shell("head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero; exit 3");
        assert_eq!((loud.code, loud.stdout.len(), loud.stderr.len()), (Some(3), OUTPUT_MAX, OUTPUT_MAX));
    }

    #[test]
    fn the_first_regular_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
        std::fs::create_dir_all(one.join("host-local")).unwrap();
        std::fs::create_dir(&two).unwrap();
        std::fs::write(two.join("host-local"), "").unwrap();
        let path = std::env::join_paths([Path::new("/no/such"), Path::new(""), &one, &two]).unwrap();
        assert_eq!(find("host-local", &path), Some(two.join("host-local")), "a folder of that name is none");
        assert_eq!(find("static", &path), None);
        for refused in ["../two/host-local", "/bin/sh", "", ".."] {
            assert_eq!(find(refused, &path), None, "{refused}");
        }
    }
}
