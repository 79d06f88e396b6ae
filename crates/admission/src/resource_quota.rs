//! ResourceQuota: what a namespace may use in all, reserved in the quota's status before the write.
//! Upstream: k8s.io/apiserver/pkg/admission/plugin/resourcequota.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use machinery::ApiError;
use machinery::object::{at, name, set, str_at};
use machinery::request::{Admission, Attempt, Operation, Steps};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::pod_requests::{Amounts, list};
use crate::{Context, limits};

mod usage;

pub struct ResourceQuota {
    context: Context,
    /// One writer a namespace at a time.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Quotas as we wrote them last, until the cache shows that version: by namespace and name.
    own: Mutex<HashMap<(String, String), Value>>,
}

/// What one object adds to a quota.
struct Charge {
    quota: Value,
    delta: Amounts,
}

// === ResourceQuota ===

impl ResourceQuota {
    /// The plugin.
    pub fn new(context: Context) -> Self {
        Self {
            context,
            turns: Mutex::default(),
            own: Mutex::default(),
        }
    }

    /// Quotas of a namespace; our own last writes where the cache is behind them.
    fn quotas(&self, namespace: &str) -> Vec<Value> {
        let mut all = self.context.list("", "resourcequotas", Some(namespace));
        let mut own = self.own.lock();
        for quota in &mut all {
            let key = (namespace.to_string(), name(quota).to_string());
            let Some(written) = own.get(&key) else {
                continue;
            };
            let same = machinery::object::uid(written) == machinery::object::uid(quota);
            if same && version(written) > version(quota) {
                *quota = written.clone();
            } else {
                own.remove(&key);
            }
        }
        all
    }

    fn remember(&self, namespace: &str, quota: Value) {
        let mut own = self.own.lock();
        if own.len() >= limits::QUOTA_OWN_WRITES_MAX {
            own.clear();
        }
        own.insert((namespace.to_string(), name(&quota).to_string()), quota);
    }

    fn turn(&self, namespace: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock();
        if turns.len() >= limits::QUOTA_OWN_WRITES_MAX {
            turns.retain(|_, t| Arc::strong_count(t) > 1);
        }
        turns.entry(namespace.to_string()).or_default().clone()
    }

    /// What each quota would have to count; refusals as errors.
    fn charges(&self, a: &Attempt<'_>, object: &Value) -> Result<Vec<Charge>, ApiError> {
        let mut out = Vec::new();
        for quota in self.quotas(a.namespace) {
            let hard = list(at(&quota, "status.hard"));
            let tracked: Vec<&String> = hard.keys().filter(|r| usage::tracks(a, r)).collect();
            if tracked.is_empty() || !usage::scopes_match(&quota, a, object) {
                continue;
            }
            let quota_name = name(&quota).to_string();
            if let Some(lacking) = usage::missing_constraints(a, object, &tracked) {
                return Err(a.forbidden(&format!(
                    "failed quota: {quota_name}: must specify {lacking}"
                )));
            }
            let used = list(at(&quota, "status.used"));
            let unknown: Vec<&str> = tracked
                .iter()
                .filter(|r| !used.contains_key(**r))
                .map(|r| r.as_str())
                .collect();
            if !unknown.is_empty() {
                return Err(a.forbidden(&format!(
                    "status unknown for quota: {quota_name}, resources: {}",
                    unknown.join(",")
                )));
            }
            let mut delta = usage::of(a, object);
            if let Some(before) = a.before.filter(|b| usage::scopes_match(&quota, a, b)) {
                delta = increase(&delta, &usage::of(a, before));
            }
            delta.retain(|r, q| hard.contains_key(r) && !q.is_zero());
            let negative: Vec<&str> = delta
                .iter()
                .filter(|(_, q)| q.sign() < 0)
                .map(|(r, _)| r.as_str())
                .collect();
            if !negative.is_empty() {
                let list = negative.join(", ");
                return Err(
                    a.forbidden(&format!("quota usage is negative for resource(s): {list}"))
                );
            }
            if !delta.is_empty() {
                out.push(Charge { quota, delta });
            }
        }
        Ok(out)
    }

