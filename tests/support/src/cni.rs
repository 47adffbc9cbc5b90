//! A fake daemon, the plugin as a runtime starts it, and a container's network namespace.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::conf::Conf;

/// A request of the plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// As in the request line.
    pub method: String,
    /// As in the request line.
    pub path: String,
    /// `null`: no body.
    pub body: Value,
}

type Answers = Arc<Mutex<Vec<(String, u16, Value)>>>;

/// A thread behind a unix socket that records requests and gives fixed answers.
pub struct Daemon {
    /// Contains the socket.
    pub folder: TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Answers,
    /// Answers that are used once.
    once: Answers,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts it with the answers of a healthy daemon.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("netd.sock")).unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (answers, once) = (Answers::default(), Answers::default());
        let thread = std::thread::spawn({
            let (asked, answers, once) = (asked.clone(), answers.clone(), once.clone());
            move || {
                while let Some(stream) = listener.accept().ok().map(|(stream, _)| stream) {
                    if serve(stream, &asked, &answers, &once).is_none() {
                        return;
                    }
                }
            }
        });
        Self { folder, asked, answers, once, thread: Some(thread) }
    }

    /// Its path.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("netd.sock")
    }

    /// From now on answers requests that contain this text (`PUT /v1/att`, `"interface":"given"`) in this way.
    pub fn answers(&self, request: &str, status: u16, body: Value) {
        self.answers.lock().unwrap().insert(0, (request.to_owned(), status, body));
    }

    /// Answers the next request that contains this text in this way; several answers are used in order.
    pub fn answers_once(&self, request: &str, status: u16, body: Value) {
        self.once.lock().unwrap().push((request.to_owned(), status, body));
    }

    /// Refuses requests that contain this text.
    pub fn refuses(&self, request: &str, status: u16, code: &str) {
        self.answers(request, status, json!({"error": {"code": code, "message": format!("the daemon says {code}")}}));
    }

    /// The requests since the last time.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    /// The methods and paths of the same, without lookups of attachments.
    pub fn calls(&self) -> Vec<String> {
        let question = |asked: &Asked| asked.method == "GET" && asked.path.starts_with("/v1/attachments/");
        self.asked()
            .into_iter()
            .filter(|asked| !question(asked))
            .map(|asked| format!("{} {}", asked.method, asked.path))
            .collect()
    }

    /// The body of the only PUT request.
    pub fn put(&self) -> Value {
        let mut asked = self.asked();
        asked.retain(|asked| asked.method != "GET");
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert_eq!(asked[0].method, "PUT");
        asked.remove(0).body
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // An empty request ends the thread.
        drop(UnixStream::connect(self.socket()));
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

fn serve(stream: UnixStream, asked: &Mutex<Vec<Asked>>, answers: &Answers, once: &Answers) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().filter(|word| !word.is_empty())?, words.next()?);
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        match header.trim().split_once(": ") {
            Some(("Content-Length", value)) => length = value.parse().unwrap(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = if length == 0 { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    let request = format!("{method} {path} {body}");
    let mut once = once.lock().unwrap();
    let first = once.iter().position(|(part, ..)| request.contains(part.as_str())).map(|at| once.remove(at));
    drop(once);
    let canned =
        first.or_else(|| answers.lock().unwrap().iter().find(|(part, ..)| request.contains(part.as_str())).cloned());
    let (status, reply) = canned.map_or_else(|| usual(&method, &path, &body), |(_, status, body)| (status, body));
    asked.lock().unwrap().push(Asked { method, path, body });
    let reply = if reply.is_null() { String::new() } else { reply.to_string() };
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", reply.len());
    reader.get_mut().write_all((head + &reply).as_bytes()).unwrap();
    Some(())
}

/// The reply of a healthy daemon.
fn usual(method: &str, path: &str, body: &Value) -> (u16, Value) {
    match method {
        "PUT" => (200, attachment(path, body)),
        "POST" if path.ends_with("/gc") => (200, json!({"released": []})),
        "GET" if path.starts_with("/v1/attachments/") => {
            (404, json!({"error": {"code": "not_found", "message": "no attachment"}}))
        }
        "GET" if path == "/v1/status" => (200, status(true, &[])),
        _ => (204, Value::Null),
    }
}

/// The answer of `GET /v1/status`.
pub fn status(ready: bool, problems: &[&str]) -> Value {
    json!({"ready": ready, "version": "0.1.0", "networks": 0, "containers": 0, "endpoints": 0, "publications": 0,
           "problems": problems})
}

/// An attachment as requested; without requested addresses it has those of the spec's example.
pub fn attachment(path: &str, body: &Value) -> Value {
    let texts = |key: &str| -> Vec<Value> {
        let list = body["addresses"].as_array().cloned().unwrap_or_default();
        list.iter().map(|address| address[key].clone()).filter(|value| !value.is_null()).collect()
    };
    let given = !texts("address").is_empty();
    let addresses = if given { texts("address") } else { vec![json!("10.1.0.5/16"), json!("fd00:1::5/64")] };
    let gateways = if given { texts("gateway") } else { vec![json!("10.1.0.1"), json!("fd00:1::1")] };
    let mut routes: Vec<Value> = gateways
        .iter()
        .map(|gateway| {
            let destination = if gateway.as_str().unwrap().contains(':') { "::/0" } else { "0.0.0.0/0" };
            json!({"destination": destination, "gateway": gateway})
        })
        .collect();
    routes.extend(body["routes"].as_array().cloned().unwrap_or_default());
    json!({
        "endpoint": {
            "network": body["network"]["name"], "container": {"id": "c1", "name": "web"}, "netns": body["netns"],
            "ifname": path.rsplit('/').next(), "host_ifname": "veth3243", "addresses": addresses,
            "gateways": gateways, "mac": "99:88:77:66:55:44", "aliases": [], "ports": [], "owner": "dbnet"
        },
        "bridge": "nd-dbnet", "host_mac": "56:44:33:22:11:11", "mtu": 1450, "routes": routes,
        "dns": {"nameservers": ["10.1.0.1"], "domain": "internal", "search": ["internal", "corp.example"],
                "options": ["ndots:1"]}
    })
}

/// A call of the plugin, valid until changed.
pub struct Call {
    plugin: &'static str,
    /// The whole environment but for `PATH`.
    pub environment: Vec<(String, String)>,
    /// The configuration, or what a test replaces it with.
    pub stdin: Vec<u8>,
}

/// The outcome of a call.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// Its standard output; `null`: none.
    pub json: Value,
    /// Its standard error.
    pub stderr: String,
}

/// A configuration for that daemon, named `dbnet`.
pub fn conf(daemon: &Daemon) -> Conf {
    crate::conf::conf("dbnet", &daemon.socket())
}

impl Call {
    /// The command of this plugin with every required variable.
    pub fn new(plugin: &'static str, command: &str, configuration: &Value) -> Self {
        let mut call = Self { plugin, environment: Vec::new(), stdin: configuration.to_string().into_bytes() };
        call.set("CNI_COMMAND", command);
        if ["ADD", "DEL", "CHECK"].contains(&command) {
            call.set("CNI_CONTAINERID", "c1");
            call.set("CNI_NETNS", netns());
            call.set("CNI_IFNAME", "eth0");
        }
        call
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.unset(name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Removes a variable.
    pub fn unset(&mut self, name: &str) -> &mut Self {
        self.environment.retain(|(other, _)| other != name);
        self
    }

    /// The command to spawn.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.plugin);
        command.env_clear().env("PATH", "/usr/bin:/bin").envs(self.environment.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub fn run(&self) -> Answer {
        let mut child = self.command().spawn().unwrap();
        // The plugin may end without reading its input.
        let _ = child.stdin.take().unwrap().write_all(&self.stdin);
        let output = child.wait_with_output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(stdout.lines().count() <= 1, "{stdout}");
        let json = if stdout.is_empty() { Value::Null } else { serde_json::from_str(&stdout).unwrap() };
        let stderr = String::from_utf8(output.stderr).unwrap();
        Answer { code: output.status.code().unwrap(), json, stderr }
    }
}

impl Answer {
    /// Asserts success and returns the result.
    pub fn good(self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        self.json
    }

    /// Asserts a failure with this code and these words.
    pub fn failed(&self, code: u32, words: &str) {
        assert_eq!(self.code, 1, "{self:?}");
        assert_eq!(self.json["code"], code, "{self:?}, expected: {words}");
        let text =
            format!("{} {}", self.json["msg"].as_str().unwrap(), self.json["details"].as_str().unwrap_or_default());
        assert!(text.contains(words), "{text:?} does not contain {words:?}");
        assert!(!text.contains('\n'), "{text:?}");
        assert!(self.json["cniVersion"].is_string(), "{self:?}");
    }
}

/// A namespace file that is not the plugin's network namespace. Nothing enters it here, so it may be of any type.
pub fn netns() -> &'static str {
    "/proc/self/ns/uts"
}

/// A program of that name with these shell lines. Another process writes it: a thread that forks meanwhile would keep
/// the file open for writing, and running it would fail (ETXTBSY).
pub fn script(folder: &Path, name: &str, lines: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-c", "cat >\"$0\" && chmod 755 \"$0\""]).arg(folder.join(name)).stdin(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{lines}\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}
