//! The engine's events, without those of networks, which are netd's.

use axum::body::{Body, Bytes};
use axum::http::Request;
use axum::http::header::HOST;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use serde_json::Value;

use super::Upstream;
use crate::faces::engine_api::Asked;
use crate::faces::engine_api::failure::Failure;

/// The longest event that is passed on, in bytes.
const EVENT_MAX: usize = 1 << 20;

impl Upstream {
    /// The engine's events that the query asks for; the stream ends when the engine ends it.
    pub(in crate::faces::engine_api) async fn events(
        &self,
        asked: &Asked,
    ) -> Result<BoxStream<'static, Value>, Failure> {
        let request = Request::builder().uri(asked.upstream.clone()).header(HOST, "netd").body(Body::empty());
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
