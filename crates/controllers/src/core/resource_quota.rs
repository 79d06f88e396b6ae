//! What quotas limit is counted anew when objects go. Admission counts what comes.
//! Upstream: pkg/controller/resourcequota. Custom resources that are made known after the start are
//! counted at the periodic recount.

mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Pod, ResourceQuota, ResourceQuotaStatus};
use api::k8s_openapi::apimachinery::pkg::api::resource::Quantity as Typed;
use api::quantity::{Format, Quantity};
use async_trait::async_trait;
use client::{Client, Entry};
use machinery::{Descriptor, Verb};
use reconciler::{During, Error, Event, Key, Next, Reconcile, Reconciler, Trigger, Wake};
use serde_json::{Value, json};

use self::usage::{Amounts, add};
use crate::common::object::Object;
use crate::common::{act, pods};
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "resourcequota-controller",
    account: "resourcequota-controller",
    component: "resourcequota-controller",
    needs: &[("", "resourcequotas")],
    build: |setup| Ok(build(setup)),
};

/// All quotas are counted anew this often.
const RESYNC: Duration = Duration::from_secs(300);

/// A count that changed something is checked after so long.
const RECHECK: Duration = Duration::from_secs(5);

fn build(setup: &Setup) -> Reconciler {
    let this = Quotas {
        client: setup.client.clone(),
    };
    let mut reconciler = Reconciler::new("resourcequota-controller", 5, this).on(Trigger::map(
        "",
        "resourcequotas",
        |e| {
            let spec = |q: Option<Arc<ResourceQuota>>| q.and_then(|q| q.spec.clone());
            let same = e.before.is_some()
                && spec(e.typed::<ResourceQuota>()) == spec(e.typed_before::<ResourceQuota>());
            if same {
                Vec::new()
            } else {
                vec![Key::of(e.entry).into()]
            }
        },
    ));
    for d in counted(&setup.client) {
        let client = setup.client.clone();
        let (group, resource) = (d.group.clone(), d.resource.clone());
        reconciler = reconciler.on(Trigger::of(group, resource, move |e| {
            if replenishes(e) {
                quotas_of(&client, &e.entry.namespace)
            } else {
                Vec::new()
            }
        }));
    }
    reconciler
}

/// The resources that quotas count.
fn counted(client: &Client) -> Vec<Arc<Descriptor>> {
    let needed = [Verb::Create, Verb::Delete, Verb::List, Verb::Watch];
    let mut all = client.reads().resources();
    all.retain(|d| {
        d.namespaced()
            && d.stored
            && d.resource != "events"
            && needed.iter().all(|v| d.verbs.contains(v))
    });
    all
}

/// Whether a change may give something back.
fn replenishes(e: &Event<'_>) -> bool {
    if e.deleted() {
        return true;
    }
    let Some(before) = e.before else {
        return false;
    };
    let (Ok(old), Ok(new)) = (before.value(), e.entry.value()) else {
        return false;
    };
    match new["kind"].as_str() {
        Some("Pod") => {
            let ended = |e: &Arc<Entry>| {
                client::lister::typed::<Pod>(e).is_some_and(|p| pods::terminal(&p))
            };
            ended(before) != ended(e.entry)
                || old["spec"]["containers"] != new["spec"]["containers"]
                || old["spec"]["activeDeadlineSeconds"] != new["spec"]["activeDeadlineSeconds"]
        }
        Some("Service" | "PersistentVolumeClaim") => old["spec"] != new["spec"],
        _ => false,
    }
}

fn quotas_of(client: &Client, namespace: &str) -> Vec<Wake> {
    let Ok(quotas) = client.lister::<ResourceQuota>() else {
        return Vec::new();
    };
    let all = quotas.cache().list(Some(namespace));
    all.iter().map(|q| Key::of(q).into()).collect()
}

struct Quotas {
    client: Client,
}

#[async_trait]
impl Reconcile for Quotas {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let lister = self.client.lister::<ResourceQuota>()?;
        let Some(found) = lister.get(&key.namespace, &key.name) else {
            return Ok(Next::Done);
        };
        let hard = found
            .spec
            .as_ref()
            .and_then(|s| s.hard.clone())
            .unwrap_or_default();
        let used = self.count(&found, &hard);
        let used: BTreeMap<String, Typed> = hard
            .keys()
            .map(|name| {
                let amount = used.get(name).copied().unwrap_or(Quantity::ZERO);
                (name.clone(), Typed(amount.to_string()))
            })
            .collect();
        let before = found.status.clone().unwrap_or_default();
        let same = before.hard.as_ref() == Some(&hard)
            && equal(before.used.as_ref().unwrap_or(&BTreeMap::new()), &used);
        if !same {
            // Admission may have charged something that was not stored yet when we counted: look again.
            let new = ResourceQuota {
                status: Some(ResourceQuotaStatus {
                    hard: Some(hard),
                    used: Some(used),
                }),
                ..(*found).clone()
            };
            act::update_status(&self.client, &new)
                .await
                .during("update the status")?;
            return Ok(Next::After(RECHECK));
        }
        Ok(Next::After(RESYNC))
    }
}

impl Quotas {
    /// What the objects of a quota's namespace count for.
    fn count(&self, found: &ResourceQuota, hard: &BTreeMap<String, Typed>) -> Amounts {
        let value = json!(found);
        let mut sum = Amounts::new();
        for d in counted(&self.client) {
            if !hard.keys().any(|name| usage::tracks(&d, name)) {
                continue;
            }
            let Ok(cache) = self.client.cache(&d.group_resource()) else {
                continue;
            };
            let entries = cache.list(Some(found.namespace()));
            let plain = !has_scopes(&value) && !detailed(&d);
            if plain {
                let count = i64::try_from(entries.len()).unwrap_or(i64::MAX);
                for name in usage::of(&d, &Value::Null).into_keys() {
                    let count = Quantity::new(count, Format::DecimalSi);
                    add(&mut sum, &Amounts::from([(name, count)]));
                }
                continue;
            }
            for entry in entries {
                let Ok(object) = entry.value() else { continue };
                if usage::scopes_match(&value, &d, &object) {
                    add(&mut sum, &usage::of(&d, &object));
                }
            }
        }
        sum
    }
}

fn has_scopes(quota: &Value) -> bool {
    let scopes = quota["spec"]["scopes"].as_array();
    let selector = quota["spec"]["scopeSelector"]["matchExpressions"].as_array();
    scopes.or(selector).is_some_and(|s| !s.is_empty())
}

/// Whether objects of a kind count for more than one.
fn detailed(d: &Descriptor) -> bool {
    d.group.is_empty() && ["pods", "services", "persistentvolumeclaims"].contains(&&*d.resource)
}

/// Whether two lists of amounts are the same amounts.
fn equal(a: &BTreeMap<String, Typed>, b: &BTreeMap<String, Typed>) -> bool {
    let parse = |q: &Typed| Quantity::parse(&q.0).unwrap_or(Quantity::ZERO);
    a.len() == b.len()
        && a.iter()
            .all(|(k, v)| b.get(k).is_some_and(|w| parse(v) == parse(w)))
}
