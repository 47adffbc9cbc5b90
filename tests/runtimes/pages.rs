//! The commands of each page in `docs/runtimes`, run as a reader would, in the order of the page. CONTRIBUTING.md says how
//! a page marks them.
//!
//! A page has a laboratory of its own: its host has a running daemon at the usual socket, the programs of this build in
//! `/usr/local/bin` and the repository as working directory. `outside` is another machine.

use std::any::Any;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use libtest_mimic::{Completion, Failed, Trial};

use crate::containerd::{ADDRESS, Containerd};
use crate::dockerd::Dockerd;
use crate::harness::cannot_run;
use crate::lab::command::{Out, run_words};
use crate::lab::{self, Lab, daemon, run};
use crate::machine;
use crate::netavark;
use crate::world::{self, find, ours, private_folders};

/// The end of what a command of a block printed; its exit code follows.
const END: &str = "=== end of the command, exit code ";

/// Commands that come before those of each block: a fixture may add to the file.
const PROFILE: &str = "/run/lab/profile";
/// Makes what blocks need. It ends when the value is dropped.
type Fixture = fn(&Lab) -> Box<dyn Any>;

/// What a block needs to be there: its name in the mark, and what makes it. It ends when the page ends.
const FIXTURES: &[(&str, Fixture)] = &[
    ("containerd", |_| Box::new(ContainerdAndGroups::start())),
    // With an image, `lab`.
    ("dockerd", |_| Box::new(Dockerd::start())),
    // With an image, `lab`.
    ("podman", |_| {
        podman();
        Box::new(())
    }),
    ("web", |_| Box::new(Web::start())),
    ("rootfs", |_| Box::new(RootFileSystem::new())),
];

/// A block of commands and what they print.
#[derive(Debug, Default, PartialEq)]
struct Block {
    /// The number of its first line.
    line: usize,
    /// The machine that it runs on.
    on: String,
    needs: Vec<String>,
    fixtures: Vec<String>,
    commands: Vec<Shown>,
}

/// A command, and the lines that the page shows below it.
#[derive(Debug, Default, PartialEq)]
struct Shown {
    command: String,
    output: Vec<String>,
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut names: Vec<String> = fs::read_dir(ours("docs/runtimes"))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .filter(|name| name.ends_with(".md") && name != "README.md")
        .collect();
    names.sort();
    let page = |name: String| {
        let title = format!("page: {name}: its commands do what it says");
        lab::skippable(title.leak(), move |lab| run_page(lab, &name))
    };
    let own = Trial::test("pages: marks, commands and what they print are read", || {
        reads();
        Ok::<(), Failed>(())
    });
    names.into_iter().map(page).chain([own]).collect()
}

fn run_page(lab: &Lab, name: &str) -> Completion {
    let text = fs::read_to_string(ours(&format!("docs/runtimes/{name}"))).expect("the page");
    let blocks = blocks(&text).unwrap_or_else(|why| panic!("docs/runtimes/{name}: {why}"));
    assert!(!blocks.is_empty(), "docs/runtimes/{name} has no commands to run: see CONTRIBUTING.md");
    if let Some(program) = blocks.iter().flat_map(|block| &block.needs).find(|program| find(program).is_none()) {
        let why = format!("{program} is not installed (scripts/test installs it)");
        return cannot_run(&why).unwrap_or_else(|_| panic!("{why}"));
    }
    prepare(lab, name);
    let mut kept: Vec<(&str, Box<dyn Any>)> = Vec::new();
    for block in &blocks {
        for fixture in &block.fixtures {
            let found = FIXTURES.iter().find(|(known, _)| known == fixture);
            let (known, make) = found.unwrap_or_else(|| panic!("docs/runtimes/{name}: no fixture {fixture}"));
            if kept.iter().all(|(there, _)| there != known) {
                kept.push((known, make(lab)));
            }
        }
        run_block(block).unwrap_or_else(|why| panic!("docs/runtimes/{name}, line {}: {why}", block.line));
    }
    Completion::Completed
}

/// The host as a reader has it: installed programs, and a daemon that listens where programs look for it.
fn prepare(lab: &Lab, name: &str) {
    private_folders();
    let programs = "/run/lab/target/release";
    fs::create_dir_all(programs).expect("a folder");
    for folder in ["/usr/local", "/srv"] {
        run(&format!("mount -t tmpfs netd-tests {folder}")).ok();
    }
    fs::create_dir("/usr/local/bin").expect("a folder");
    let folder = std::path::Path::new(daemon::netd()).parent().expect("a folder");
    for name in ["netd", "netd-cni", "netd-netavark"].into_iter().filter(|name| folder.join(name).exists()) {
        for place in [programs, "/usr/local/bin"] {
            std::os::unix::fs::symlink(folder.join(name), format!("{place}/{name}")).expect("a link");
        }
    }
    // As a daemon with the usual folders has it.
    let mut config = "[docker_plugin]\nsocket = \"/run/docker/plugins/netd.sock\"\n".to_owned();
    if name == "from-docker.md" {
        config += "[engine]\nsocket = \"/run/docker.sock\"\n[docker_api]\nsocket = \"/run/netd/docker.sock\"\n";
    }
    fs::write(daemon::CONFIG, config).expect("a file");
    world::start_daemon_at_the_usual_place(lab);
}

