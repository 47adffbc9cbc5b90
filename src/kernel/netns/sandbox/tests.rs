//! The sandbox with real commands. The child is this test program, restricted to [`child_entry`].

use std::fs;
use std::path::Path;

use nix::sys::signal::raise;

use super::*;

/// Not a test: the code that the child runs.
#[test]
#[ignore = "the child's side of the other tests"]
fn child_entry() {
    let arguments: Vec<OsString> = std::env::args_os().skip_while(|argument| argument != VERB).skip(1).collect();
    if arguments.is_empty() {
        return;
    }
    let failure = child(&arguments).unwrap_err();
    let script = format!("echo '{}' >&2; exit {}", failure.message.unwrap_or_default(), failure.code);
    panic!("{}", Command::new("sh").arg("-c").arg(script).exec());
}

fn start(command: &[&str]) -> Result<Sandbox, KernelError> {
    let mut program = Command::new("/proc/self/exe");
    program.args(["kernel::netns::sandbox::tests::child_entry", "--exact", "--ignored", "--nocapture"]);
    let command: Vec<OsString> = command.iter().map(OsString::from).collect();
    Sandbox::start_as(program, &command)
}

fn code(command: &[&str]) -> u8 {
    let mut sandbox = start(command).unwrap();
    sandbox.go("nameserver 10.77.0.1\n", "127.0.0.1 localhost\n").unwrap();
    sandbox.wait().unwrap()
}

#[test]
fn the_command_sees_its_own_network_and_files() {
    let directory = tempfile::tempdir().unwrap();
    let shown = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    let before = fs::read("/etc/resolv.conf").unwrap();
    // The shell opens its outputs before /tmp is visible again, so this also shows that it is.
    let script = format!(
        "cd {}; cat /etc/resolv.conf > resolv; cat /etc/hosts > hosts; ip -j link > links; ls /sys/class/net > sys; \
         grep -c ' /tmp tmpfs\\| - tmpfs netd ' /proc/self/mountinfo > mounts; ls /proc/self/fd | wc -l > open",
        directory.path().display()
    );
    assert_eq!(code(&["sh", "-c", &script]), 0);
    assert_eq!(shown("resolv"), "nameserver 10.77.0.1\n");
    assert_eq!(shown("hosts"), "127.0.0.1 localhost\n");
    let links: serde_json::Value = serde_json::from_str(&shown("links")).unwrap();
    assert_eq!((links.as_array().unwrap().len(), &links[0]["ifname"]), (1, &"lo".into()));
    assert!(links[0]["flags"].as_array().unwrap().iter().any(|flag| flag == "UP"));
    assert_eq!(shown("sys"), "lo\n");
    assert_eq!(shown("mounts"), "2\n", "the two covered files and nothing else");
    // The test runner may pass descriptors on, too.
    let outside = Command::new("sh").arg("-c").arg("ls /proc/self/fd | wc -l").output().unwrap().stdout;
    assert_eq!(shown("open").as_bytes(), outside, "nothing of the talk with the parent is left open");
    assert_eq!(fs::read("/etc/resolv.conf").unwrap(), before);
}

#[test]
fn the_exit_code_is_the_commands() {
    assert_eq!(code(&["true"]), 0);
    assert_eq!(code(&["sh", "-c", "exit 7"]), 7);
    assert_eq!(code(&["sh", "-c", "kill -TERM $$"]), 143);
    assert_eq!(code(&["/no/such/command"]), 127);
    assert_eq!(code(&["no-such-command"]), 127);
    assert_eq!(code(&["/etc/hosts"]), 126);
    assert_eq!(code(&["/etc"]), 126);
}

/// The command ends at the first `sleep` that ends after the signal. A shell in its own `read` would not: a signal that
/// comes after it looked for signals and before it reads is not noticed until it has read.
#[test]
fn signals_are_passed_on() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("ready");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
    let script = format!("trap 'exit 42' USR1; echo x > {}; while :; do sleep 0.1; done", fifo.display());
    let mut sandbox = start(&["sh", "-c", &script]).unwrap();
    sandbox.go("", "").unwrap();
    // Returns when the command has set its trap.
    fs::read(&fifo).unwrap();
    raise(Signal::SIGUSR1).unwrap();
    assert_eq!(sandbox.wait().unwrap(), 42);
}

/// SIGTERM, because a shell that runs the tests in the background has them ignore SIGINT.
#[test]
fn a_signal_before_the_command_runs_is_its_end() {
    let mut sandbox = start(&["true"]).unwrap();
    kill(Pid::from_raw(sandbox.pid() as i32), Signal::SIGTERM).unwrap();
    // The write may still succeed; the result is the same.
    sandbox.go("", "").unwrap();
    assert_eq!(sandbox.wait().unwrap(), 143);
}

#[test]
fn an_aborted_sandbox_is_gone() {
    let sandbox = start(&["true"]).unwrap();
    let process = format!("/proc/{}", sandbox.pid());
    assert!(Path::new(&process).exists());
    sandbox.abort();
    assert!(!Path::new(&process).exists());
}

/// `netd __sandbox 5 5 -- x` owned one descriptor twice, and closed it twice.
#[test]
fn no_descriptor_is_taken_over_twice_and_no_standard_stream() {
    for numbers in [["5", "5"], ["1", "5"], ["5", "2"]] {
        let arguments: Vec<OsString> = [&numbers[..], &["--", "true"]].concat().iter().map(OsString::from).collect();
        let failure = child(&arguments).unwrap_err();
        assert!(failure.message.unwrap().contains("`netd run`"), "{numbers:?}");
    }
}
