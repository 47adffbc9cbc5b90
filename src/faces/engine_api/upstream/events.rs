//! The engine's events, without those of networks, which are netd's.

use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::http::header::HOST;
use axum::http::{Request, Uri};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use serde_json::Value;

use super::Upstream;
use crate::faces::engine_api::Asked;
use crate::faces::engine_api::failure::Failure;
use crate::faces::shared::client::segment;

/// The longest event that is passed on, in bytes.
const EVENT_MAX: usize = 1 << 20;

impl Upstream {
    /// The engine's events that the query asks for, between these points in time instead of its own; the stream ends
    /// when the engine ends it.
    pub(in crate::faces::engine_api) async fn events(
        &self,
        asked: &Asked,
        since: Option<String>,
        until: Option<String>,
    ) -> Result<BoxStream<'static, Value>, Failure> {
        let uri = between(&asked.upstream, since, until);
        let request = Request::builder().uri(uri).header(HOST, "netd").body(Body::empty());
        let request = request.map_err(|error| self.unreachable(error))?;
        let reply = self.send(request).await?;
        if !reply.status().is_success() {
            self.read(reply).await?.value()?;
            return Ok(stream::empty().boxed());
        }
        let chunks = Body::new(reply.into_body()).into_data_stream().filter_map(|chunk| std::future::ready(chunk.ok()));
        let events = chunks.scan(Vec::new(), |kept: &mut Vec<u8>, chunk: Bytes| {
            kept.extend(&chunk);
            let events = take(kept);
            std::future::ready((kept.len() <= EVENT_MAX).then(|| stream::iter(events)))
        });
        Ok(events.flatten().filter(|event| std::future::ready(event["Type"] != "network")).boxed())
    }
}

/// Path and query with these points in time.
fn between(uri: &Uri, since: Option<String>, until: Option<String>) -> String {
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri).map(|Query(pairs)| pairs).unwrap_or_default();
    let others = pairs.into_iter().filter(|(key, _)| !matches!(key.as_str(), "since" | "until"));
    let bounds = [("since", since), ("until", until)];
    let bounds = bounds.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    let query: Vec<String> =
        others.chain(bounds).map(|(key, value)| format!("{}={}", segment(&key), segment(&value))).collect();
    format!("{}?{}", uri.path(), query.join("&"))
}

/// Takes the whole values from the beginning of the buffer.
fn take(kept: &mut Vec<u8>) -> Vec<Value> {
    let (mut events, mut read) = (Vec::new(), 0);
    {
        let mut values = serde_json::Deserializer::from_slice(kept).into_iter::<Value>();
        while let Some(Ok(value)) = values.next() {
            read = values.byte_offset();
            events.push(value);
        }
    }
    kept.drain(..read);
    events
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bounds_take_the_place_of_those_of_the_query() {
        let uri = "/v1.41/events?since=1&filters=%7B%22a%22%3A1%7D&until=9".parse().unwrap();
        let asked = between(&uri, None, Some("5.000000001".into()));
        assert_eq!(asked, "/v1.41/events?filters=%7B%22a%22%3A1%7D&until=5.000000001");
        assert_eq!(between(&"/events".parse().unwrap(), Some("2".into()), None), "/events?since=2");
    }

    #[test]
    fn values_may_come_in_pieces() {
        let mut kept = br#"{"a":1}{"b":2}
{"c""#
            .to_vec();
        assert_eq!(take(&mut kept), [json!({"a": 1}), json!({"b": 2})]);
        kept.extend(b":3}\n");
        assert_eq!(take(&mut kept), [json!({"c": 3})]);
        assert_eq!(take(&mut kept), [] as [Value; 0]);
        assert!(kept.len() <= 1);
    }
}
