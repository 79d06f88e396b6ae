//! The loop behind CRDs: accepts names, serves what is accepted, removes what is deleted.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use client::{Cache, Entry, Reads};
use http::Request;
use machinery::object::{is_deleting, list_at, name, set, str_at};
use machinery::request::User;
use machinery::{ApiError, GroupResource};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{FINALIZER, GROUP, RESOURCE, custom, plan};
use crate::server::{Inner, Server};

/// After an error, and between two looks at objects that are being deleted.
const AGAIN: Duration = Duration::from_secs(1);
const BASE: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// What is known of one CRD that is served.
pub struct Known {
    group: String,
    plural: String,
    /// What it serves: versions, and a digest of the content they were made from.
    served: Vec<String>,
    made_from: [u8; 32],
}

/// The group that a CRD's name ends with: validation holds the two together.
fn group_of(name: &str) -> &str {
    name.split_once('.').map_or("", |(_, group)| group)
}

struct Loop {
    server: Server,
    client: client::Client,
    known: BTreeMap<String, Known>,
    /// CRDs that need no look before they, or others of their group, change: name and revision.
    settled: BTreeMap<String, u64>,
}

fn cache(inner: &Inner) -> Option<Arc<dyn Cache>> {
    inner.registry.cache(&GroupResource::new(GROUP, RESOURCE))
}

/// Serves every CRD that is established already, before the server answers its first request.
pub async fn serve_established(inner: &Inner) {
    let Some(cache) = cache(inner) else { return };
    for entry in cache.list(None) {
        let Ok(crd) = entry.value() else { continue };
        if !plan::is_true(&crd, "Established") {
            continue;
        }
        match serve(inner, &crd).await {
            Ok(known) => {
                let mut all = inner.established.lock();
                all.insert(name(&crd).to_string(), known);
            }
            Err(error) => {
                tracing::error!(crd = name(&crd), error, "custom resource is not served");
            }
        }
    }
}

/// A digest of all that a CRD's descriptors are made of.
fn made_from(crd: &Value) -> [u8; 32] {
    let accepted = &crd["status"]["acceptedNames"];
    let mut digest = Sha256::new();
    digest.update(crd["spec"].to_string());
    digest.update(accepted.to_string());
    digest.update([u8::from(is_deleting(crd))]);
    digest.finalize().into()
}

async fn serve(inner: &Inner, crd: &Value) -> Result<Known, String> {
    let mut served = Vec::new();
    for d in custom::descriptors(crd, inner.webhooks.get())? {
        served.push(d.version.to_string());
        inner.registry.add(d).await?;
    }
    Ok(Known {
        group: str_at(crd, "spec.group").into(),
        plural: str_at(crd, "spec.names.plural").into(),
        served,
        made_from: made_from(crd),
    })
}

/// Runs until the server shuts down.
pub async fn run(server: Server) {
    let user = User::new("system:apiserver", &["system:masters"]);
    let known = std::mem::take(&mut *server.inner.established.lock());
    let mut looped = Loop {
        client: server.client_for(user),
        known,
        settled: BTreeMap::new(),
        server,
    };
    let mut down = looped.server.inner.shutdown.subscribe();
    tokio::select! {
        () = looped.follow() => {}
        // The sender lives in the server, so this ends only by the value.
        _ = down.wait_for(|down| *down) => {}
    }
}

impl Loop {
    async fn follow(&mut self) {
        loop {
            let Some(cache) = cache(&self.server.inner) else {
                return;
            };
            let mut changes = cache.subscribe();
            let mut again = self.all(&cache).await;
            (self.server.inner.hooks).finish("start-apiextensions-controllers");
            loop {
                let wait = async {
                    if again {
                        tokio::time::sleep(AGAIN).await;
                    } else {
                        std::future::pending::<()>().await;
                    }
                };
                tokio::select! {
                    change = changes.changes.recv() => if change.is_none() { break },
                    () = wait => {}
                }
                // Several changes are one look.
                while changes.changes.try_recv().is_ok() {}
                again = self.all(&cache).await;
            }
        }
    }

    /// Looks at every CRD that changed or whose group did; tells whether to look again soon.
    async fn all(&mut self, cache: &Arc<dyn Cache>) -> bool {
        let entries = cache.list(None);
        let gone: Vec<String> = {
            let there: HashSet<&str> = entries.iter().map(|e| &*e.name).collect();
            let known = self.known.keys().chain(self.settled.keys());
            known
                .filter(|n| !there.contains(n.as_str()))
                .cloned()
                .collect()
        };
        let mut changed: BTreeSet<String> = gone.iter().map(|n| group_of(n).to_string()).collect();
        for n in gone {
            self.settled.remove(&n);
            if let Some(k) = self.known.remove(&n) {
                self.server.inner.registry.remove(&k.group, &k.plural).await;
            }
        }
        let fresh = entries
            .iter()
            .filter(|e| self.settled.get(&*e.name) != Some(&e.revision));
        changed.extend(fresh.map(|e| group_of(&e.name).to_string()));
        let mut again = false;
        for group in changed {
            let members = entries.iter().filter(|e| group_of(&e.name) == group);
            again |= self.group(members).await;
        }
        again
    }

