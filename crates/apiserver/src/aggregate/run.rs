//! The loop behind APIServices with a Service: which there are, whether they are available, what they serve.
//! Upstream: kube-aggregator apiserver.go, controllers/status, handler_discovery.go, controllers/openapi*.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::{Cache, Change, Reads};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::{HeaderMap, Method};
use machinery::GroupResource;
use machinery::object::{at, str_at};
use machinery::request::User;
use serde_json::Value;
use tokio::sync::Notify;

use super::availability::{self, Condition};
use super::remote::{Failed, Outgoing, Remote};
use super::{GROUP, RESOURCE, Table, discover, headers, register, schemas, status};
use crate::limits;
use crate::server::{Inner, Server};

/// The label that ties a slice to its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// One aggregated server that is looked after.
struct Watched {
    /// The APIService's revision when it was looked at last.
    revision: u64,
    /// Whether it is available is to be found out anew.
    check: Arc<Notify>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

struct Loop {
    server: Server,
    client: client::Client,
    watched: HashMap<String, Watched>,
}

/// Runs until the server shuts down.
pub async fn run(server: Server) {
    let user = User::new("system:apiserver", &["system:masters"]);
    let mut looped = Loop {
        client: server.client_for(user),
        server: server.clone(),
        watched: HashMap::new(),
    };
    let mut down = server.inner.shutdown.subscribe();
    tokio::select! {
        () = looped.follow() => {}
        () = register::run(server.clone()) => {}
        // The sender lives in the server, so this ends only by the value.
        _ = down.wait_for(|down| *down) => {}
    }
}

fn cache(inner: &Inner, group: &'static str, resource: &'static str) -> Option<Arc<dyn Cache>> {
    inner.registry.cache(&GroupResource::new(group, resource))
}

impl Loop {
    async fn follow(&mut self) {
        let inner = self.server.inner.clone();
        let services = cache(&inner, "", "services");
        let slices = cache(&inner, "discovery.k8s.io", "endpointslices");
        let (Some(all), Some(services), Some(slices)) =
            (cache(&inner, GROUP, RESOURCE), services, slices)
        else {
            return std::future::pending().await;
        };
        loop {
            let mut of_all = all.subscribe();
            let mut of_services = services.subscribe();
            let mut of_slices = slices.subscribe();
            self.look(&all).await;
            self.watched.values().for_each(|w| w.check.notify_one());
            loop {
                tokio::select! {
                    c = of_all.changes.recv() => {
                        if c.is_none() { break }
                        // Several changes are one look.
                        while of_all.changes.try_recv().is_ok() {}
                        self.look(&all).await;
                    }
                    c = of_services.changes.recv() => match c {
                        Some(c) => self.wake(&c, Some(&*c.entry.name)),
                        None => break,
                    },
                    c = of_slices.changes.recv() => match c {
                        Some(c) => self.wake(&c, c.entry.labels.get(SERVICE_NAME).map(|n| &**n)),
                        None => break,
                    },
                }
            }
        }
    }

    /// Has those checked that a Service or its endpoints are behind.
    fn wake(&self, change: &Change, service: Option<&str>) {
        if self.watched.is_empty() {
            return;
        }
        for r in self.server.inner.aggregator.all() {
            let behind = *r.service.namespace == *change.entry.namespace
                && Some(r.service.name.as_str()) == service;
            if behind && let Some(w) = self.watched.get(&r.name) {
                w.check.notify_one();
            }
        }
    }

