//! `GET /events`: netd's changes as Docker's events of networks and containers, merged with the engine's events.
//!
//! The last [`KEPT`] events are kept for `since`. A reader that is slower than that misses the oldest.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::event_frame::{frame, line};
use super::failure::Failure;
use super::filters::Filters;
use super::version::ApiVersion;
use super::{Asked, EngineApi, time};
use crate::base::clock;
use crate::engine::event::{Change, Event};
use crate::faces::shared::server::budget::Stopping;
use crate::faces::shared::server::extract::Stream;
use crate::model::endpoint::Endpoint;
use crate::model::ids::ContainerId;
use crate::model::network::Network;

/// How many events are kept. Docker keeps 256.
const KEPT: usize = 1024;
const FILTERS: [&str; 18] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "label!",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
    "pod",
    "builder",
    "id",
];

/// The events, in their order.
pub(super) struct Log {
    kept: Mutex<VecDeque<Value>>,
    /// How many there have been.
    count: watch::Sender<u64>,
    /// The changes that are not among them yet.
    changes: Mutex<broadcast::Receiver<Arc<Event>>>,
    /// On how many networks each container is, by the events so far.
    ends: Mutex<HashMap<ContainerId, usize>>,
}

impl Log {
    pub(super) fn new(changes: broadcast::Receiver<Arc<Event>>, ends: HashMap<ContainerId, usize>) -> Self {
        Self {
            kept: Mutex::default(),
            count: watch::Sender::new(0),
            changes: Mutex::new(changes),
            ends: Mutex::new(ends),
        }
    }

    fn push(&self, event: Value) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(event);
        self.count.send_modify(|count| *count += 1);
    }

    /// The events after the first `seen`, as far as they are kept, and how many there have been.
    fn after(&self, seen: u64) -> (Vec<Value>, u64) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let count = *self.count.borrow();
        let wanted = usize::try_from(count.saturating_sub(seen)).unwrap_or(usize::MAX).min(kept.len());
        (kept.iter().skip(kept.len() - wanted).cloned().collect(), count)
    }

    /// Networks were pruned.
    pub(super) fn pruned(&self) {
        self.push(event("network", "prune", "", &json!({"reclaimed": "0"}), clock::now()));
    }
}

fn event(kind: &str, action: &str, id: &str, attributes: &Value, time: std::time::SystemTime) -> Value {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    let actor = json!({"ID": id, "Attributes": attributes});
    json!({"Type": kind, "Action": action, "Actor": actor, "scope": "local", "time": since.as_secs(), "timeNano": nanos})
}

fn of_network(action: &str, network: &Network, container: Option<&Endpoint>, time: std::time::SystemTime) -> Value {
    let mut attributes = json!({"name": network.name.as_str(), "type": network.driver.name()});
    if let Some(endpoint) = container {
        attributes["container"] = endpoint.container.id.as_str().into();
    }
    event("network", action, network.id.as_str(), &attributes, time)
}

fn of_container(action: &str, endpoint: &Endpoint, time: std::time::SystemTime) -> Value {
    let mut attributes: serde_json::Map<String, Value> =
        endpoint.labels.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    attributes.insert("name".into(), endpoint.container.name.as_str().into());
    attributes.insert("image".into(), "".into());
    let mut event = event("container", action, endpoint.container.id.as_str(), &Value::Object(attributes), time);
    // Clients of versions below 1.52 expect these of container events.
    event["status"] = action.into();
    event["id"] = endpoint.container.id.as_str().into();
    event["from"] = "".into();
    event
}

