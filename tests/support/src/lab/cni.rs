//! The CNI plugin as a runtime calls it: environment, standard input, and result.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::daemon::SOCKET;
use crate::conf::{Conf, conf};
use crate::programs;

/// The directory of Debian's reference plugins.
pub const REFERENCE: &str = "/usr/lib/cni";

/// A call that a runtime makes.
#[derive(Clone)]
pub struct Call {
    command: &'static str,
    container: String,
    netns: String,
    ifname: String,
    args: String,
    conf: Conf,
}

/// The plugin's output.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its exit code.
    pub code: Option<i32>,
    /// Standard output as JSON; `Null` when it is empty.
    pub json: Value,
}

impl Answer {
    /// Success: its result.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.code == Some(0), "{self:#}");
        self.json
    }

    /// An error of that code; its message.
    #[track_caller]
    pub fn error(self, code: u64) -> String {
        assert!(self.code == Some(1) && self.json["code"] == code, "no error {code}: {self:#}");
        let text = |key: &str| self.json[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}", text("msg"), text("details"))
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}, {:#}", self.code, self.json)
    }
}

/// A call for the container in the namespace of that name, which is its id as well; interface eth0; network net1.
pub fn call(command: &'static str, container: &str) -> Call {
    Call {
        command,
        container: container.to_owned(),
        netns: format!("/run/netns/{container}"),
        ifname: "eth0".to_owned(),
        args: String::new(),
        conf: conf("net1", Path::new(SOCKET)),
    }
}

impl Call {
    /// Another configuration.
    pub fn conf(self, change: impl FnOnce(Conf) -> Conf) -> Self {
        Self { conf: change(self.conf), ..self }
    }

    /// Other keys of the configuration.
    pub fn with(self, keys: Value) -> Self {
        self.conf(|conf| conf.with(keys))
    }

    /// The result of an earlier call or plugin.
    pub fn prev_result(self, result: &Value) -> Self {
        self.conf(|conf| conf.prev_result(result))
    }

    /// A port of the host that leads to one of the container.
    pub fn port(self, host: u16, container: u16) -> Self {
        self.conf(|conf| conf.port(host, container))
    }

    /// Another namespace path.
    pub fn netns(mut self, path: &str) -> Self {
        path.clone_into(&mut self.netns);
        self
    }

    /// Another interface.
    pub fn ifname(mut self, ifname: &str) -> Self {
        ifname.clone_into(&mut self.ifname);
        self
    }

    /// `CNI_ARGS`.
    pub fn args(mut self, args: &str) -> Self {
        args.clone_into(&mut self.args);
        self
    }

    /// Starts the plugin on the host and gives it its input.
    pub fn start(&self) -> Child {
        self.start_program(programs::current().plugin)
    }

    /// Starts any plugin with this call.
    pub fn start_program(&self, program: &str) -> Child {
        let mut command = Command::new("nsenter");
        command.args(["--net=/run/netns/host", "--", program]).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("CNI_COMMAND", self.command);
        command.env("CNI_CONTAINERID", &self.container).env("CNI_NETNS", &self.netns);
        command.env("CNI_IFNAME", &self.ifname).env("CNI_PATH", REFERENCE);
        if !self.args.is_empty() {
            command.env("CNI_ARGS", &self.args);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the plugin starts");
        // A plugin that is killed immediately does not read it.
        let _ = child.stdin.take().expect("a pipe").write_all(self.conf.to_string().as_bytes());
        child
    }

    /// Calls the plugin.
    pub fn run(&self) -> Answer {
        self.run_program(programs::current().plugin)
    }

    /// Calls any plugin.
    pub fn run_program(&self, program: &str) -> Answer {
        let output = self.start_program(program).wait_with_output().expect("its output");
        let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        Answer { code: output.status.code(), json }
    }
}

/// The path of Debian's reference plugin of that name, if it is installed.
pub fn reference(name: &str) -> Option<String> {
    let path = format!("{REFERENCE}/{name}");
    Path::new(&path).exists().then_some(path)
}