    async fn reserve(&self, a: &Attempt<'_>, object: &Value) -> Result<(), ApiError> {
        let turn = self.turn(a.namespace);
        let _turn = turn.lock().await;
        let mut last = None;
        for _ in 0..limits::QUOTA_TRIES {
            let charges = self.charges(a, object)?;
            let mut writes = Vec::new();
            for charge in charges {
                writes.push(charged(a, charge)?);
            }
            if a.dry_run {
                return Ok(());
            }
            match self.write_all(a.namespace, writes).await {
                Ok(()) => return Ok(()),
                Err(e) if e.is_conflict() => last = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(last.unwrap_or_else(|| ApiError::internal("resource quota evaluation timed out")))
    }

    async fn write_all(&self, namespace: &str, quotas: Vec<Value>) -> Result<(), ApiError> {
        for quota in quotas {
            let path = format!(
                "/api/v1/namespaces/{namespace}/resourcequotas/{}",
                name(&quota)
            );
            let body = quota.to_string().into_bytes();
            match self.call("PUT", &format!("{path}/status"), body).await {
                Ok(written) => self.remember(namespace, written),
                Err(e) if e.is_conflict() => {
                    // Somebody else wrote it: go on from what there is now.
                    let current = self.call("GET", &path, Vec::new()).await?;
                    self.remember(namespace, current);
                    return Err(e);
                }
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    async fn call(&self, method: &str, path: &str, body: Vec<u8>) -> Result<Value, ApiError> {
        let client = self
            .context
            .writer
            .get()
            .ok_or_else(|| ApiError::unavailable("not yet ready to handle request"))?;
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(ApiError::internal)?;
        client
            .kube()
            .request::<Value>(request)
            .await
            .map_err(|e| match e {
                kube::Error::Api(status) => {
                    ApiError::new(status.code, &status.reason, status.message.clone())
                }
                other => ApiError::internal(other),
            })
    }
}

#[async_trait]
impl Admission for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> Steps {
        Steps::Validate
    }

    async fn validate(&self, a: &Attempt<'_>) -> Result<(), ApiError> {
        let Some(object) = a.object.as_ref().filter(|_| usage::concerns(a)) else {
            return Ok(());
        };
        let Some(cache) = self.context.cache("", "resourcequotas") else {
            return Ok(());
        };
        if cache.list(Some(a.namespace)).is_empty() || self.charges(a, object)?.is_empty() {
            return Ok(());
        }
        match tokio::time::timeout(limits::QUOTA_TIMEOUT, self.reserve(a, object)).await {
            Ok(result) => result,
            Err(_) => Err(ApiError::internal("resource quota evaluation timed out")),
        }
    }
}

fn version(object: &Value) -> u64 {
    str_at(object, "metadata.resourceVersion")
        .parse()
        .unwrap_or(0)
}

/// What is more in `after` than in `before`.
fn increase(after: &Amounts, before: &Amounts) -> Amounts {
    after
        .iter()
        .map(|(r, q)| (r.clone(), before.get(r).map_or(*q, |b| q.sub(b))))
        .filter(|(_, q)| q.sign() > 0)
        .collect()
}

/// The quota with the charge counted, or the refusal.
fn charged(a: &Attempt<'_>, charge: Charge) -> Result<Value, ApiError> {
    let Charge { mut quota, delta } = charge;
    let (hard, mut used) = (
        list(at(&quota, "status.hard")),
        list(at(&quota, "status.used")),
    );
    let (mut requested, mut in_use, mut limited) = (Vec::new(), Vec::new(), Vec::new());
    for (r, q) in &delta {
        let (Some(h), Some(u)) = (hard.get(r), used.get(r).copied()) else {
            continue;
        };
        let total = u.add(q);
        if total > *h && a.subresource != "status" {
            requested.push(format!("{r}={q}"));
            in_use.push(format!("{r}={u}"));
            limited.push(format!("{r}={h}"));
        }
        used.insert(r.clone(), total);
    }
    if !requested.is_empty() {
        return Err(a.forbidden(&format!(
            "exceeded quota: {}, requested: {}, used: {}, limited: {}",
            name(&quota),
            requested.join(","),
            in_use.join(","),
            limited.join(",")
        )));
    }
    for (r, q) in &used {
        let mut all = at(&quota, "status.used")
            .cloned()
            .unwrap_or_else(|| json!({}));
        all[r] = json!(q.to_string());
        set(&mut quota, "status.used", all);
    }
    if quota.get("kind").is_none() {
        quota["kind"] = json!("ResourceQuota");
        quota["apiVersion"] = json!("v1");
    }
    Ok(quota)
}
