//! Checks of each request before its route sees it: `Host`, signs of a web page, and the type of the body.
//!
//! A browser sends requests on behalf of web pages from anywhere, from a place that may reach the listener. What a page
//! cannot do decides what is checked. It cannot forge `Origin` and `Sec-Fetch-Site`, and it cannot send JSON without
//! permission. It can have its own name resolve to the listener's address, so that the browser takes the listener for
//! the page's own server (DNS rebinding); then `Host` is that name, which is public and contains a dot. So an IP address
//! and `localhost`, which a browser resolves itself, are accepted everywhere; [`Hosts`] says what else.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::HttpBody;
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, uri};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;

use super::problem::Problem;
use crate::model::names::DnsName;

/// Set by browsers: whether the page that caused the request is of the same origin (Fetch Metadata). `none`: no page,
/// the user typed the address.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Which names a listener's clients may call it by.
#[derive(Debug, Clone)]
pub(super) enum Hosts {
    /// Names without a dot, and none. A unix socket has no name, so clients invent one: `netd`, `d`, `docker`. No page
    /// reaches the socket, unless someone forwards a port to it (ssh, socat): then a page's own name must not pass.
    WithoutDot,
    /// As `WithoutDot`, on a unix socket whose only client sends JSON without saying so: Docker (moby, pkg/plugins).
    Plugin,
    /// Anything, as Docker: programs (Portainer) pass on to the Engine API what a browser sent them. No page reaches the
    /// unix socket itself.
    Any,
    /// The names that this certificate of the server is valid for. Clients compare them too, so that a page's own name
    /// gets no further than the handshake, unless the user has the browser ignore that. A browser that has a client
    /// certificate uses it for every page: those of other origins are refused by `Origin` and `Sec-Fetch-Site`.
    OfCertificate(Arc<CertificateDer<'static>>),
    /// Names without a dot and these names, in lower case, for public content. Other pages cannot read a reply because
    /// of the browser's same-origin policy, so only rebinding matters, and links from other pages are followed.
    Public(Arc<[String]>),
}

impl Hosts {
    /// For public content of a machine that has these names.
    pub(super) fn public(names: &[DnsName]) -> Self {
        Self::Public(names.iter().map(DnsName::key).collect())
    }

    /// Whether pages of other origins are refused.
    fn refuse_pages(&self) -> bool {
        !matches!(self, Self::Public(_))
    }

    fn include(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let without_dot = !name.contains('.');
        match self {
            Self::Any => true,
            Self::WithoutDot | Self::Plugin => without_dot,
            Self::OfCertificate(certificate) => is_valid_for(certificate, &name),
            Self::Public(names) => without_dot && !name.is_empty() || names.contains(&name),
        }
    }

    /// What to send instead of a name that is not included.
    fn advice(&self) -> &'static str {
        match self {
            Self::WithoutDot | Self::Plugin | Self::Any => "use localhost",
            Self::OfCertificate(_) => "use a name that the server's certificate is valid for, or an IP address",
            Self::Public(_) => "use an IP address, or list the name in `hosts` of [metrics] in netd.toml",
        }
    }
}

/// Returns the problem with a request, if there is one.
pub(super) fn check<B: HttpBody>(request: &Request<B>, hosts: &Hosts) -> Result<(), Problem> {
    if matches!(hosts, Hosts::Any) {
        return Ok(());
    }
    let headers = request.headers();
    let Some(host) = one(headers, &HOST) else {
        return Err(Problem::invalid("the request does not have exactly one Host header: send one, such as localhost"));
    };
    // Clients of a proxy send a whole URL, which may name another host.
    let named = [Some(host), request.uri().authority().map(uri::Authority::as_str)];
    if let Some(wrong) = named.into_iter().flatten().find(|host| !is_accepted(host, hosts)) {
        return Err(Problem::misdirected(format!("Host is {wrong:?}: {}", hosts.advice())));
    }
    let fetched = |site: &HeaderValue| site != "none";
    if hosts.refuse_pages() && (headers.contains_key(ORIGIN) || headers.get(SEC_FETCH_SITE).is_some_and(fetched)) {
        return Err(Problem::forbidden("Origin or Sec-Fetch-Site is given: web pages may not use this API"));
    }
    match headers.get(CONTENT_TYPE) {
        Some(given) if !is_json(given.as_bytes()) => Err(Problem::media_type(&lossy(given))),
        None if !request.body().is_end_stream() && !matches!(hosts, Hosts::Plugin) => Err(Problem::media_type("")),
        _ => Ok(()),
    }
}

/// The value of the header, if it occurs exactly once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Whether it is an IP address, `localhost` or one of the names, with or without port.
fn is_accepted(host: &str, hosts: &Hosts) -> bool {
    if host.is_empty() {
        return hosts.include(host);
    }
    let Ok(authority) = host.parse::<uri::Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host();
    let ip = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    ip.parse::<IpAddr>().is_ok() || is_localhost(name) || hosts.include(name)
}