impl EngineApi {
    /// Keeps the log until `stop` is cancelled.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut wake = self.handle.events();
        loop {
            self.catch_up();
            let closed = tokio::select! {
                change = wake.recv() => matches!(change, Err(RecvError::Closed)),
                () = stop.cancelled() => true,
            };
            if closed {
                return;
            }
        }
    }

    /// Takes over all changes that there are: whoever asks for events after a change sees it.
    fn catch_up(&self) {
        let mut changes = self.events.changes.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match changes.try_recv() {
                Ok(change) => self.translate(&change),
                Err(TryRecvError::Lagged(missed)) => tracing::warn!(missed, "events of the Engine API were missed"),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn translate(&self, Event { time, change }: &Event) {
        let snapshot = self.handle.snapshot();
        let of = |action: &str, endpoint: &Endpoint| {
            let network = snapshot.desired.network(&endpoint.network)?;
            Some(of_network(action, network, Some(endpoint), *time))
        };
        // Where there is an engine, it tells about its containers itself.
        let tells = self.engine.is_none();
        // The snapshot may be that of later changes.
        let mut ends = self.events.ends.lock().unwrap_or_else(PoisonError::into_inner);
        match change {
            Change::NetworkCreated(network) => self.events.push(of_network("create", network, None, *time)),
            Change::NetworkRemoved(network) => self.events.push(of_network("destroy", network, None, *time)),
            Change::Connected(endpoint) => {
                of("connect", endpoint).into_iter().for_each(|event| self.events.push(event));
                let end = ends.entry(endpoint.container.id.clone()).or_default();
                *end += 1;
                if tells && *end == 1 {
                    self.events.push(of_container("start", endpoint, *time));
                }
            }
            Change::Disconnected { endpoint, .. } => {
                of("disconnect", endpoint).into_iter().for_each(|event| self.events.push(event));
                let left = ends.remove(&endpoint.container.id).map_or(0, |end| end.saturating_sub(1));
                if left > 0 {
                    ends.insert(endpoint.container.id.clone(), left);
                } else if tells {
                    self.events.push(of_container("die", endpoint, *time));
                }
            }
            _ => {}
        }
    }

    pub(super) async fn list_events(
        &self,
        asked: &Asked,
        headers: &HeaderMap,
        stopping: Stopping,
        place: Stream,
    ) -> Result<Response, Failure> {
        let filters = Filters::parse(asked.query("filters"), &FILTERS)?;
        let point = |key| asked.query(key).filter(|text| !text.is_empty()).map(time::parse).transpose();
        let (since, until) = (point("since")?, point("until")?);
        if let (Some(since), Some(until)) = (since, until)
            && since > until
        {
            let why = format!("`since` time ({since}) cannot be after `until` time ({until})");
            return Err(Failure::bad(why));
        }
        let now = clock::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (legacy, from) = (asked.version < ApiVersion::one(52), since.unwrap_or(f64::MIN));
        let is_wanted = move |event: &Value| {
            fits(event, &filters) && stamp(event) >= from && until.is_none_or(|until| stamp(event) <= until)
        };
        self.catch_up();
        // As in Docker, one bound is enough to ask for what has been.
        let asks_for_past = since.is_some() || until.is_some();
        let (kept, seen) = self.events.after(if asks_for_past { 0 } else { u64::MAX });
        let mut past: Vec<_> = kept.into_iter().filter(&is_wanted).map(|event| (event, legacy)).collect();
        if asks_for_past {
            past.extend(self.their_past(asked, now, until).await?);
        }
        past.sort_by_key(|(event, _)| event["timeNano"].as_u64());
        let framed = frame(headers, asked.version);
        let past = past.into_iter().map(move |(event, legacy)| line(event, legacy, framed));
        let rest = until.map(|until| until - now.as_secs_f64());
        let theirs = match &self.engine {
            Some(engine) if rest.is_none_or(|rest| rest > 0.0) => {
                let since = asks_for_past.then(|| seconds(now + Duration::from_nanos(1)));
                engine.events(asked, since, asked.query("until").map(str::to_owned)).await?
            }
            _ if rest.is_some() => stream::empty().boxed(),
            _ => stream::pending().boxed(),
        };
        let ends = async move {
            match rest {
                Some(rest) => tokio::time::sleep(Duration::from_secs_f64(rest.clamp(0.0, 1e9))).await,
                None => std::future::pending().await,
            }
        };
        let to_come = self.ours(seen).filter(move |event| std::future::ready(is_wanted(event)));
        let ours = to_come.take_until(Box::pin(ends)).map(move |event| line(event, legacy, framed)).boxed();
        let theirs = theirs.map(move |event| line(event, false, framed));
        // Without an end in time, the engine's end is the end of the stream.
        let is_last = rest.is_none();
        let theirs = theirs.chain(stream::iter(is_last.then(Bytes::new))).boxed();
        let live = stream::select(ours, theirs).take_while(|line| std::future::ready(!line.is_empty()));
        let all = stream::iter(past).chain(live);
        let body = all.take_until(Box::pin(stopping.stopped())).map(move |line| {
            let _place = &place;
            Ok::<_, Infallible>(line)
        });
        Ok(([(CONTENT_TYPE, framed.content_type())], Body::from_stream(body)).into_response())
    }

    /// What the engine has told until now, or until the earlier bound.
    async fn their_past(
        &self,
        asked: &Asked,
        now: Duration,
        until: Option<f64>,
    ) -> Result<Vec<(Value, bool)>, Failure> {
        let Some(engine) = &self.engine else { return Ok(Vec::new()) };
        let earlier = asked.query("until").filter(|_| until.is_some_and(|until| until <= now.as_secs_f64()));
        let until = earlier.map_or_else(|| seconds(now), str::to_owned);
        let events = engine.events(asked, asked.query("since").map(str::to_owned), Some(until)).await?;
        // Podman may have kept those of months.
        let newest = events.fold(VecDeque::new(), |mut newest, event| {
            if newest.len() >= KEPT {
                newest.pop_front();
            }
            newest.push_back((event, false));
            std::future::ready(newest)
        });
        Ok(newest.await.into())
    }

    /// The events after the first `seen`, and those to come.
    fn ours(&self, seen: u64) -> impl futures_util::Stream<Item = Value> + use<> {
        let (log, counts) = (self.events.clone(), self.events.count.subscribe());
        stream::unfold((log, counts, seen), |(log, mut counts, seen)| async move {
            loop {
                let (events, count) = log.after(seen);
                if !events.is_empty() {
                    return Some((stream::iter(events), (log, counts, count)));
                }
                counts.mark_unchanged();
                if *counts.borrow() == seen && counts.changed().await.is_err() {
                    return None;
                }
            }
        })
        .flatten()
    }
}

/// A point in time, as a query has it.
fn seconds(since: Duration) -> String {
    format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
}

fn stamp(event: &Value) -> f64 {
    event["timeNano"].as_u64().map_or(0.0, |nanos| nanos as f64 / 1e9)
}

/// Whether the event is asked for.
fn fits(event: &Value, filters: &Filters) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, action) = (text(&event["Type"]), text(&event["Action"]));
    let (id, attributes) = (text(&event["Actor"]["ID"]), &event["Actor"]["Attributes"]);
    let name = text(&attributes["name"]);
    let about = |key: &str| match key {
        _ if kind == key => filters.begins(key, &[&id, &name]),
        "container" => {
            filters.begins(key, &[&text(&attributes["container"])]) && (!filters.has(key) || kind == "network")
        }
        _ => !filters.has(key),
    };
    filters.exact("type", &kind)
        && filters.exact("event", &action)
        && filters.exact("scope", &text(&event["scope"]))
        && ["container", "network", "image", "volume", "daemon", "plugin", "service", "node", "secret", "config"]
            .iter()
            .all(|key| about(key))
        && filters.labels(|key| attributes.get(key).and_then(Value::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(text: &str) -> Filters {
        Filters::parse(Some(text), &FILTERS).unwrap()
    }

    #[test]
    fn filters_choose_by_what_an_event_is_about() {
        let connect = event("network", "connect", "0a1b", &json!({"name": "net1", "container": "c0ffee"}), UNIX_EPOCH);
        for yes in [
            "",
            r#"{"type":["network"]}"#,
            r#"{"network":["net1"]}"#,
            r#"{"network":["0a"]}"#,
            r#"{"event":["connect"]}"#,
            r#"{"container":["c0ff"]}"#,
            r#"{"type":{"network":true,"container":true}}"#,
        ] {
            assert!(fits(&connect, &filters(yes)), "{yes}");
        }
        for no in
            [r#"{"type":["container"]}"#, r#"{"network":["net2"]}"#, r#"{"image":["x"]}"#, r#"{"container":["web"]}"#]
        {
            assert!(!fits(&connect, &filters(no)), "{no}");
        }
    }

    #[test]
    fn the_log_keeps_the_newest_events() {
        let log = Log::new(broadcast::channel(1).1, HashMap::new());
        for n in 0..KEPT + 2 {
            log.push(json!(n));
        }
        let (all, count) = log.after(0);
        assert_eq!((all.len(), &all[0], count), (KEPT, &json!(2), KEPT as u64 + 2));
        assert_eq!(log.after(count), (Vec::new(), count));
        assert_eq!(log.after(count - 1).0, [json!(KEPT + 1)]);
    }
}