    /// Looks at the CRDs of one group.
    async fn group(&mut self, members: impl Iterator<Item = &Arc<Entry>>) -> bool {
        let members: Vec<(u64, Value)> = members
            .filter_map(|e| Some((e.revision, e.value().ok()?)))
            .collect();
        let mut again = false;
        for (revision, crd) in &members {
            let others = members.iter().map(|(_, o)| o);
            let others: Vec<&Value> = others.filter(|o| name(o) != name(crd)).collect();
            let more = self.one(crd, &others).await.unwrap_or_else(|error| {
                let crd = name(crd);
                tracing::warn!(crd, error, "custom resource definition is tried again");
                true
            });
            if more {
                self.settled.remove(name(crd));
            } else {
                self.settled.insert(name(crd).to_string(), *revision);
            }
            again |= more;
        }
        again
    }

    async fn one(&mut self, crd: &Value, others: &[&Value]) -> Result<bool, String> {
        let now = crate::verbs::timestamp(jiff::Timestamp::now());
        let planned = plan::planned(crd, others, &now);
        if plan::is_true(&planned, "NamesAccepted") || plan::is_true(&planned, "Established") {
            self.serve(&planned).await?;
        }
        if is_deleting(crd) {
            return self.finalize(crd).await;
        }
        if planned.get("status") != crd.get("status") {
            // Its change brings the loop back here.
            self.put(&planned, "/status").await?;
        }
        Ok(false)
    }

    async fn serve(&mut self, crd: &Value) -> Result<(), String> {
        let before = self.known.get(name(crd));
        if before.is_some_and(|k| k.made_from == made_from(crd)) {
            return Ok(());
        }
        let inner = &self.server.inner;
        let known = serve(inner, crd).await?;
        for old in before.map(|k| k.served.as_slice()).unwrap_or(&[]) {
            if !known.served.contains(old) {
                (inner.registry).remove_version(&known.group, old, &known.plural);
            }
        }
        self.known.insert(name(crd).to_string(), known);
        Ok(())
    }

    /// Deletes the objects of a deleted CRD, then lets it go. Tells whether to look again.
    async fn finalize(&mut self, crd: &Value) -> Result<bool, String> {
        let finalizers = list_at(crd, "metadata.finalizers");
        if !finalizers.contains(&json!(FINALIZER)) {
            return Ok(false);
        }
        let mut out = crd.clone();
        let now = crate::verbs::timestamp(jiff::Timestamp::now());
        if plan::is_true(crd, "Established") {
            let left = self.delete_objects(crd).await?;
            if left > 0 {
                let why = (
                    "InstanceDeletionInProgress",
                    "CustomResource deletion is in progress",
                );
                plan::condition(&mut out, "Terminating", true, why, &now);
                if out != *crd {
                    self.put(&out, "/status").await?;
                }
                return Ok(true);
            }
        }
        let rest: Vec<&Value> = finalizers.iter().filter(|f| *f != FINALIZER).collect();
        set(&mut out, "metadata.finalizers", json!(rest));
        self.put(&out, "").await?;
        Ok(false)
    }

    /// Asks for the deletion of every object; gives how many are still there.
    async fn delete_objects(&self, crd: &Value) -> Result<usize, String> {
        let (group, plural) = (str_at(crd, "spec.group"), str_at(crd, "spec.names.plural"));
        let gr = GroupResource::new(group.to_string(), plural.to_string());
        let Some(cache) = self.server.inner.registry.cache(&gr) else {
            return Ok(0);
        };
        let version = list_at(crd, "spec.versions")
            .iter()
            .find(|v| v["served"] == json!(true))
            .map_or_else(String::new, |v| str_at(v, "name").to_string());
        for e in cache.list(None) {
            let scope = match &*e.namespace {
                "" => String::new(),
                ns => format!("/namespaces/{ns}"),
            };
            let path = format!("/apis/{group}/{version}{scope}/{plural}/{}", e.name);
            match self.send("DELETE", &path, Vec::new()).await {
                Ok(()) => {}
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e.message),
            }
        }
        Ok(cache.list(None).len())
    }

    async fn put(&self, crd: &Value, sub: &str) -> Result<(), String> {
        let body = serde_json::to_vec(crd).map_err(|e| e.to_string())?;
        let path = format!("{BASE}/{}{sub}", name(crd));
        match self.send("PUT", &path, body).await {
            // Somebody else changed it, which brings the loop back here.
            Err(e) if e.is_conflict() || e.is_not_found() => Ok(()),
            other => other.map_err(|e| e.message),
        }
    }

    async fn send(&self, method: &str, path: &str, body: Vec<u8>) -> Result<(), ApiError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(kube::client::Body::from(body))
            .map_err(ApiError::internal)?;
        let answer = self
            .client
            .kube()
            .send(request)
            .await
            .map_err(ApiError::internal)?;
        let (parts, body) = answer.into_parts();
        if parts.status.is_success() {
            return Ok(());
        }
        let data = body.collect_bytes().await.map_err(ApiError::internal)?;
        let status: Value = serde_json::from_slice(&data).unwrap_or_default();
        Err(ApiError::new(
            parts.status.as_u16(),
            str_at(&status, "reason"),
            str_at(&status, "message"),
        ))
    }
}
