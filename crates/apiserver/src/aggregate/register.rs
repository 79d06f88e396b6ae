//! APIServices of what is served here: those of built-in groups are put right once at each start, those of CRDs'
//! groups always. Whatever somebody else manages is left alone.
//! Upstream: kube-aggregator autoregister, controlplane crdregistration.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use client::{Cache, Reads};
use futures::{StreamExt, stream};
use http::Method;
use machinery::object::uid;
use machinery::request::User;
use machinery::{ApiError, GroupResource};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{BASE, GROUP, RESOURCE, priorities, status};
use crate::server::Server;

/// The label that says who keeps an APIService, and its values.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
const ON_START: &str = "onstart";
const ALWAYS: &str = "true";
/// After a write that failed.
const AGAIN: Duration = Duration::from_secs(1);
/// Writes at a time.
const WRITES: usize = 16;

/// What an APIService should be.
#[derive(Clone, Debug, PartialEq)]
struct Desired {
    spec: Value,
    managed: &'static str,
}

/// What is to be done about one name.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Nothing,
    Create,
    Update,
    Delete,
}

/// Decides; `synced` says whether the name was put right since the start, `at_start` whether it was there then.
fn plan(desired: Option<&Desired>, current: Option<&Value>, synced: bool, at_start: bool) -> Step {
    let once = desired.is_some_and(|d| d.managed == ON_START);
    if once && synced {
        return Step::Nothing;
    }
    let Some(current) = current else {
        return match desired {
            Some(_) => Step::Create,
            None => Step::Nothing,
        };
    };
    let managed = current["metadata"]["labels"][MANAGED].as_str();
    let ours = match managed {
        Some(ALWAYS) => true,
        Some(ON_START) => at_start && !synced,
        _ => false,
    };
    match desired {
        _ if !ours => Step::Nothing,
        None => Step::Delete,
        Some(d) if same(&current["spec"], &d.spec) => Step::Nothing,
        Some(_) => Step::Update,
    }
}

