//! Name servers over connections: TCP for answers that are too long for UDP, TLS and HTTPS if the configuration says
//! so. hickory opens and reuses the connections, except those within a container, which carry one question each.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt as _;
use hickory_proto::op::{DnsRequest, DnsRequestOptions, Message, ResponseCode};
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverOpts, ServerOrderingStrategy,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::DnsHandle as _;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Failure, PATIENCE};
use crate::engine::listener::Resolver;
use crate::faces::dns::message::reply::Reply;
use crate::model::upstream::{Transport, Upstream};

/// In-flight questions of one connection.
const UNDER_WAY: usize = 16_384;

/// One server over connections.
pub(super) type Pool = NameServerPool<TokioRuntimeProvider>;

/// The certificate authorities to trust: Mozilla's list, and further ones.
#[derive(Clone, Default)]
pub struct Roots(Vec<CertificateDer<'static>>);

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.0.len())
    }
}

impl Roots {
    /// Reads the certificates of a PEM file (RFC 7468). The error says what is wrong with the file.
    pub fn read(file: &Path) -> Result<Self, String> {
        let wrong = |why: String| format!("read the certificates in {}: {why}", file.display());
        let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let certificates = read.map_err(|error| wrong(error.to_string()))?;
        if certificates.is_empty() {
            return Err(wrong("there is none: use PEM, \"-----BEGIN CERTIFICATE-----\"".into()));
        }
        for certificate in &certificates {
            let mut store = rustls::RootCertStore::empty();
            store.add(certificate.clone()).map_err(|error| wrong(error.to_string()))?;
        }
        Ok(Self(certificates))
    }
}

/// The settings that all pools share.
pub(super) fn context(roots: &Roots) -> Result<Arc<PoolContext>, String> {
    let mut store = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    store.add_parsable_certificates(roots.0.iter().cloned());
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(store)
        .with_no_client_auth();
    let mut options = ResolverOpts::default();
    options.timeout = PATIENCE;
    options.num_concurrent_reqs = 1;
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    options.max_active_requests = UNDER_WAY;
    Ok(Arc::new(PoolContext::new(options, TlsConfig { config })))
}

/// A pool of one server. netd orders several servers itself, because their order has a meaning.
pub(super) fn pool(upstream: &Upstream, context: Arc<PoolContext>) -> Pool {
    let ip = upstream.address.ip();
    let name = |name: &Option<_>| Arc::from(name.as_ref().map_or_else(|| ip.to_string(), |name| format!("{name}")));
    let protocol = match &upstream.transport {
        Transport::Plain => ProtocolConfig::Tcp,
        Transport::Tls { name: certified } => ProtocolConfig::Tls { server_name: name(certified) },
        Transport::Https { name: certified, path } => {
            ProtocolConfig::Https { server_name: name(certified), path: path.as_str().into() }
        }
    };
    let mut connection = ConnectionConfig::new(protocol);
    connection.port = upstream.address.port();
    let server = NameServerConfig::new(ip, true, vec![connection]);
    NameServerPool::from_config([server], context, TokioRuntimeProvider::default())
}

/// Asks the server.
pub(super) async fn ask(pool: &Pool, message: Message) -> Result<Reply, Failure> {
    let request = DnsRequest::new(message, DnsRequestOptions::default());
    match pool.send(request).next().await.unwrap_or(Err(NetError::NoConnections)) {
        Ok(response) => Ok(super::reply(response.into_message())),
        // hickory turns every reply without an answer into an error.
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            let soa = || none.soa.map(|soa| vec![soa.into_record_of_rdata()]).unwrap_or_default();
            let authorities = none.authorities.map_or_else(soa, |records| records.to_vec());
            Ok(Reply { authorities, ..Reply::error(none.response_code) })
        }
        Err(NetError::Dns(DnsError::ResponseCode(code @ (ResponseCode::ServFail | ResponseCode::Refused)))) => {
            Err(Failure::Said(code))
        }
        Err(NetError::Dns(DnsError::ResponseCode(code))) => Ok(Reply::error(code)),
        Err(NetError::Timeout) => Err(Failure::Silent),
        Err(error) => Err(Failure::Unreachable(error.to_string())),
    }
}

/// Asks the resolver in a container.
pub(super) async fn ask_within(resolver: Arc<Resolver>, message: Message) -> Result<Reply, Failure> {
    let question = message.to_vec().map_err(|error| Failure::Unreadable(error.to_string()))?;
    let answer = exchange(resolver, &question).await.map_err(|error| Failure::Unreachable(error.to_string()))?;
    let answer = Message::from_vec(&answer).map_err(|error| Failure::Unreadable(error.to_string()))?;
    match answer.metadata.response_code {
        code @ (ResponseCode::ServFail | ResponseCode::Refused) => Err(Failure::Said(code)),
        _ if answer.metadata.id != message.metadata.id => Err(Failure::Unreadable("another question's answer".into())),
        _ => Ok(super::reply(answer)),
    }
}

/// Exchanges messages with their length prefix (RFC 1035, 4.2.2).
async fn exchange(resolver: Arc<Resolver>, question: &[u8]) -> io::Result<Vec<u8>> {
    let stream = tokio::task::spawn_blocking(move || resolver.tcp()).await??;
    let mut stream = TcpStream::from_std(stream)?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
