//! Requests as the twins send them: raw JSON over kube's client, with helpers to wait and to watch.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures::AsyncBufReadExt;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};

/// How long upstream's watch tests wait for an event.
pub const EVENT: Duration = Duration::from_secs(60);
/// How long they wait to be sure that none comes.
pub const NO_EVENT: Duration = Duration::from_secs(10);
/// How often conditions are looked at.
pub const POLL: Duration = Duration::from_millis(500);
/// How long a new namespace may take to have what every namespace has.
const SET_UP: Duration = Duration::from_secs(120);

/// What a twin works with: a client with the admin's rights and a namespace of its own.
#[derive(Clone)]
pub struct Cx {
    pub client: Client,
    pub namespace: String,
}

/// A request that the server refused.
#[derive(Clone, Debug)]
pub struct Failure {
    pub code: u16,
    pub reason: String,
    pub message: String,
}

/// Events of a watch.
pub struct Watch {
    lines: BoxStream<'static, std::io::Result<String>>,
}

// === Cx ===

impl Cx {
    /// A context in a new namespace whose name begins with `base`.
    pub async fn new(client: Client, base: &str) -> Result<Self> {
        let suffix: String = uuid::Uuid::new_v4()
            .simple()
            .to_string()
            .chars()
            .take(5)
            .collect();
        let namespace = format!("{base}-{suffix}");
        let labels = json!({"e2e-framework": base, "e2e-run": "twins"});
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
        let cx = Self { client, namespace };
        cx.ok(Method::POST, "/api/v1/namespaces", &object).await?;
        // As upstream's framework does before each test.
        for path in ["serviceaccounts/default", "configmaps/kube-root-ca.crt"] {
            let path = cx.core(path);
            cx.eventually(POLL, SET_UP, &path, || async {
                let found = cx
                    .send(Method::GET, &path, "application/json", None)
                    .await?;
                Ok(found.is_ok())
            })
            .await?;
        }
        Ok(cx)
    }

    /// The path of a core resource in the test's namespace.
    pub fn core(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.namespace)
    }

    /// Sends a request; the answer's JSON, or why it was refused.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        content: &str,
        body: Option<&Value>,
    ) -> Result<std::result::Result<Value, Failure>> {
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header("content-type", content)
            .body(body.map(|b| b.to_string().into_bytes()).unwrap_or_default())?;
        match self.client.request::<Value>(request).await {
            Ok(v) => Ok(Ok(v)),
            Err(kube::Error::Api(s)) => Ok(Err(Failure {
                code: s.code,
                reason: s.reason.clone(),
                message: s.message.clone(),
            })),
            Err(e) => Err(e).with_context(|| format!("{method} {path}")),
        }
    }

    /// Sends JSON that must be accepted.
    pub async fn ok(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let answer = self
            .send(method.clone(), path, "application/json", Some(body))
            .await?;
        answer.map_err(|f| anyhow!("{method} {path}: {} {}: {}", f.code, f.reason, f.message))
    }

    /// Sends JSON that must be refused.
    pub async fn refused(&self, method: Method, path: &str, body: &Value) -> Result<Failure> {
        match self
            .send(method.clone(), path, "application/json", Some(body))
            .await?
        {
            Ok(_) => bail!("{method} {path} was accepted"),
            Err(f) => Ok(f),
        }
    }

    /// GET that must find something.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self
            .send(Method::GET, path, "application/json", None)
            .await?;
        answer.map_err(|f| anyhow!("GET {path}: {} {}: {}", f.code, f.reason, f.message))
    }

    /// DELETE that must be accepted.
    pub async fn delete(&self, path: &str) -> Result<Value> {
        let answer = self
            .send(Method::DELETE, path, "application/json", None)
            .await?;
        answer.map_err(|f| anyhow!("DELETE {path}: {} {}: {}", f.code, f.reason, f.message))
    }

    /// PATCH of a kind (`strategic-merge`, `merge`, `json`) that must be accepted.
    pub async fn patch(&self, path: &str, kind: &str, body: &Value) -> Result<Value> {
        let content = format!("application/{kind}-patch+json");
        let answer = self.send(Method::PATCH, path, &content, Some(body)).await?;
        answer.map_err(|f| anyhow!("PATCH {path}: {} {}: {}", f.code, f.reason, f.message))
    }

    /// GET, change, PUT; anew as long as somebody else was faster.
    pub async fn update(&self, path: &str, change: impl Fn(&mut Value)) -> Result<Value> {
        let end = tokio::time::Instant::now() + EVENT;
        loop {
            let mut object = self.get(path).await?;
            change(&mut object);
            match self
                .send(Method::PUT, path, "application/json", Some(&object))
                .await?
            {
                Ok(v) => return Ok(v),
                Err(f) if f.code == 409 && tokio::time::Instant::now() < end => {}
                Err(f) => bail!("PUT {path}: {} {}: {}", f.code, f.reason, f.message),
            }
        }
    }

    /// Begins a watch; `query` without the `watch` parameter.
    pub async fn watch(&self, path: &str, query: &str) -> Result<Watch> {
        let uri = format!("{path}?watch=true&{query}");
        let request = Request::get(&uri).body(Vec::new())?;
        let stream = self
            .client
            .request_stream(request)
            .await
            .with_context(|| uri.clone())?;
        Ok(Watch {
            lines: stream.lines().boxed(),
        })
    }

    /// Waits until a condition holds, looking every `every`, at most `within`.
    pub async fn eventually<F, Fut>(
        &self,
        every: Duration,
        within: Duration,
        what: &str,
        mut f: F,
    ) -> Result<()>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<bool>>,
    {
        let end = tokio::time::Instant::now() + within;
        loop {
            if f().await? {
                return Ok(());
            }
            ensure!(
                tokio::time::Instant::now() < end,
                "not in {within:?}: {what}"
            );
            tokio::time::sleep(every).await;
        }
    }
}

// === Watch ===

impl Watch {
    /// The next event's type and object.
    pub async fn next(&mut self, within: Duration) -> Result<(String, Value)> {
        let line = tokio::time::timeout(within, self.lines.next()).await;
        let line = line.map_err(|_| anyhow!("no event within {within:?}"))?;
        let mut event: Value = serde_json::from_str(&line.context("the watch ended")??)?;
        let kind = event["type"].as_str().unwrap_or_default().to_string();
        Ok((kind, event["object"].take()))
    }

    /// The next event, which must be of a type, and its object equal to a reply if one is given.
    pub async fn expect(&mut self, kind: &str, object: Option<&Value>) -> Result<Value> {
        let (found, seen) = self
            .next(EVENT)
            .await
            .with_context(|| format!("waiting for {kind}"))?;
        ensure!(found == kind, "expected {kind}, got {found} {seen}");
        if let Some(object) = object {
            ensure!(&seen == object, "{kind} shows {seen}, expected {object}");
        }
        Ok(seen)
    }

    /// No event may come.
    pub async fn expect_none(&mut self) -> Result<()> {
        match tokio::time::timeout(NO_EVENT, self.lines.next()).await {
            Err(_) => Ok(()),
            Ok(line) => bail!("unexpected event {line:?}"),
        }
    }
}

/// The numeric resourceVersion of an object.
pub fn version(object: &Value) -> Result<u64> {
    let text = object["metadata"]["resourceVersion"].as_str().unwrap_or("");
    text.parse()
        .with_context(|| format!("resourceVersion {text:?} is not a number"))
}