    /// Takes over all APIServices as they are now.
    async fn look(&mut self, all: &Arc<dyn Cache>) {
        let inner = self.server.inner.clone();
        let aggregator = &inner.aggregator;
        let mut table: Table = BTreeMap::new();
        let mut revisions = HashMap::new();
        let entries = all.list(None);
        for entry in &entries {
            let Ok(object) = entry.value() else { continue };
            if at(&object, "spec.service").is_none() {
                self.local(&object).await;
                continue;
            }
            if table.len() >= limits::REMOTES {
                tracing::error!(api_service = &*entry.name, "too many aggregated servers");
                continue;
            }
            let (group, version) = (
                str_at(&object, "spec.group"),
                str_at(&object, "spec.version"),
            );
            let before = aggregator.find(group, version);
            if let Some(remote) = Remote::of(&object, before.as_deref(), aggregator) {
                revisions.insert(remote.name.clone(), entry.revision);
                table.insert((group.into(), version.into()), Arc::new(remote));
            }
        }
        let before = aggregator.all();
        let same = before.len() == table.len()
            && before
                .iter()
                .zip(table.values())
                .all(|(a, b)| a.name == b.name && a.ranks_as(b));
        aggregator.replace(table);
        if !same {
            aggregator.touch();
        }
        self.watched.retain(|name, _| revisions.contains_key(name));
        {
            let there: HashSet<&str> = entries.iter().map(|e| &*e.name).collect();
            let mut counts = aggregator.counts.lock();
            counts
                .available
                .retain(|name, _| there.contains(name.as_str()));
        }
        for (name, revision) in revisions {
            match self.watched.get_mut(&name) {
                Some(w) if w.revision == revision => {}
                Some(w) => {
                    w.revision = revision;
                    w.check.notify_one();
                }
                None => {
                    let watched = self.watch_over(&name, revision);
                    self.watched.insert(name, watched);
                }
            }
        }
    }

    /// A local APIService is available, whatever it was before.
    async fn local(&self, object: &Value) {
        let name = machinery::object::name(object);
        let aggregator = &self.server.inner.aggregator;
        aggregator.counts.lock().available.insert(name.into(), true);
        if let Err(error) = status::put(&self.client, object, &Condition::local()).await {
            tracing::warn!(api_service = name, %error, "status not written");
        }
    }

