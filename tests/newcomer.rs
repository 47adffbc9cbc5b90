//! What the scripts do on a machine that lacks Rust or packages: `scripts/needs.sh` with stand-ins for the package
//! manager, rustup and the official installer, each of which notes how it was called.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// Real programs that the script uses.
const TOOLS: &str = "bash sh sed sort head cut grep mkdir ln rm chmod cat env readlink dirname timeout";

const SCRIPT: &str = "set -euo pipefail; . scripts/needs.sh; install_silently() { apt-get install \"$@\"; }; needs_rust; \
                      cargo --version";

/// A machine with nothing but a shell and these stand-ins; `cargo` of the given version where there is one.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(TempDir::new().unwrap());
        for folder in ["bin", "home", "project/scripts"] {
            fs::create_dir_all(machine.path(folder)).unwrap();
        }
        for tool in TOOLS.split(' ') {
            let found = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(tool));
            symlink(found.iter().find(|path| path.exists()).unwrap(), machine.path("bin").join(tool)).unwrap();
        }
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::copy(project.join("scripts/needs.sh"), machine.path("project/scripts/needs.sh")).unwrap();
        fs::write(machine.path("project/Cargo.toml"), "rust-version = \"1.90\"  # a comment\n").unwrap();
        machine.program("id", "echo 0");
        machine.program("gcc", "exit 0");
        machine.program("cc", "exit 0");
        machine
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// A stand-in; it notes its name and arguments in `calls`.
    fn program(&self, name: &str, script: &str) {
        let (file, calls) = (self.path("bin").join(name), self.path("calls"));
        fs::write(&file, format!("#!/bin/sh\necho {name} \"$@\" >>{}\n{script}\n", calls.display())).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A package manager that has these (package, version); installing `cargo…` makes a cargo of that version.
    fn distribution(&self, packages: &[(&str, &str)]) {
        let cases: String = packages
            .iter()
            .map(|(package, version)| format!("[ \"$2\" = {package} ] && echo '  Candidate: {version}'\n"))
            .collect();
        self.program("apt-cache", &format!("{cases} exit 0"));
        self.program("dpkg-query", "exit 1");
        let bin = self.path("bin");
        let made = |name: &str, what: &str| {
            format!("printf '#!/bin/sh\\n{what}\\n' >{0}/{name}; chmod 755 {0}/{name}", bin.display())
        };
        let installs: String = packages
            .iter()
            .map(|(package, version)| {
                let makes = match *package {
                    "rustup" => made("rustup", "mkdir -p $CARGO_HOME; echo rustup $* >>$CARGO_HOME/calls"),
                    _ => made("cargo", &format!("echo cargo {version}")),
                };
                format!("case \" $* \" in *\" install \"*\" {package} \"*) {makes};; esac\n")
            })
            .collect();
        self.program("apt-get", &installs);
    }

    fn cargo(&self, version: &str) {
        let file = self.path("bin/cargo");
        fs::write(&file, format!("#!/bin/sh\necho cargo {version}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// `needs_rust`, then the version of the cargo that a script would use. `install_silently` writes to the machine's
    /// /usr/sbin: here it only installs.
    fn needs_rust(&self, variables: &[(&str, &str)]) -> Output {
        self.run(SCRIPT, variables)
    }

    fn run(&self, script: &str, variables: &[(&str, &str)]) -> Output {
        Command::new(self.path("bin/bash"))
            .args(["-c", script])
            .current_dir(self.path("project"))
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("HOME", self.path("home"))
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap_or_default()
    }
}

#[track_caller]
fn text(output: &Output) -> (bool, String) {
    let text = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).join("");
    (output.status.success(), text)
}

#[test]
fn a_recent_cargo_is_used_without_installation() {
    let machine = Machine::new();
    machine.distribution(&[("cargo-web", "1.96.0")]);
    machine.cargo("1.90.0");
    assert_eq!(text(&machine.needs_rust(&[])), (true, "cargo 1.90.0\n".to_owned()));
    assert!(!machine.calls().contains("apt-get"), "{}", machine.calls());
}

#[test]
fn the_distributions_cargo_is_installed_if_it_is_recent_enough() {
    let machine = Machine::new();
    machine.distribution(&[("cargo", "0.66.0+ds1"), ("cargo-web", "1.96.0+dfsg1")]);
    let (done, output) = text(&machine.needs_rust(&[]));
    assert!(
        done && output.contains("installing: cargo-web 1.96.0") && output.ends_with("cargo 1.96.0+dfsg1\n"),
        "{output}"
    );
    assert!(machine.calls().contains("--no-remove cargo-web"), "nothing goes for it: {}", machine.calls());
}

#[test]
fn rustup_of_the_distribution_installs_into_a_folder_of_the_project() {
    let machine = Machine::new();
    machine.distribution(&[("cargo", "1.85.0"), ("rustup", "1.27.1")]);
    let (_, output) = text(&machine.needs_rust(&[]));
    let announced = format!("installing: Rust into {}", machine.path("project/.rust").display());
    assert!(output.contains("installing: rustup") && output.contains(&announced), "{output}");
    let calls = fs::read_to_string(machine.path("project/.rust/cargo/calls")).unwrap();
    assert!(calls.contains("rustup toolchain install stable"), "{calls}");
    assert!(!machine.path("home/.cargo").exists(), "nothing of the user's own is touched");
}

#[test]
fn the_official_installer_is_printed_before_it_runs_and_leaves_the_profile_alone() {
    let machine = Machine::new();
    machine.distribution(&[("cargo", "1.85.0")]);
    let cargo = "mkdir -p \"$CARGO_HOME/bin\"; printf \"#!/bin/sh\\necho cargo 1.99.0\\n\" >\"$CARGO_HOME/bin/cargo\"; \
                 chmod 755 \"$CARGO_HOME/bin/cargo\"; echo \"the installer was given $*\"";
    machine.program("curl", &format!("cat <<'END'\n{cargo}\nEND"));
    let (done, output) = text(&machine.needs_rust(&[]));
    let lines: Vec<&str> = output.lines().collect();
    let printed =
        lines.iter().position(|line| line.starts_with("installing: Rust into") && line.contains("| sh -s --"));
    let ran =
        lines.iter().position(|line| line.contains("the installer was given") && line.contains("--no-modify-path"));
    assert!(done && printed.is_some() && printed < ran && output.ends_with("cargo 1.99.0\n"), "{output}");
    assert_eq!(text(&machine.needs_rust(&[])), (true, "cargo 1.99.0\n".to_owned()), "the second time it is there");
}

#[test]
fn netd_no_install_forbids_every_installation_in_one_line() {
    let machine = Machine::new();
    machine.distribution(&[("cargo-web", "1.96.0"), ("rustup", "1.27.1")]);
    machine.cargo("1.63.0");
    let (done, output) = text(&machine.needs_rust(&[("NETD_NO_INSTALL", "1")]));
    assert!(!done && output.lines().count() == 1, "{output}");
    assert!(
        output.contains("Rust 1.90 or newer is needed, found: 1.63.0") && output.contains("NETD_NO_INSTALL"),
        "{output}"
    );
    assert!(!machine.calls().contains("apt-get"), "{}", machine.calls());
}

/// The gate up to its tests: continuous integration does not go on without cargo-deny, and a person is told.
#[test]
fn continuous_integration_compiles_cargo_deny_or_fails() {
    let machine = Machine::new();
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::copy(project.join("scripts/check"), machine.path("project/scripts/check")).unwrap();
    let deny = machine.path("home/deny");
    let cargo = |install: &str, fetch: &str| {
        let script = format!(
            "[ \"$1\" = --version ] && echo cargo 1.96.0\n\
             [ \"$1\" != deny ] || [ -e {0} ] || exit 101\n\
             case \"$*\" in *\"fetch db\"*) {fetch};; *install*) {install};; esac\nexit 0",
            deny.display()
        );
        machine.program("cargo", &script);
    };
    let check = |variables: &[(&str, &str)]| text(&machine.run("bash scripts/check --no-tests", variables));

    cargo("exit 1", "exit 1");
    let (done, output) = check(&[]);
    assert!(done && output.contains("cargo deny is not installed"), "{output}");
    for (variable, words) in [("NETD_X", "cargo install --locked cargo-deny failed"), ("NETD_NO_INSTALL", "forbids")] {
        let (done, output) = check(&[("NETD_CI", "1"), (variable, "1")]);
        assert!(!done && output.contains(words), "{output}");
    }
    assert!(!machine.calls().contains("deny check"), "{}", machine.calls());

    cargo(&format!(">{}", deny.display()), "echo no route; exit 1");
    let (done, output) = check(&[("NETD_CI", "1")]);
    assert!(done && output.contains("installing: cargo-deny") && output.contains("minutes"), "{output}");
    assert!(output.contains("advisories are not checked: their database cannot be fetched (no route)"), "{output}");
    assert!(machine.calls().contains("check bans licenses sources"), "{}", machine.calls());
    assert!(!machine.calls().contains("advisories"), "{}", machine.calls());

    cargo("exit 1", "exit 0");
    let (done, output) = check(&[("NETD_CI", "1")]);
    assert!(done && !output.contains("installing"), "it is there: {output}");
    assert!(machine.calls().contains("--offline check advisories"), "{}", machine.calls());
}
