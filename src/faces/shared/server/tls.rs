//! Mutual TLS: the files with certificates and key, and the handshake.
//!
//! Every client shows a certificate of the configured authorities; without one it gets a TLS alert and nothing else.
//! Sessions are not resumed, so that each connection checks the certificate again, also whether it has expired.

use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::socket::Wire;

/// How long a refused client may take to read the alert.
const PARTING: Duration = Duration::from_secs(1);

/// What a listener shows its clients, and whom it accepts.
#[derive(Debug, Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    certificate: Arc<CertificateDer<'static>>,
}

/// Why TLS cannot be set up: the setting, its file, and what is wrong with that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} = {file:?}: {why}")]
pub struct TlsError {
    setting: &'static str,
    file: String,
    why: String,
}

/// A file and the setting that names it.
#[derive(Clone, Copy)]
struct Pem<'a> {
    setting: &'static str,
    file: &'a Path,
}

impl Pem<'_> {
    fn wrong(self, why: &dyn Display) -> TlsError {
        TlsError { setting: self.setting, file: self.file.display().to_string(), why: why.to_string() }
    }

    fn read(self) -> Result<Vec<u8>, TlsError> {
        fs::read(self.file).map_err(|error| self.wrong(&error))
    }

    /// The certificates, at least one.
    fn certificates(self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.read()?).collect();
        let certificates = read.map_err(|error| self.wrong(&error))?;
        match certificates.is_empty() {
            true => Err(self.wrong(&"it contains no certificate: use PEM, \"-----BEGIN CERTIFICATE-----\"")),
            false => Ok(certificates),
        }
    }

    fn key(self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let pem = self.read()?;
        match PrivateKeyDer::from_pem_slice(&pem) {
            Err(rustls::pki_types::pem::Error::NoItemsFound) => {
                let why = "it contains no private key without passphrase: use PEM, \"-----BEGIN PRIVATE KEY-----\"";
                Err(self.wrong(&why))
            }
            read => read.map_err(|error| self.wrong(&error)),
        }
    }
}

impl Tls {
    /// Reads the PEM files: the certificate of this server, followed by those of intermediate authorities; its key; the
    /// certificates of the authorities that sign those of clients.
    pub fn read(cert: &Path, key: &Path, client_ca: &Path) -> Result<Self, TlsError> {
        let cert = Pem { setting: "cert", file: cert };
        let key = Pem { setting: "key", file: key };
        let client_ca = Pem { setting: "client_ca", file: client_ca };
        let provider = Arc::new(rustls::crypto::ring::default_provider());

        let mut authorities = RootCertStore::empty();
        for certificate in client_ca.certificates()? {
            authorities.add(certificate).map_err(|error| client_ca.wrong(&error))?;
        }
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider.clone()).build();
        let clients = clients.map_err(|error| client_ca.wrong(&error))?;

        let chain = cert.certificates()?;
        let certificate = Arc::new(chain[0].clone());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| cert.wrong(&error))?.with_client_cert_verifier(clients);
        let mut config = builder.with_single_cert(chain, key.key()?).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                key.wrong(&format!("it is not the key of the first certificate in {:?}", cert.file))
            }
            error @ rustls::Error::InvalidCertificate(_) => cert.wrong(&error),
            error => key.wrong(&error),
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), certificate })
    }

    /// The certificate of this server.
    pub(super) fn certificate(&self) -> Arc<CertificateDer<'static>> {
        self.certificate.clone()
    }

    /// The handshake. `None` if it fails or takes longer than `patience`.
    pub(super) async fn accept(self, wire: Wire, patience: Duration) -> Option<TlsStream<Wire>> {
        match timeout(patience, TlsAcceptor::from(self.config).accept(wire).into_fallible()).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err((error, wire))) => {
                tracing::debug!("TLS handshake with a client of the API: {error}");
                let _ = timeout(PARTING, part(wire)).await;
            }
            Err(_) => tracing::debug!("a client of the API did not finish the TLS handshake in time"),
        }
        None
    }
}

/// Waits until the client has closed the connection. The alert has been sent; closing before everything that the client
/// sent has been read would reset the connection, and the client might lose the alert.
async fn part(mut wire: Wire) {
    let mut ignored = [0; 4096];
    let _ = wire.shutdown().await;
    while wire.read(&mut ignored).await.is_ok_and(|length| length > 0) {}
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;
    use crate::faces::shared::server::socket::Socket;

    #[tokio::test]
    async fn a_silent_client_is_not_waited_for_longer_than_asked() {
        let folder = tempfile::tempdir().unwrap();
        let [cert, key] = ["cert", "key"].map(|name| folder.path().join(name));
        let CertifiedKey { cert: own, signing_key } = generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        fs::write(&cert, own.pem()).unwrap();
        fs::write(&key, signing_key.serialize_pem()).unwrap();
        let tls = Tls::read(&cert, &key, &cert).unwrap();
        let (ours, mut theirs) = tokio::net::UnixStream::pair().unwrap();
        let wire = Wire::new(Arc::new(Socket::Unix(ours)), PARTING);
        let accepted = timeout(Duration::from_secs(10), tls.accept(wire, Duration::from_millis(1))).await;
        assert!(accepted.unwrap().is_none());
        assert_eq!(theirs.read(&mut [0; 1]).await.unwrap(), 0, "it is closed");
    }

    #[test]
    fn an_error_names_the_setting_and_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a", "b"] {
            let CertifiedKey { cert, signing_key } = generate_simple_self_signed([format!("{name}.example")]).unwrap();
            fs::write(path(&format!("{name}.pem")), cert.pem()).unwrap();
            fs::write(path(&format!("{name}.key")), signing_key.serialize_pem()).unwrap();
        }
        fs::write(path("empty"), "").unwrap();
        fs::write(path("bad.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        fs::write(path("bad.key"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        fs::write(path("cut.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
        let read = |[cert, key, client_ca]: [&str; 3]| Tls::read(&path(cert), &path(key), &path(client_ca));
        read(["a.pem", "a.key", "b.pem"]).unwrap();
        for (files, setting, words) in [
            (["none", "a.key", "b.pem"], "cert", "No such file"),
            (["a.pem", "none", "b.pem"], "key", "No such file"),
            (["a.pem", "a.key", "none"], "client_ca", "No such file"),
            (["empty", "a.key", "b.pem"], "cert", "contains no certificate"),
            (["a.pem", "empty", "b.pem"], "key", "contains no private key"),
            (["a.pem", "a.pem", "b.pem"], "key", "contains no private key"),
            (["a.pem", "a.key", "empty"], "client_ca", "contains no certificate"),
            (["a.pem", "a.key", "a.key"], "client_ca", "contains no certificate"),
            (["a.pem", "b.key", "b.pem"], "key", "not the key of the first certificate in"),
            (["bad.pem", "a.key", "b.pem"], "cert", "invalid peer certificate"),
            (["a.pem", "bad.key", "b.pem"], "key", "key"),
            (["a.pem", "a.key", "bad.pem"], "client_ca", "invalid"),
            (["a.pem", "a.key", "cut.pem"], "client_ca", "missing section end"),
        ] {
            let error = read(files).unwrap_err().to_string();
            let index = ["cert", "key", "client_ca"].iter().position(|known| *known == setting).unwrap();
            let start = format!("{setting} = {:?}: ", path(files[index]));
            assert!(error.starts_with(&start) && error.contains(words), "{files:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