    fn watch_over(&self, name: &str, revision: u64) -> Watched {
        let check = Arc::new(Notify::new());
        let documents = Arc::new(Notify::new());
        let keeper = Keeper {
            inner: self.server.inner.clone(),
            client: self.client.clone(),
            name: name.into(),
            check: check.clone(),
            documents: documents.clone(),
        };
        let keeper = Arc::new(keeper);
        let tasks = vec![
            tokio::spawn(keeper.clone().keep_available()),
            tokio::spawn(keeper.keep_documents()),
        ];
        Watched {
            revision,
            check,
            tasks,
        }
    }
}

/// Looks after one aggregated server.
struct Keeper {
    inner: Arc<Inner>,
    client: client::Client,
    name: String,
    check: Arc<Notify>,
    documents: Arc<Notify>,
}

/// Twice as long after each failure.
fn pause((first, longest): (Duration, Duration), failures: u32) -> Duration {
    let factor = 2u32
        .checked_pow(failures.saturating_sub(1))
        .unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(longest)
}

impl Keeper {
    async fn keep_available(self: Arc<Self>) {
        let mut failures = 0;
        while let Some(remote) = self.inner.aggregator.named(&self.name) {
            let wait = match self.checked(&remote).await {
                Ok(()) => {
                    failures = 0;
                    limits::PROBE_EVERY
                }
                Err(error) => {
                    failures += 1;
                    tracing::debug!(api_service = self.name, error, failures, "not available");
                    pause(limits::PROBE_AGAIN, failures)
                }
            };
            // A wake-up that came during the check is not lost: it is stored.
            tokio::select! {
                () = self.check.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One check; an error asks for another soon.
    async fn checked(&self, remote: &Remote) -> Result<(), String> {
        let Some(all) = cache(&self.inner, GROUP, RESOURCE) else {
            return Ok(());
        };
        let condition = match self.seen(remote) {
            Some(condition) => condition,
            None => match probed(remote, &self.inner).await {
                Ok(()) => Condition::passed(),
                Err(Failed::Pool(why)) => return Err(why),
                Err(Failed::Resolve(why)) => Condition::silent(why),
                Err(Failed::Way { url, why }) => {
                    Condition::silent(format!("failing or missing response from {url}: {why}"))
                }
            },
        };
        // Before anybody is told of a server, its resources are known.
        if condition.is_true() && !remote.available {
            self.discovered(remote).await.unwrap_or_else(|error| {
                tracing::debug!(api_service = self.name, error, "no discovery");
            });
            self.documents.notify_one();
        }
        // As it is now, so that a write of the meantime is not undone.
        let Some(Ok(object)) = all.get("", &self.name).map(|e| e.value()) else {
            return Ok(());
        };
        self.tell(&object, &condition).await?;
        match condition.reason {
            "FailedDiscoveryCheck" => Err(condition.message),
            _ => Ok(()),
        }
    }

    fn seen(&self, remote: &Remote) -> Option<Condition> {
        let to = &remote.service;
        let services = cache(&self.inner, "", "services")?;
        let service = services.get(&to.namespace, &to.name);
        let service = service.and_then(|e| e.value().ok());
        let slices = cache(&self.inner, "discovery.k8s.io", "endpointslices")?;
        let slices: Vec<Value> = slices
            .list(Some(&to.namespace))
            .iter()
            .filter(|e| e.labels.get(SERVICE_NAME).is_some_and(|n| **n == *to.name))
            .filter_map(|e| e.value().ok())
            .collect();
        availability::seen(to, service.as_ref(), &slices)
    }

    async fn tell(&self, object: &Value, condition: &Condition) -> Result<(), String> {
        let was = availability::is_available(object);
        let aggregator = &self.inner.aggregator;
        let gauge = |is: bool| {
            let mut counts = aggregator.counts.lock();
            counts.available.insert(self.name.clone(), is);
        };
        gauge(condition.is_true());
        let written = status::put(&self.client, object, condition).await;
        let written = written.map_err(|e| format!("write the status: {}", e.message))?;
        if written && was != condition.is_true() {
            tracing::info!(
                api_service = self.name,
                available = condition.is_true(),
                reason = condition.reason,
                message = condition.message,
                "availability changed"
            );
        }
        if written && was && !condition.is_true() {
            let key = (self.name.clone(), condition.reason.to_string());
            *aggregator.counts.lock().unavailable.entry(key).or_default() += 1;
        }
        Ok(())
    }

    async fn discovered(&self, remote: &Remote) -> Result<(), String> {
        let (changed, done) = discover::refresh(remote, &self.inner.registry).await;
        if changed {
            self.inner.aggregator.touch();
        }
        done
    }

    async fn keep_documents(self: Arc<Self>) {
        let again = (limits::DOCUMENTS_AGAIN, limits::DOCUMENTS_EVERY);
        let mut failures = 0;
        while let Some(remote) = self.inner.aggregator.named(&self.name) {
            let mut done = self.discovered(&remote).await;
            if done.is_ok() {
                let (changed, got) = schemas::refresh(&remote, &self.inner.registry).await;
                if changed {
                    self.inner.aggregator.touch();
                }
                done = got;
            }
            let wait = match done {
                Ok(()) => {
                    failures = 0;
                    limits::DOCUMENTS_EVERY
                }
                Err(error) => {
                    failures += 1;
                    tracing::debug!(api_service = self.name, error, failures, "no documents");
                    pause(again, failures)
                }
            };
            tokio::select! {
                () = self.documents.notified() => failures = 0,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

/// Asks for the discovery document, several times at once: any success will do, else the last failure counts.
async fn probed(remote: &Remote, inner: &Inner) -> Result<(), Failed> {
    let mut all: FuturesUnordered<_> = (0..limits::PROBES).map(|_| probe(remote, inner)).collect();
    let mut last = Ok(());
    while let Some(done) = all.next().await {
        match done {
            Ok(()) => return Ok(()),
            failed => last = failed,
        }
    }
    last
}

async fn probe(remote: &Remote, inner: &Inner) -> Result<(), Failed> {
    let address = remote.resolve(&inner.registry)?;
    let mut all = HeaderMap::new();
    headers::identify(&mut all, &discover::user());
    let target = remote.path();
    let url = format!("https://{address}{target}");
    let outgoing = Outgoing {
        method: Method::GET,
        target,
        headers: all,
        body: Bytes::new(),
    };
    let failed = |why: String| Failed::Way {
        url: url.clone(),
        why,
    };
    let answer = tokio::time::timeout(limits::PROBE_TIME, remote.send(&address, outgoing)).await;
    match answer {
        Err(_) => Err(failed(format!(
            "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        ))),
        Ok(Err(Failed::Way { why, .. })) => Err(failed(format!("Get \"{url}\": {why}"))),
        Ok(Err(other)) => Err(other),
        Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
        Ok(Ok(answer)) => {
            let code = answer.status().as_u16();
            Err(failed(format!("bad status from {url}: {code}")))
        }
    }
}
