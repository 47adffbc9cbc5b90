//! Checks of requests to the API over TCP. Every client that reaches the address may do everything, and the address is
//! a loopback address. Of the programs on this host, web browsers send requests on behalf of others. A web page cannot
//! forge `Host` and `Origin`, and cannot send JSON without permission.

use std::net::IpAddr;

use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, TRANSFER_ENCODING};
use axum::http::{HeaderMap, HeaderValue, Request, uri};

use super::extract::is_json;
use super::problem::Problem;

/// Returns the problem with a request, if there is one.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Problem> {
    let headers = request.headers();
    let host = one(headers, &HOST);
    if !host.is_some_and(is_this_host) {
        let given = host.map_or("absent".into(), |host| format!("{host:?}"));
        return Err(Problem::forbidden(format!("Host is {given}: use localhost, 127.0.0.1 or [::1]")));
    }
    if headers.contains_key(ORIGIN) {
        return Err(Problem::forbidden("Origin is given: web pages may not use this API"));
    }
    let empty = headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0");
    let has_body = !empty || headers.contains_key(TRANSFER_ENCODING);
    match headers.get(CONTENT_TYPE) {
        Some(given) if !is_json(given.as_bytes()) => Err(Problem::media_type(&lossy(given))),
        None if has_body => Err(Problem::media_type("")),
        _ => Ok(()),
    }
}

/// The value of the header, if it occurs exactly once.
fn one<'a>(headers: &'a HeaderMap, name: &axum::http::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// `localhost` or a loopback address, with or without port.
fn is_this_host(host: &str) -> bool {
    let Ok(authority) = host.parse::<uri::Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host();
    let ip = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || ip.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn lossy(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().uri("/v1/networks");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap()).is_ok()
    }

    #[test]
    fn only_programs_of_this_host_pass() {
        for (host, right) in [
            ("localhost", true),
            ("LocalHost:9443", true),
            ("127.0.0.1:9443", true),
            ("127.9.9.9", true),
            ("[::1]:9443", true),
            ("[::ffff:127.0.0.1]", true),
            ("evil.example", false),
            ("evil.example:9443", false),
            ("localhost.evil.example", false),
            ("user@localhost", false),
            ("192.0.2.1", false),
            ("[fe80::1]", false),
            ("", false),
        ] {
            assert_eq!(passes(&[("host", host)]), right, "{host}");
        }
        assert!(!passes(&[]));
        assert!(!passes(&[("host", "localhost"), ("host", "evil.example")]));
        assert!(!passes(&[("host", "localhost"), ("origin", "http://localhost")]));
        let body = ("content-length", "2");
        assert!(!passes(&[("host", "localhost"), body]));
        assert!(!passes(&[("host", "localhost"), ("transfer-encoding", "chunked")]));
        assert!(!passes(&[("host", "localhost"), body, ("content-type", "text/plain")]));
        assert!(passes(&[("host", "localhost"), body, ("content-type", "application/json")]));
        assert!(passes(&[("host", "localhost"), ("content-length", "0")]));
    }
}
