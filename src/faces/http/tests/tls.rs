//! Tests the API over TCP: who gets in, what the others see, and that those who are slow hold up nobody.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::faces::shared::server::tls::Tls;

const NAME: &str = "api.example";
/// For what must happen soon.
const SOON: Duration = Duration::from_secs(10);

type Authority = CertifiedIssuer<'static, KeyPair>;

/// A certificate and its key.
struct Pair {
    certificate: String,
    key: String,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn signed(by: &Issuer<'static, KeyPair>, change: impl FnOnce(&mut CertificateParams)) -> Pair {
    let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    Pair { certificate: params.signed_by(&key, by).unwrap().pem(), key: key.serialize_pem() }
}

/// A served API over TLS.
struct Served {
    address: SocketAddr,
    /// Signs the certificates of the server and of its clients.
    authority: Authority,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn served() -> Served {
    let authority = authority("ours");
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let own = signed(&authority, |_| {});
    let tls = Tls::read(&write("cert", &own.certificate), &write("key", &own.key), &write("ca", &authority.pem()));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = crate::faces::http::router(testing::engine(), testing::names(), Arc::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move { drop(stopped.await) };
    let server = tokio::spawn(serve::serve_tls(listener, tls.unwrap(), router, Capacity::default(), stopped));
    Served { address, authority, stop, server }
}

impl Served {
    fn client(&self) -> Pair {
        signed(&self.authority, |_| {})
    }

    /// A connection with this certificate, as far as the client can tell: with TLS 1.3 it learns of a refusal when it
    /// reads.
    async fn connect(
        &self,
        with: Option<&Pair>,
        version: &'static SupportedProtocolVersion,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match with {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME).unwrap(), stream).await
    }

    /// The whole reply to a request with these header lines.
    async fn ask(
        &self,
        with: Option<&Pair>,
        version: &'static SupportedProtocolVersion,
        head: &str,
    ) -> Result<String, AlertDescription> {
        let asked = async {
            let mut stream = self.connect(with, version).await?;
            // The refusal may arrive before.
            let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).await;
            let mut reply = String::new();
            stream.read_to_string(&mut reply).await.map(|_| reply)
        };
        timeout(SOON, asked).await.unwrap().map_err(|error| alert(&error))
    }
}

fn alert(error: &std::io::Error) -> AlertDescription {
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        _ => panic!("{error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_certificate_of_the_authority_lets_a_client_in() {
    let api = served().await;
    let client = api.client();
    let other = signed(&authority("other"), |_| {});
    let expired = signed(&api.authority, |params| params.not_after = date_time_ymd(2020, 1, 1));
    let of_server =
        signed(&api.authority, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let head = format!("GET /v1/status HTTP/1.1\r\nHost: {NAME}\r\n");
    for version in [&version::TLS12, &version::TLS13] {
        let reply = api.ask(Some(&client), version, &head).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 200 ") && reply.contains("\"ready\""), "{reply}");
        for (with, alert) in [
            (None, AlertDescription::CertificateRequired),
            (Some(&other), AlertDescription::UnknownCA),
            (Some(&expired), AlertDescription::CertificateExpired),
            (Some(&of_server), AlertDescription::UnsupportedCertificate),
        ] {
            assert_eq!(api.ask(with, version, &head).await, Err(alert), "{version:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_client_may_send_its_request_before_it_reads_the_alert() {
    let api = served().await;
    let mut stream = api.connect(None, &version::TLS13).await.unwrap();
    timeout(SOON, stream.get_ref().0.readable()).await.unwrap().unwrap();
    for _ in 0..4 {
        stream.write_all(&[b'x'; 1000]).await.unwrap();
        stream.flush().await.unwrap();
    }
    let error = timeout(SOON, stream.read(&mut [0; 1])).await.unwrap().unwrap_err();
    assert_eq!(alert(&error), AlertDescription::CertificateRequired);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_gets_no_reply() {
    let api = served().await;
    let mut stream = TcpStream::connect(api.address).await.unwrap();
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut reply = Vec::new();
    timeout(SOON, stream.read_to_end(&mut reply)).await.unwrap().unwrap();
    // RFC 8446, 5.1 and 6: content type alert (21), version, the length of level and description.
    assert!(reply.is_empty() || reply.len() == 7 && reply[0] == 21 && reply[3..5] == [0, 2], "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_over_tls_names_the_server_declares_its_body_and_comes_from_no_web_page() {
    let api = served().await;
    let client = api.client();
    let ask = async |head: &str| api.ask(Some(&client), &version::TLS13, head).await.unwrap();
    for host in [NAME, "API.example:9443", "127.0.0.1", "192.0.2.1:9443", "localhost"] {
        let reply = ask(&format!("GET /v1/networks HTTP/1.1\r\nHost: {host}\r\n")).await;
        assert!(reply.starts_with("HTTP/1.1 200 "), "{host}: {reply}");
    }
    let post = format!("POST /v1/networks HTTP/1.1\r\nHost: {NAME}\r\nTransfer-Encoding: chunked\r\n");
    for (head, status, code) in [
        ("GET /v1/networks HTTP/1.1\r\nHost: evil.example\r\n".to_owned(), "421", "misdirected"),
        ("GET /v1/networks HTTP/1.1\r\n".to_owned(), "400", "invalid"),
        (format!("GET /v1/networks HTTP/1.1\r\nHost: {NAME}\r\nOrigin: https://{NAME}\r\n"), "403", "forbidden"),
        (format!("GET /v1/networks HTTP/1.1\r\nHost: {NAME}\r\nSec-Fetch-Site: cross-site\r\n"), "403", "forbidden"),
        (post.clone(), "415", "unsupported_media_type"),
        (format!("{post}Content-Type: text/plain\r\n"), "415", "unsupported_media_type"),
    ] {
        let reply = ask(&head).await;
        let (head_of_reply, body) = reply.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(head_of_reply.split(' ').nth(1), Some(status), "{head}: {reply}");
        assert_eq!(body["error"]["code"], code, "{head}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_say_nothing_hold_up_neither_others_nor_the_end() {
    let api = served().await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(api.address).await.unwrap());
    }
    let client = api.client();
    let mut stream = timeout(SOON, api.connect(Some(&client), &version::TLS13)).await.unwrap().unwrap();
    let body = r#"{"name":"net1"}"#;
    let length = body.len();
    let request = format!(
        "GET /v1/events HTTP/1.1\r\nHost: {NAME}\r\n\r\nPOST /v1/networks HTTP/1.1\r\nHost: {NAME}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let (events, post) = request.split_at(request.find("POST").unwrap());
    stream.write_all(events.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    timeout(SOON, stream.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(&first, b"HTTP/1.1 200", "an event stream begins");
    let mut other = api.connect(Some(&client), &version::TLS13).await.unwrap();
    other.write_all(post.as_bytes()).await.unwrap();
    timeout(SOON, other.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(&first, b"HTTP/1.1 201");
    api.stop.send(()).unwrap();
    let mut rest = String::new();
    timeout(SOON, stream.read_to_string(&mut rest)).await.unwrap().expect("TLS is closed in order");
    assert!(rest.contains("network net1 created") && rest.ends_with("0\r\n\r\n"), "{rest}");
    // Sooner than the time that a handshake may take, or requests in progress.
    timeout(Duration::from_secs(3), api.server).await.unwrap().unwrap().unwrap();
    for mut stream in silent {
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
    }
}