fn is_valid_for(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let (Ok(certificate), Ok(name)) = (ParsedCertificate::try_from(certificate), ServerName::try_from(name)) else {
        return false;
    };
    verify_server_name(&certificate, &name).is_ok()
}

/// `localhost` or a name below it, which never leaves the machine (RFC 6761, 6.3).
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// `application/json`, with or without parameters.
fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(b"application/json")
}

fn lossy(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::response::IntoResponse as _;

    use super::*;

    /// The status of the refusal; 0 if the request passes.
    fn refused(hosts: &Hosts, uri: &str, headers: &[(&str, &str)], body: &'static str) -> u16 {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body)).unwrap();
        check(&request, hosts).map_or_else(|problem| problem.into_response().status().as_u16(), |()| 0)
    }

    fn public() -> Hosts {
        Hosts::public(&["Node.Example".parse().unwrap()])
    }

    fn of_certificate() -> Hosts {
        let names = ["api.example".to_owned(), "*.wild.example".to_owned()];
        Hosts::OfCertificate(Arc::new(rcgen::generate_simple_self_signed(names).unwrap().cert.der().clone()))
    }

    #[test]
    fn a_name_that_a_web_page_can_have_does_not_pass() {
        let all = [Hosts::WithoutDot, of_certificate(), public()];
        for (host, statuses) in [
            ("localhost", [0, 0, 0]),
            ("LocalHost:9443", [0, 0, 0]),
            ("api.moby.localhost", [0, 0, 0]),
            ("127.0.0.1:9443", [0, 0, 0]),
            ("192.0.2.1", [0, 0, 0]),
            ("[2001:db8::1]:9443", [0, 0, 0]),
            ("[::ffff:127.0.0.1]", [0, 0, 0]),
            ("netd", [0, 421, 0]),
            ("d", [0, 421, 0]),
            ("node:9153", [0, 421, 0]),
            ("", [0, 421, 421]),
            ("node.example:9153", [421, 421, 0]),
            ("NODE.example.", [421, 421, 0]),
            ("api.example:9443", [421, 0, 421]),
            ("API.example", [421, 0, 421]),
            ("a.wild.example", [421, 0, 421]),
            ("evil.node.example", [421, 421, 421]),
            ("evil.api.example", [421, 421, 421]),
            ("evil.example", [421, 421, 421]),
            ("evil.example:9443", [421, 421, 421]),
            ("localhost.evil.example", [421, 421, 421]),
            ("evillocalhost.example", [421, 421, 421]),
            ("user@localhost", [421, 421, 421]),
            ("localhost, evil.example", [421, 421, 421]),
        ] {
            let refusals = all.each_ref().map(|hosts| refused(hosts, "/v1/networks", &[("host", host)], ""));
            assert_eq!(refusals, statuses, "{host:?}");
        }
        for hosts in &all {
            assert_eq!(refused(hosts, "/", &[], ""), 400);
            assert_eq!(refused(hosts, "/", &[("host", "localhost"), ("host", "evil.example")], ""), 400);
            assert_eq!(refused(hosts, "http://evil.example/", &[("host", "localhost")], ""), 421);
            assert_eq!(refused(hosts, "http://localhost/", &[("host", "localhost")], ""), 0);
        }
    }

    #[test]
    fn a_web_page_may_fetch_public_content_only() {
        for (hosts, status) in [(Hosts::WithoutDot, 403), (of_certificate(), 403), (public(), 0)] {
            let refusals = |name, value| refused(&hosts, "/", &[("host", "localhost"), (name, value)], "");
            assert_eq!(refusals("origin", "http://localhost"), status);
            assert_eq!(refusals("origin", "null"), status);
            assert_eq!(refusals("sec-fetch-site", "cross-site"), status);
            assert_eq!(refusals("sec-fetch-site", "same-site"), status);
            assert_eq!(refusals("sec-fetch-site", "none"), 0, "the user typed the address");
        }
    }

    #[test]
    fn a_body_is_declared_as_json() {
        for (kind, body, status) in [
            (None, "", 0),
            (None, "{}", 415),
            (Some("application/json"), "{}", 0),
            (Some("Application/JSON; charset=utf-8"), "{}", 0),
            (Some("application/json-patch+json"), "{}", 415),
            (Some("application/jsonx"), "{}", 415),
            (Some("text/plain"), "{}", 415),
            (Some("application/x-www-form-urlencoded"), "", 415),
        ] {
            let mut headers = vec![("host", "localhost")];
            headers.extend(kind.map(|kind| ("content-type", kind)));
            for hosts in [Hosts::WithoutDot, of_certificate(), public()] {
                assert_eq!(refused(&hosts, "/", &headers, body), status, "{kind:?} {body:?}");
            }
        }
    }
}
