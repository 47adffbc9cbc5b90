//! Tests that a client that stops reading its reply loses the connection, with TLS and without.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use axum::routing::get;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::*;

const NAME: &str = "api.example";
/// Shorter than that of a daemon, but long enough for a busy machine to read the first bytes.
const PATIENCE: Duration = Duration::from_secs(1);
/// For what must happen soon.
const SOON: Duration = Duration::from_secs(20);

/// A certificate that signs itself, for both ends.
fn tls() -> (Tls, TlsConnector) {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = ["cert", "key"].map(|name| folder.path().join(name));
    let CertifiedKey { cert: own, signing_key } = generate_simple_self_signed([NAME.to_owned()]).unwrap();
    std::fs::write(&cert, own.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    let certificate = CertificateDer::from_pem_file(&cert).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let client = builder.with_client_auth_cert(vec![certificate], PrivateKeyDer::from_pem_file(&key).unwrap());
    (Tls::read(&cert, &key, &cert).unwrap(), TlsConnector::from(Arc::new(client.unwrap())))
}

/// A reply that never ends, and word of its end.
fn endless() -> (Router, oneshot::Receiver<Infallible>) {
    let (guard, ended) = oneshot::channel::<Infallible>();
    let guard = Arc::new(Mutex::new(Some(guard)));
    let reply = move || {
        let held = guard.lock().unwrap().take();
        let chunk = move || {
            let _held = &held;
            Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 64 << 10]))
        };
        std::future::ready(Body::from_stream(tokio_stream::iter(std::iter::repeat_with(chunk))))
    };
    (Router::new().route("/", get(reply)), ended)
}

/// Asks, reads the beginning of the reply, and then nothing until the server has given up.
async fn stall(mut client: impl AsyncRead + AsyncWrite + Unpin, ended: oneshot::Receiver<Infallible>) {
    client.write_all(format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n").as_bytes()).await.unwrap();
    let mut first = [0; 12];
    timeout(SOON, client.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    timeout(SOON, ended).await.expect("the reply was dropped").unwrap_err();
    // What the kernel had taken may still arrive, then the connection ends.
    let mut rest = vec![0; 64 << 10];
    let end = async { while client.read(&mut rest).await.is_ok_and(|length| length > 0) {} };
    timeout(SOON, end).await.expect("the connection was closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stops_reading_is_disconnected() {
    for over_tls in [false, true] {
        let (tls, connector) = tls();
        let (router, ended) = endless();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let hosts = Hosts::OfCertificate(tls.certificate());
        let server = Server::new(router, Capacity::default(), hosts);
        let server = Server { tls: over_tls.then_some(tls), stuck: PATIENCE, ..server };
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(Listener::Tcp(listener), server, async move { drop(stopped.await) }));
        let client = TcpStream::connect(address).await.unwrap();
        if over_tls {
            stall(connector.connect(ServerName::try_from(NAME).unwrap(), client).await.unwrap(), ended).await;
        } else {
            stall(client, ended).await;
        }
        drop(stop);
        timeout(SOON, serving).await.unwrap().unwrap().unwrap();
    }
}