/// Whether a stored spec says what is wanted, and nothing else.
fn same(stored: &Value, wanted: &Value) -> bool {
    let said = |spec: &Value| -> BTreeMap<String, Value> {
        let all = spec.as_object().into_iter().flatten();
        all.filter(|(_, v)| !v.is_null() && **v != json!("") && **v != json!(false))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    said(stored) == said(wanted)
}

fn desired(
    group: &str,
    version: &str,
    priority: priorities::Priority,
    managed: &'static str,
) -> Desired {
    let mut spec = json!({"version": version,
        "groupPriorityMinimum": priority.0, "versionPriority": priority.1});
    if !group.is_empty() {
        spec["group"] = json!(group);
    }
    Desired { spec, managed }
}

/// The part of a CRD that matters here.
#[derive(Deserialize)]
struct Crd {
    spec: CrdSpec,
}

#[derive(Deserialize)]
struct CrdSpec {
    group: String,
    versions: Vec<CrdVersion>,
}

#[derive(Deserialize)]
struct CrdVersion {
    name: String,
    #[serde(default)]
    served: bool,
}

/// A group and a version.
type GroupVersion = (String, String);

struct Registrar {
    server: Server,
    client: client::Client,
    at_start: HashSet<String>,
    synced: HashSet<String>,
    /// Served group versions of each CRD, and the revision they were read at.
    crds: HashMap<String, (u64, Vec<GroupVersion>)>,
}

/// Keeps the APIServices; ends when their cache does.
pub async fn run(server: Server) {
    let user = User::new("system:apiserver", &["system:masters"]);
    let cache = |group, resource| {
        let resource = GroupResource::new(group, resource);
        server.inner.registry.cache(&resource)
    };
    let Some(services) = cache(GROUP, RESOURCE) else {
        return;
    };
    let Some(crds) = cache(crate::crd::GROUP, crate::crd::RESOURCE) else {
        return;
    };
    let names = services.list(None);
    let mut registrar = Registrar {
        client: server.client_for(user),
        at_start: names.iter().map(|e| e.name.to_string()).collect(),
        synced: HashSet::new(),
        crds: HashMap::new(),
        server: server.clone(),
    };
    loop {
        let (mut of_services, mut of_crds) = (services.subscribe(), crds.subscribe());
        let mut again = registrar.all(&services, &crds).await;
        loop {
            tokio::select! {
                c = of_services.changes.recv() => if c.is_none() { break },
                c = of_crds.changes.recv() => if c.is_none() { break },
                () = tokio::time::sleep(AGAIN), if again => {}
            }
            // Several changes are one look.
            while of_services.changes.try_recv().is_ok() {}
            while of_crds.changes.try_recv().is_ok() {}
            again = registrar.all(&services, &crds).await;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

impl Registrar {
    /// Puts everything right; tells whether something failed.
    async fn all(&mut self, services: &Arc<dyn Cache>, crds: &Arc<dyn Cache>) -> bool {
        let desired = self.desired(crds);
        let current: BTreeMap<String, Value> = services
            .list(None)
            .iter()
            .filter_map(|e| Some((e.name.to_string(), e.value().ok()?)))
            .collect();
        let names: BTreeSet<&String> = desired.keys().chain(current.keys()).collect();
        let mut steps = Vec::new();
        for n in names {
            let (wanted, there) = (desired.get(n), current.get(n));
            let (synced, at_start) = (self.synced.contains(n), self.at_start.contains(n));
            match plan(wanted, there, synced, at_start) {
                Step::Nothing => {
                    self.synced.insert(n.clone());
                }
                step => steps.push(Write {
                    client: self.client.clone(),
                    name: n.clone(),
                    step,
                    wanted: wanted.cloned(),
                    there: there.cloned(),
                }),
            }
        }
        let done: Vec<(String, Result<(), ApiError>)> = stream::iter(steps)
            .map(Write::act)
            .buffer_unordered(WRITES)
            .collect()
            .await;
        let mut failed = false;
        for (n, result) in done {
            match result {
                Ok(()) => {
                    self.synced.insert(n);
                }
                // Changed in the meantime; the change brings the loop back here.
                Err(e) if e.is_already_exists() || e.is_not_found() || e.is_conflict() => {}
                Err(error) => {
                    tracing::warn!(api_service = n, %error, "APIService is tried again");
                    failed = true;
                }
            }
        }
        failed
    }

    fn desired(&mut self, crds: &Arc<dyn Cache>) -> BTreeMap<String, Desired> {
        let mut out = BTreeMap::new();
        for s in self.server.inner.registry.all() {
            let (g, v) = (&s.descriptor.group, &s.descriptor.version);
            if let Some(priority) = priorities::built_in(g, v) {
                out.insert(format!("{v}.{g}"), desired(g, v, priority, ON_START));
            }
        }
        let entries = crds.list(None);
        let there: HashSet<&str> = entries.iter().map(|e| &*e.name).collect();
        self.crds.retain(|n, _| there.contains(n.as_str()));
        for e in &entries {
            let known = self.crds.get(&*e.name).filter(|(r, _)| *r == e.revision);
            if known.is_none() {
                self.crds
                    .insert(e.name.to_string(), (e.revision, served(&e.bytes)));
            }
        }
        for (g, v) in self.crds.values().flat_map(|(_, all)| all) {
            let name = format!("{v}.{g}");
            out.entry(name)
                .or_insert_with(|| desired(g, v, priorities::CUSTOM, ALWAYS));
        }
        out
    }
}

fn served(crd: &[u8]) -> Vec<GroupVersion> {
    let Ok(crd) = serde_json::from_slice::<Crd>(crd) else {
        return Vec::new();
    };
    let group = crd.spec.group;
    let versions = crd.spec.versions.into_iter().filter(|v| v.served);
    versions.map(|v| (group.clone(), v.name)).collect()
}

/// One step on its way.
struct Write {
    client: client::Client,
    name: String,
    step: Step,
    wanted: Option<Desired>,
    there: Option<Value>,
}

impl Write {
    async fn act(self) -> (String, Result<(), ApiError>) {
        let done = self.done().await;
        (self.name, done)
    }

    async fn done(&self) -> Result<(), ApiError> {
        let n = &self.name;
        let path = format!("{BASE}/{n}");
        match (&self.step, &self.wanted, &self.there) {
            (Step::Create, Some(d), _) => {
                let object = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                    "metadata": {"name": n, "labels": {MANAGED: d.managed}}, "spec": d.spec});
                status::send(&self.client, Method::POST, BASE, Some(&object)).await
            }
            (Step::Update, Some(d), Some(current)) => {
                let mut object = current.clone();
                object["spec"] = d.spec.clone();
                status::send(&self.client, Method::PUT, &path, Some(&object)).await
            }
            (Step::Delete, _, Some(current)) => {
                tracing::info!(api_service = n, "APIService of nothing served");
                let only = json!({"apiVersion": "v1", "kind": "DeleteOptions",
                    "preconditions": {"uid": uid(current)}});
                status::send(&self.client, Method::DELETE, &path, Some(&only)).await
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Upstream's table of checkAPIService: rows are what is there, columns what is wanted.
    #[test]
    fn what_is_there_is_put_right_as_upstream_does() {
        let spec =
            json!({"group": "g", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1});
        let there = |managed: Option<&str>| {
            let mut o = json!({"metadata": {"labels": {}}, "spec": {"group": "g", "version": "v1",
                "groupPriorityMinimum": 9, "versionPriority": 1}});
            if let Some(m) = managed {
                o["metadata"]["labels"][MANAGED] = json!(m);
            }
            o
        };
        let wants = |managed| Desired {
            spec: spec.clone(),
            managed,
        };
        let (once, always) = (wants(ON_START), wants(ALWAYS));
        let (none, foreign) = (None, Some(there(None)));
        let (started, kept) = (Some(there(Some(ON_START))), Some(there(Some(ALWAYS))));
        use Step::{Create, Delete, Nothing, Update};
        // (there, synced, at start) → (nothing wanted, wanted on start, wanted always)
        for (n, (current, synced, at_start, expected)) in [
            (&none, false, false, [Nothing, Create, Create]),
            (&none, true, false, [Nothing, Nothing, Create]),
            (&foreign, false, true, [Nothing, Nothing, Nothing]),
            (&started, false, false, [Nothing, Nothing, Nothing]),
            (&started, false, true, [Delete, Update, Update]),
            (&started, true, true, [Nothing, Nothing, Nothing]),
            (&kept, false, true, [Delete, Update, Update]),
            (&kept, true, false, [Delete, Nothing, Update]),
        ]
        .into_iter()
        .enumerate()
        {
            for (wanted, expected) in [None, Some(&once), Some(&always)].into_iter().zip(expected) {
                let step = plan(wanted, current.as_ref(), synced, at_start);
                assert_eq!(step, expected, "row {n}, wanted {wanted:?}");
            }
        }
        let mut right = there(Some(ALWAYS));
        right["spec"]["groupPriorityMinimum"] = json!(1);
        assert_eq!(plan(Some(&always), Some(&right), false, true), Nothing);
        right["spec"]["service"] = json!({"name": "x", "namespace": "y"});
        assert_eq!(plan(Some(&always), Some(&right), false, true), Update);
    }
}