fn run_block(block: &Block) -> Result<(), String> {
    let script: String = block
        .commands
        .iter()
        .map(|shown| format!("{{\n{}\n}} 2>&1 </dev/null\ncode=$?; echo; echo \"{END}$code\"\n", shown.command))
        .collect();
    let out = shell(&block.on, &script);
    let mut rest = out.stdout.as_str();
    for Shown { command, output } in &block.commands {
        let (printed, after) =
            rest.split_once(END).ok_or(format!("$ {command}\n{rest}{}(it did not end)", out.stderr))?;
        let (code, after) = after.split_once('\n').unwrap_or((after, ""));
        rest = after;
        let printed: Vec<&str> = printed.trim_end().lines().collect();
        let expected: Vec<&str> = output.iter().map(String::as_str).collect();
        let is_shown = expected.is_empty() || fits(&expected, &printed);
        if code != "0" || !is_shown {
            let printed = printed.join("\n");
            return Err(format!(
                "$ {command}\n{printed}\n(exit code {code}), where the page has\n{}",
                expected.join("\n")
            ));
        }
    }
    Ok(())
}

/// A script on the host or outside, with the programs of this build and nothing of the user's own settings.
fn shell(on: &str, script: &str) -> Out {
    let netns = format!("--net=/run/netns/{on}");
    let profile = format!("BASH_ENV={PROFILE}");
    let mut line = vec!["nsenter", &netns, "--", "env", "-i", "-C", env!("CARGO_MANIFEST_DIR")];
    line.extend(["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/run/lab/tmp", "TMPDIR=/run/lab/tmp"]);
    line.extend(["LC_ALL=C", "CARGO_TARGET_DIR=/run/lab/target", &profile, "bash", "-c", script]);
    run_words(&line)
}

/// The marked blocks of a page.
fn blocks(page: &str) -> Result<Vec<Block>, String> {
    let mut found = Vec::new();
    let mut lines = page.lines().zip(1..).peekable();
    while let Some((line, number)) = lines.next() {
        let Some(mark) = line.trim().strip_prefix("<!-- run").and_then(|mark| mark.strip_suffix("-->")) else {
            continue;
        };
        let mut block = marked(mark).map_err(|why| format!("line {number}: {why}"))?;
        block.line = number + 1;
        if lines.next().is_none_or(|(fence, _)| fence.trim() != "```console") {
            return Err(format!("line {number}: a block ```console must follow the mark"));
        }
        loop {
            let (line, number) = lines.next().ok_or(format!("line {number}: the block does not end"))?;
            if line.trim() == "```" {
                break;
            }
            read_line(&mut block, line).map_err(|why| format!("line {number}: {why}"))?;
        }
        found.push(block);
    }
    Ok(found)
}

/// `: on outside; needs runc jq; with web`.
fn marked(mark: &str) -> Result<Block, String> {
    let mut block = Block { on: "host".to_owned(), ..Block::default() };
    let parts = mark.trim().trim_start_matches(':').split(';').map(str::trim).filter(|part| !part.is_empty());
    for part in parts {
        let words = |part: &str| part.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>();
        match part.split_whitespace().next() {
            Some("on") => block.on = words(part).concat(),
            Some("needs") => block.needs = words(part),
            Some("with") => block.fixtures = words(part),
            _ => return Err(format!("{part:?} is none of: on MACHINE, needs PROGRAM…, with FIXTURE…")),
        }
    }
    Ok(block)
}

/// `$ ` begins a command and `> ` continues it, as shells show them; everything else is what it prints.
fn read_line(block: &mut Block, line: &str) -> Result<(), String> {
    if let Some(command) = line.strip_prefix("$ ") {
        block.commands.push(Shown { command: command.to_owned(), output: Vec::new() });
        return Ok(());
    }
    let last = block.commands.last_mut().ok_or("a block begins with `$ COMMAND`")?;
    match line.strip_prefix("> ") {
        Some(more) if last.output.is_empty() => last.command.extend(["\n", more]),
        _ => last.output.push(line.trim_end().to_owned()),
    }
    Ok(())
}

