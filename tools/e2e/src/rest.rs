//! Requests as the twins send them: raw JSON over kube's client, with helpers to wait and to watch.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures::AsyncBufReadExt;
use futures::StreamExt;
use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};

use crate::binary;
use crate::program::{self, Output};
pub use crate::watch::{EVENT, NO_EVENT, Watch};

/// How long upstream's framework waits for what every namespace has.
const MADE: Duration = Duration::from_secs(120);
/// How often conditions are looked at.
pub const POLL: Duration = Duration::from_millis(500);
/// The library's wait for what should be quick.
pub const FOREVER: Duration = Duration::from_secs(30);
/// How long a pod may take to start.
pub const POD_START: Duration = Duration::from_secs(300);

const JSON: &str = "application/json";

/// What a twin works with: a client with the admin's rights and a namespace of its own.
#[derive(Clone)]
pub struct Cx {
    pub client: Client,
    pub namespace: String,
    /// The admin's kubeconfig, for kubectl.
    pub kubeconfig: Option<PathBuf>,
    /// Paths to delete when the twin is done.
    cleanups: Arc<Mutex<Vec<String>>>,
}

/// A request that the server refused.
#[derive(Clone, Debug)]
pub struct Failure {
    pub code: u16,
    pub reason: String,
    pub message: String,
}

// === Cx ===

impl Cx {
    /// A context in a new namespace whose name begins with `base`, as upstream's framework makes it.
    pub async fn new(client: Client, base: &str) -> Result<Self> {
        Self::within(client, "").another(base, json!({})).await
    }

    /// A context in a namespace that is there already and stays.
    pub fn within(client: Client, namespace: &str) -> Self {
        Self {
            client,
            namespace: namespace.into(),
            kubeconfig: None,
            cleanups: Arc::default(),
        }
    }

    /// The context with a kubeconfig for kubectl.
    pub fn with_kubeconfig(mut self, path: &Path) -> Self {
        self.kubeconfig = Some(path.into());
        self
    }

    /// The same twin in a further namespace with further labels.
    pub async fn another(&self, base: &str, labels: Value) -> Result<Self> {
        let cx = self.bare(base, labels).await?;
        for path in ["serviceaccounts/default", "configmaps/kube-root-ca.crt"] {
            let path = cx.core(path);
            cx.eventually(Duration::from_millis(50), MADE, &path, || async {
                cx.exists(&path).await
            })
            .await?;
        }
        Ok(cx)
    }

    /// As `another`, not waiting for what every namespace has.
    pub async fn bare(&self, base: &str, labels: Value) -> Result<Self> {
        let mut cx = self.clone();
        cx.namespace = format!("{base}-{}", random(5));
        let mut all = json!({"e2e-framework": base, "e2e-run": "twins"});
        for mode in ["enforce", "warn", "audit"] {
            all[format!("pod-security.kubernetes.io/{mode}")] = json!(crate::level::of(base));
        }
        for (key, value) in labels.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        let object = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": cx.namespace, "labels": all}});
        cx.ok(Method::POST, "/api/v1/namespaces", &object).await?;
        cx.clean(format!("/api/v1/namespaces/{}", cx.namespace));
        Ok(cx)
    }

    /// Has something deleted when the twin is done, however it ends.
    pub fn clean(&self, path: impl Into<String>) {
        let mut all = self.cleanups.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(path.into());
    }

    /// Deletes what is to be deleted, last first; what is gone already is fine.
    pub async fn clean_up(&self) -> Result<()> {
        let mut all =
            std::mem::take(&mut *self.cleanups.lock().unwrap_or_else(PoisonError::into_inner));
        while let Some(path) = all.pop() {
            let answer = self.send(Method::DELETE, &path, JSON, None).await?;
            if let Err(f) = answer {
                ensure!(f.code == 404 || f.code == 409, "DELETE {path}: {f:?}");
            }
        }
        Ok(())
    }

    /// The path of a core resource in the test's namespace.
    pub fn core(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.namespace)
    }

    /// The path of a resource of a group (`apps/v1`) in the test's namespace.
    pub fn group(&self, group: &str, rest: &str) -> String {
        format!("/apis/{group}/namespaces/{}/{rest}", self.namespace)
    }

    /// Runs the real kubectl in the twin's namespace.
    pub async fn kubectl(&self, args: &[&str], stdin: &str) -> Result<Output> {
        let program = binary::kubectl().context("there is no kubectl")?;
        let kubeconfig = self.kubeconfig.as_ref().context("no kubeconfig")?;
        let mut command = Command::new(program);
        command
            .args(["--namespace", &self.namespace])
            .args(args)
            .env("KUBECONFIG", kubeconfig);
        let stdin = stdin.to_string();
        tokio::task::spawn_blocking(move || program::output(command, &stdin)).await?
    }

    /// Runs the real kubectl, which must succeed; its standard output.
    pub async fn k(&self, args: &[&str], stdin: &str) -> Result<String> {
        let out = self.kubectl(args, stdin).await?;
        ensure!(out.ok, "kubectl {args:?}: {}{}", out.stdout, out.stderr);
        Ok(out.stdout)
    }

    /// What is there; only 404 says that nothing is.
    pub async fn find(&self, path: &str) -> Result<Option<Value>> {
        match self.send(Method::GET, path, JSON, None).await? {
            Ok(found) => Ok(Some(found)),
            Err(f) if f.code == 404 => Ok(None),
            Err(f) => bail!("GET {path}: {f:?}"),
        }
    }

    /// Is something there? Only 404 says no.
    pub async fn exists(&self, path: &str) -> Result<bool> {
        Ok(self.find(path).await?.is_some())
    }

    /// Waits until something is gone.
    pub async fn gone(&self, path: &str, within: Duration) -> Result<()> {
        self.eventually(POLL, within, &format!("{path} gone"), || async {
            Ok(!self.exists(path).await?)
        })
        .await
    }

    /// The objects of a list.
    pub async fn items(&self, path: &str) -> Result<Vec<Value>> {
        let mut list = self.get(path).await?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            other => bail!("{path} has items {other}"),
        }
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
        Ok(Watch::new(stream.lines().boxed()))
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

/// The numeric resourceVersion of an object.
pub fn version(object: &Value) -> Result<u64> {
    let text = object["metadata"]["resourceVersion"].as_str().unwrap_or("");
    text.parse()
        .with_context(|| format!("resourceVersion {text:?} is not a number"))
}

/// A random text of lower-case letters and digits.
pub fn random(length: usize) -> String {
    let all = uuid::Uuid::new_v4().simple().to_string();
    all.chars().take(length).collect()
}

/// A selector for a query.
pub fn labelled(selector: &str) -> String {
    format!("labelSelector={}", crate::connect::escape(selector))
}
