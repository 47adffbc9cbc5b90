//! The API over TCP: `curl` on another machine, with certificates made as README.md says.

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use libtest_mimic::Trial;
use netd_testing::wait::seen;

use crate::lab::command::run_words;
use crate::lab::daemon::CONFIG;
use crate::lab::space::inside;
use crate::lab::{HOST4, Lab, Out, trial, until};

const PKI: &str = "/run/lab/pki";
const PORT: u16 = 9443;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("api: over TCP, only who has a certificate of the authority gets a reply", certificates),
        trial("api: over TCP, silent connections of one machine take no more than its share", silent),
        trial("api: the daemon does not start with certificates that it cannot use", unusable),
    ]
}

/// The commands of README.md, run in a folder of their own.
fn make_certificates(folder: &str) {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("a README");
    let begin = readme.find("    openssl req").expect("commands");
    let commands = readme[begin..].split("\n\n").next().expect("a block");
    assert_eq!(commands.matches("-out ").count(), 3, "{commands}");
    fs::create_dir_all(folder).expect("a folder");
    run_words(&["sh", "-ec", &format!("cd {folder}\n{commands}")]).ok();
}

fn configuration() -> String {
    format!(
        "[api]\nlisten = \"{HOST4}:{PORT}\"\ncert = \"{PKI}/server.pem\"\nkey = \"{PKI}/server.key\"\n\
         client_ca = \"{PKI}/ca.pem\"\n"
    )
}

fn start(lab: &Lab) {
    make_certificates(PKI);
    fs::write(CONFIG, configuration()).expect("a configuration");
    lab.start_daemon();
}

/// `curl` outside, which trusts the authority. It prints the reply's body and status.
fn curl(more: &[&str]) -> Out {
    let ca = format!("{PKI}/ca.pem");
    let mut line = vec!["ip", "netns", "exec", "outside", "curl", "-sS", "--max-time", "10", "--cacert", &ca];
    line.extend(["-w", "\n%{http_code}"]);
    line.extend(more);
    run_words(&line)
}

/// The same with the certificate and key in these files; status and body of the reply.
fn curl_with(folder: &str, more: &[&str]) -> (String, String) {
    let [cert, key] = ["pem", "key"].map(|end| format!("{folder}/client.{end}"));
    let mut line = vec!["--cert", &cert, "--key", &key];
    line.extend(more);
    let reply = curl(&line).ok().stdout;
    let (body, status) = reply.rsplit_once('\n').expect("curl prints the status last");
    (status.to_owned(), body.to_owned())
}

fn certificates(lab: &Lab) {
    start(lab);
    let url = |path: &str| format!("https://{HOST4}:{PORT}{path}");
    let (networks, status) = (url("/v1/networks"), url("/v1/status"));
    let json = ["-H", "Content-Type: application/json", "-d", r#"{"name":"net1"}"#];
    let (code, body) = curl_with(PKI, &[&json[..], &[&networks]].concat());
    assert_eq!(code, "201", "{body}");
    assert!(lab.netd("network ls").ok().stdout.contains("net1"));
    // By the other name of the certificate, and by one that it does not have.
    for (name, expected) in [("host.example", "200"), ("evil.example", "421")] {
        let resolve = format!("{name}:{PORT}:{HOST4}");
        let named = format!("https://{name}:{PORT}/v1/status");
        let (code, body) = curl_with(PKI, &["--insecure", "--resolve", &resolve, &named]);
        assert_eq!(code, expected, "{name}: {body}");
    }
    let (code, body) = curl_with(PKI, &["-H", "Content-Type:", "-d", r#"{"name":"net2"}"#, &networks]);
    assert!(code == "415" && body.contains("unsupported_media_type"), "{code} {body}");
    let (code, _) = curl_with(PKI, &["-H", "Origin: https://evil.example", &status]);
    assert_eq!(code, "403");

    let other = "/run/lab/other-pki";
    make_certificates(other);
    let [cert, key] = ["pem", "key"].map(|end| format!("{other}/client.{end}"));
    for with in [&[][..], &["--cert", &cert, "--key", &key]] {
        let response = curl(&[with, &[&status]].concat());
        assert!(
            response.code != Some(0) && response.stdout == "\n000" && response.stderr.contains("alert"),
            "{response:?}"
        );
    }
    let response = curl(&[&format!("http://{HOST4}:{PORT}/v1/status")]);
    assert!(
        response.code != Some(0) && !response.stdout.contains("netd") && !response.stdout.contains("ready"),
        "{response:?}"
    );
    lab.stop_daemon();
}

fn silent(lab: &Lab) {
    start(lab);
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", lab.daemon_pid())).expect("the daemon runs").count();
    let before = descriptors();
    let address: SocketAddr = format!("{HOST4}:{PORT}").parse().expect("an address");
    let mut held: Vec<TcpStream> =
        inside("outside", || (0..600).map(|_| TcpStream::connect(address).expect("it listens")).collect());
    held[0].set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
    // Sooner than a handshake must be complete.
    assert_eq!(held[0].read(&mut [0; 1]).expect("closed in order"), 0, "the first has gone");
    until("no more than 512 are open", || seen(descriptors(), |open| *open <= before + 520));
    let (code, body) = curl_with(PKI, &[&format!("https://{HOST4}:{PORT}/v1/status")]);
    assert_eq!(code, "200", "{body}");
    lab.netd("status").ok();
    lab.stop_daemon();
    assert!(!lab.log().contains("did not end in time"), "{}", lab.log());
}

fn unusable(lab: &Lab) {
    make_certificates(PKI);
    let good = configuration();
    for (text, words) in [
        (format!("listen = \"127.0.0.1:{PORT}\"\n"), "use the table [api]"),
        (good.replace("key = ", "# key = "), "line 1, [api]: missing: key;"),
        (good.replace("server.key", "none.key"), "[api] key = \"/run/lab/pki/none.key\": No such file"),
        (
            good.replace("server.key", "client.key"),
            "not the key of the first certificate in \"/run/lab/pki/server.pem\"",
        ),
        (good.replace("ca.pem", "ca.key"), "[api] client_ca = \"/run/lab/pki/ca.key\": it contains no certificate"),
    ] {
        fs::write("/run/lab/bad.toml", &text).expect("a configuration");
        let response = lab.netd("daemon --config /run/lab/bad.toml").refused();
        assert!(response.contains(words), "{text}\n{response}");
        assert!(!fs::exists(crate::lab::daemon::SOCKET).expect("a folder"), "nothing was made");
    }
}
