//! The containers that the engine runs for netd's services: what it has, and what it is told to do with one.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::HOST;
use axum::http::{Method, Request, StatusCode, Uri};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Upstream;
use crate::engine::Handle;
use crate::faces::engine_api::failure::Failure;
use crate::faces::shared::client::segment;

/// How long the engine may take to pull an image.
const PULL: Duration = Duration::from_secs(600);

impl Upstream {
    /// Whether somebody is there. Who asks by himself asks this first: what netd learns of an engine that does not answer
    /// it tells clients for a while.
    pub(in crate::faces::engine_api) async fn is_there(&self) -> Result<(), Failure> {
        UnixStream::connect(&self.socket).await.map(drop).map_err(|error| self.unreachable(error))
    }

    /// The containers with this label, as `GET /containers/json` shows them.
    pub(in crate::faces::engine_api) async fn labelled(&self, label: &str) -> Result<Vec<Value>, Failure> {
        let filters = json!({"label": [label]}).to_string();
        let path = format!("/containers/json?all=1&filters={}", segment(&filters));
        Ok(self.ask(Method::GET, &path, None).await?.value()?.as_array().cloned().unwrap_or_default())
    }

    /// A container, as `GET /containers/{id}/json` shows it; `None`: there is none.
    pub(in crate::faces::engine_api) async fn inspect(&self, id: &str) -> Result<Option<Value>, Failure> {
        let answer = self.ask(Method::GET, &format!("/containers/{}/json", segment(id)), None).await?;
        if answer.status == StatusCode::NOT_FOUND { Ok(None) } else { answer.value().map(Some) }
    }

    /// Makes a container with that name; its id.
    pub(in crate::faces::engine_api) async fn make(
        &self,
        handle: &Handle,
        name: &str,
        body: &Value,
    ) -> Result<String, Failure> {
        let version = self.about().await?.version;
        let uri: Uri = format!("/v{version}/containers/create?name={}", segment(name))
            .parse()
            .map_err(|_| Failure::bad(format!("invalid container name {name:?}")))?;
        let made = self.make_container(handle, body.clone(), uri, None).await?.value()?;
        made["Id"].as_str().map(str::to_owned).ok_or_else(|| self.unreachable("it names no id"))
    }

    /// Starts a container. One that runs is no error.
    pub(in crate::faces::engine_api) async fn start(&self, id: &str) -> Result<(), Failure> {
        let answer = self.ask(Method::POST, &format!("/containers/{id}/start"), None).await?;
        if answer.status == StatusCode::NOT_MODIFIED { Ok(()) } else { answer.value().map(drop) }
    }

    /// Stops a container, which has so many seconds to end by itself, or as many as it was made with. One that does
    /// not run is no error.
    pub(in crate::faces::engine_api) async fn stop(&self, id: &str, grace: Option<u64>) -> Result<(), Failure> {
        let query = grace.map(|grace| format!("?t={grace}")).unwrap_or_default();
        let answer = self.ask(Method::POST, &format!("/containers/{id}/stop{query}"), None).await?;
        match answer.status {
            StatusCode::NOT_MODIFIED | StatusCode::NOT_FOUND => Ok(()),
            _ => answer.value().map(drop),
        }
    }

    /// Removes a container with the volumes that were made for it. One that does not exist is no error.
    pub(in crate::faces::engine_api) async fn remove(&self, id: &str) -> Result<(), Failure> {
        let answer = self.ask(Method::DELETE, &format!("/containers/{id}?force=1&v=1"), None).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(()),
            // Another request removes it already.
            StatusCode::CONFLICT if answer.value["message"].as_str().is_some_and(|why| why.contains("already")) => {
                Ok(())
            }
            _ => answer.value().map(drop),
        }
    }

    /// The engine's own version; empty if it does not say.
    pub(in crate::faces::engine_api) async fn engine_version(&self) -> String {
        let said = self.ask(Method::GET, "/version", None).await.and_then(super::Answer::value);
        said.map(|said| said["Version"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
    }

    /// Pulls an image. `auth`: the header that the client sent with the service.
    pub(in crate::faces::engine_api) async fn pull(&self, image: &str, auth: Option<&str>) -> Result<(), Failure> {
        let version = self.about().await?.version;
        // Without a tag, Docker pulls all of them.
        let last = image.rsplit('/').next().unwrap_or(image);
        let image = if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("/v{version}/images/create?fromImage={}", segment(&image)))
            .header(HOST, "netd");
        if let Some(auth) = auth {
            request = request.header("x-registry-auth", auth);
        }
        let request = request.body(Body::empty()).map_err(|error| self.unreachable(error))?;
        let pulled = async {
            let reply = self.send(request).await?;
            if !reply.status().is_success() {
                return self.read(reply).await?.value().map(drop);
            }
            let mut lines = Body::new(reply.into_body()).into_data_stream();
            let mut last = Vec::new();
            while let Some(chunk) = lines.next().await {
                let chunk = chunk.map_err(|error| self.unreachable(error))?;
                last = if chunk.len() > 1 { chunk.to_vec() } else { last };
            }
            refused(&last).map_or(Ok(()), |why| Err(Failure::new(StatusCode::NOT_FOUND, why)))
        };
        timeout(PULL, pulled).await.unwrap_or_else(|_| Err(self.unreachable("the pull takes too long")))
    }

    /// What a container has written, in frames if it has no terminal (Docker, "Stream format" of attach).
    pub(in crate::faces::engine_api) async fn logs(
        &self,
        id: &str,
        query: &str,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, Failure> {
        let version = self.about().await?.version;
        let request = Request::builder().uri(format!("/v{version}/containers/{id}/logs?{query}")).header(HOST, "netd");
        let request = request.body(Body::empty()).map_err(|error| self.unreachable(error))?;
        let reply = self.send(request).await?;
        if !reply.status().is_success() {
            return Err(self.read(reply).await?.value().err().unwrap_or_else(|| self.unreachable("it has no logs")));
        }
        Ok(Body::new(reply.into_body()).into_data_stream().map_err(std::io::Error::other).boxed())
    }
}

/// The error at the end of a pull, which begins with success.
fn refused(last: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(last);

    text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|line| {
        let error = line["error"].as_str().or_else(|| line["errorDetail"]["message"].as_str());
        error.map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_may_fail_after_it_has_begun() {
        assert_eq!(
            refused(b"{\"status\":\"x\"}\n{\"errorDetail\":{\"message\":\"denied\"},\"error\":\"denied\"}\n"),
            Some("denied".into())
        );
        assert_eq!(refused(b"{\"status\":\"done\"}\n"), None);
    }
}
