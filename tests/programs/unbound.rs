//! Upstreams over TLS and HTTPS: unbound with a certificate of a private authority.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hickory_proto::rr::RecordType;
use libtest_mimic::Trial;
use netd::faces::dns::{Config, Roots};

use netd_testing::dns::{Lab, addresses, plain, state};
use netd_testing::harness::trial;
use netd_testing::wait::{seen, until_within};

use crate::block_on;

const WEB: &str = "127.1.0.2";

pub(crate) fn trials() -> Vec<Trial> {
    let test = upstreams_over_tls_and_https_are_asked_and_their_certificates_checked;
    vec![trial("unbound: upstreams over TLS and HTTPS are asked and their certificates checked", move || {
        block_on(test())
    })]
}

/// An unbound with the name www.secure.example; it ends with this.
struct Unbound {
    process: Child,
    folder: tempfile::TempDir,
    tls: SocketAddr,
    https: SocketAddr,
}

impl Drop for Unbound {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn openssl(folder: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("openssl").current_dir(folder).args(arguments).output();
    let output = output.map_err(|error| not_installed("openssl", &error))?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// An authority's certificate in NAME.pem with its key.
fn authority(folder: &Path, name: &str) -> Result<(), String> {
    let (key, pem, subject) = (format!("{name}.key"), format!("{name}.pem"), format!("/CN={name}"));
    let mut arguments =
        vec!["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    arguments.extend(["-keyout", &key, "-out", &pem, "-subj", &subject]);
    openssl(folder, &arguments)
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Why the test is ignored.
fn not_installed(program: &str, error: &std::io::Error) -> String {
    format!("{program} does not run: {error} (scripts/test installs it)")
}

/// `Err`: unbound or openssl does not run.
fn unbound() -> Result<Unbound, String> {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path(), "ca")?;
    authority(folder.path(), "other")?;
    let mut request =
        vec!["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "server.key"];
    request.extend(["-out", "server.csr", "-subj", "/CN=server"]);
    openssl(folder.path(), &request)?;
    std::fs::write(folder.path().join("names"), "subjectAltName=DNS:dns.secure.example,IP:127.0.0.1\n").unwrap();
    let mut sign = vec!["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    sign.extend(["-days", "2", "-extfile", "names", "-out", "server.pem"]);
    openssl(folder.path(), &sign)?;
    let (tls, https) = (free_port(), free_port());
    let at = folder.path().display();
    let config = format!(
        "server:\n  interface: {0}@{1}\n  interface: {0}@{2}\n  tls-port: {1}\n  https-port: {2}\n  \
         tls-service-key: \"{at}/server.key\"\n  tls-service-pem: \"{at}/server.pem\"\n  username: \"\"\n  chroot: \"\"\n  \
         directory: \"{at}\"\n  pidfile: \"\"\n  use-syslog: no\n  do-daemonize: no\n  num-threads: 1\n  \
         module-config: \"iterator\"\n  local-zone: \"secure.example.\" static\n  \
         local-data: \"www.secure.example. 60 IN A 192.0.2.5\"\nremote-control:\n  control-enable: no\n",
        tls.ip(),
        tls.port(),
        https.port()
    );
    std::fs::write(folder.path().join("unbound.conf"), config).unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut command = Command::new("unbound");
    command.arg("-d").arg("-c").arg(folder.path().join("unbound.conf"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let process = command.spawn().map_err(|error| not_installed("unbound", &error))?;
    let mut unbound = Unbound { process, folder, tls, https };
    // It cannot tell when it listens.
    until_within(Duration::from_secs(20), "unbound listens", || {
        let log = std::fs::read_to_string(unbound.folder.path().join("log")).unwrap();
        assert!(unbound.process.try_wait().unwrap().is_none(), "unbound ended: {log}");
        seen(log, |_| [tls, https].iter().all(|address| TcpStream::connect(address).is_ok()))
    });
    Ok(unbound)
}

async fn upstreams_over_tls_and_https_are_asked_and_their_certificates_checked() -> Result<(), String> {
    let unbound = tokio::task::spawn_blocking(unbound).await.unwrap()?;
    let (tls, https) = (unbound.tls, unbound.https);
    for (upstream, authority, answer) in [
        (format!("tls://{tls}"), Some("ca.pem"), true),
        (format!("tls://{tls}#dns.secure.example"), Some("ca.pem"), true),
        (format!("https://{https}/dns-query#dns.secure.example"), Some("ca.pem"), true),
        (format!("tls://{tls}#other.example"), Some("ca.pem"), false),
        (format!("https://{https}#other.example"), Some("ca.pem"), false),
        (format!("tls://{tls}"), Some("other.pem"), false),
        (format!("tls://{tls}"), None, false),
    ] {
        let roots = authority.map(|file| Roots::read(&unbound.folder.path().join(file)).unwrap()).unwrap_or_default();
        let config = Config { upstreams: vec![upstream.parse().unwrap()], roots, ..plain(&[]) };
        let lab = Lab::with(config, state()).await;
        let response = lab.ask(WEB, "www.secure.example", RecordType::A).await;
        let expected: &[&str] = if answer { &["192.0.2.5"] } else { &[] };
        assert_eq!(addresses(&response), expected, "{upstream} {authority:?}: {response}");
    }
    Ok(())
}