/// Whether these lines were printed. `…` stands for any text, and alone for any number of lines.
fn fits(expected: &[&str], printed: &[&str]) -> bool {
    match expected {
        [] => printed.is_empty(),
        ["…", rest @ ..] => (0..=printed.len()).any(|skipped| fits(rest, &printed[skipped..])),
        [line, rest @ ..] => {
            printed.split_first().is_some_and(|(first, more)| line_fits(line, first) && fits(rest, more))
        }
    }
}

fn line_fits(expected: &str, printed: &str) -> bool {
    let printed = printed.trim_end();
    let Some((begin, rest)) = expected.split_once('…') else { return expected == printed };
    let Some(mut left) = printed.strip_prefix(begin) else { return false };
    let parts: Vec<&str> = rest.split('…').collect();
    let (end, middle) = parts.split_last().expect("at least one");
    for part in middle {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(end)
}

fn reads() {
    let page = "text\n<!-- run: on outside; needs runc jq; with web -->\n```console\n$ one\nout …\n…\n$ two <<END\n> x\n> END\n\
                ```\n```console\n$ not run\n```\n<!-- run -->\n```console\n$ three\n```\n";
    let read = blocks(page).expect("blocks");
    assert_eq!(read.len(), 2, "{read:?}");
    assert_eq!((read[0].on.as_str(), read[0].line, &read[0].fixtures[..]), ("outside", 3, &["web".to_owned()][..]));
    assert_eq!((read[0].needs.len(), read[1].on.as_str()), (2, "host"));
    assert_eq!(read[0].commands[0].output, ["out …", "…"]);
    assert_eq!(read[0].commands[1].command, "two <<END\nx\nEND");
    assert!(blocks("<!-- run -->\ntext").is_err() && blocks("<!-- run: at host -->\n").is_err());
    for (expected, printed, does) in [
        (&["a"][..], &["a "][..], true),
        (&["a"], &["a", "b"], false),
        (&["…", "b"], &["x", "y", "b"], true),
        (&["…"], &[], true),
        (&["in … and …!"], &["in one and two!"], true),
        (&["in … and …!"], &["in one or two!"], false),
        (&["…b…"], &["abc"], true),
        (&["a…a"], &["a"], false),
    ] {
        assert_eq!(fits(expected, printed), does, "{expected:?} and {printed:?}");
    }
}

/// A containerd with an image, `docker.io/library/lab:latest`, and the control groups that `ctr` makes on the machine.
struct ContainerdAndGroups {
    _containerd: Containerd,
    made: Vec<PathBuf>,
}

impl ContainerdAndGroups {
    fn start() -> Self {
        profile(&format!("export CONTAINERD_ADDRESS={ADDRESS} CONTAINERD_SNAPSHOTTER=native"));
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        let groups = hierarchies.chain(["/sys/fs/cgroup".into()]).map(|hierarchy| hierarchy.join("default"));
        Self { made: groups.filter(|group| !group.exists()).collect(), _containerd: Containerd::start() }
    }
}

impl Drop for ContainerdAndGroups {
    fn drop(&mut self) {
        self.made.iter().for_each(|group| drop(fs::remove_dir(group)));
    }
}

/// Podman's settings and its image. Its cgroups end with the tests.
fn podman() {
    netavark::settings();
    let parent = format!("/{}/podman", machine::cgroup());
    profile(&format!(
        "podman() {{ if [ \"$1\" = run ]; then shift; command podman run --cgroup-parent {parent} \"$@\"; else command podman \"$@\"; fi; }}"
    ));
}

/// Adds a line that comes before the commands of each block.
fn profile(line: &str) {
    let text = fs::read_to_string(PROFILE).unwrap_or_default();
    fs::write(PROFILE, format!("{text}{line}\n")).expect("a file");
}

/// A container of `ip netns`, called web, in which a server waits at port 80.
struct Web(std::process::Child);

impl Web {
    fn start() -> Self {
        world::root_file_system();
        run("ip netns add web").ok();
        run("ip -n web link set lo up").ok();
        let mut command = Command::new("nsenter");
        command.args([
            "--net=/run/netns/web",
            "--",
            "busybox",
            "httpd",
            "-f",
            "-p",
            "80",
            "-h",
            "/run/lab/image/root/www",
        ]);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("busybox"))
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `/srv/rootfs`, a root file system of busybox. It ends with the laboratory.
struct RootFileSystem;

impl RootFileSystem {
    fn new() -> Self {
        let source = world::root_file_system();
        run(&format!("cp -a {source} /srv/rootfs")).ok();
        // systemd-nspawn takes a folder without it for a mistake.
        fs::create_dir_all("/srv/rootfs/usr").expect("a folder");
        Self
    }
}
