//! ServiceAccount: pods run as an account and find its token. Upstream: plugin/pkg/admission/serviceaccount.

use async_trait::async_trait;
use machinery::ApiError;
use machinery::object::{at, bool_at, list_at, map_at, set, str_at};
use machinery::request::{Admission, Attempt, Operation, Steps};
use rand::Rng as _;
use serde_json::{Value, json};

use crate::{Context, limits};

pub struct ServiceAccount(pub Context);

const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// What pods ask for; the server gives such tokens a year and a warning time.
const TOKEN_SECONDS: i64 = 3607;
const MIRROR: &str = "kubernetes.io/config.mirror";
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

impl ServiceAccount {
    /// The account of a pod; waits a little for the `default` of a young namespace.
    async fn account(&self, a: &Attempt<'_>, name: &str) -> Result<Value, ApiError> {
        let namespace = a.namespace;
        let tries = if name == "default" {
            limits::DEFAULT_ACCOUNT_TRIES
        } else {
            1
        };
        for n in 0..tries {
            if n > 0 {
                let jitter = rand::rng().random_range(0..100);
                let wait = limits::DEFAULT_ACCOUNT_WAIT + std::time::Duration::from_millis(jitter);
                tokio::time::sleep(wait).await;
            }
            if let Some(found) = self.0.get("", "serviceaccounts", namespace, name) {
                return Ok(found);
            }
        }
        Err(a.forbidden(&format!(
            "error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found"
        )))
    }
}

fn is_mirror(pod: &Value) -> bool {
    map_at(pod, "metadata.annotations").is_some_and(|m| m.contains_key(MIRROR))
}

#[async_trait]
impl Admission for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> Steps {
        Steps::Both
    }

    async fn mutate(&self, a: &mut Attempt<'_>) -> Result<(), ApiError> {
        if !a.is("", "pods") || a.operation != Operation::Create {
            return Ok(());
        }
        let Some(mut pod) = a.object.clone() else {
            return Ok(());
        };
        if is_mirror(&pod) {
            return check_mirror(a, &pod);
        }
        if str_at(&pod, "spec.serviceAccountName").is_empty() {
            set(&mut pod, "spec.serviceAccountName", json!("default"));
            set(&mut pod, "spec.serviceAccount", json!("default"));
        }
        let account = self
            .account(a, str_at(&pod, "spec.serviceAccountName"))
            .await?;
        let automount = bool_at(&pod, "spec.automountServiceAccountToken")
            .or_else(|| bool_at(&account, "automountServiceAccountToken"))
            .unwrap_or(true);
        if automount {
            mount_token(&mut pod);
        }
        if list_at(&pod, "spec.imagePullSecrets").is_empty() {
            let secrets: Vec<Value> = list_at(&account, "imagePullSecrets")
                .iter()
                .map(|s| json!({"name": str_at(s, "name")}))
                .collect();
            if !secrets.is_empty() {
                set(&mut pod, "spec.imagePullSecrets", json!(secrets));
            }
        }
        a.object = Some(pod);
        Ok(())
    }

    async fn validate(&self, a: &Attempt<'_>) -> Result<(), ApiError> {
        let pods = a.descriptor.group.is_empty() && a.descriptor.resource == "pods";
        let create = a.operation == Operation::Create && a.subresource.is_empty();
        let ephemeral = a.operation == Operation::Update && a.subresource == "ephemeralcontainers";
        let Some(pod) = a.object.as_ref().filter(|_| pods && (create || ephemeral)) else {
            return Ok(());
        };
        if is_mirror(pod) {
            return if create { check_mirror(a, pod) } else { Ok(()) };
        }
        let name = str_at(pod, "spec.serviceAccountName");
        if name.is_empty() {
            let pod = machinery::object::name(pod);
            let why = format!("no service account specified for pod {}/{pod}", a.namespace);
            return Err(a.forbidden(&why));
        }
        let account = self.account(a, name).await?;
        let enforce = account["metadata"]["annotations"][ENFORCE]
            .as_str()
            .unwrap_or("");
        if !["1", "t", "T", "true", "TRUE", "True"].contains(&enforce) {
            return Ok(());
        }
        check_secrets(pod, &account, create).map_err(|why| a.forbidden(&why))
    }
}

fn check_mirror(a: &Attempt<'_>, pod: &Value) -> Result<(), ApiError> {
    if !str_at(pod, "spec.serviceAccountName").is_empty() {
        return Err(a.forbidden("a mirror pod may not reference service accounts"));
    }
    let env_secret = |e: &Value| at(e, "valueFrom.secretKeyRef").is_some();
    let secret = ["spec.containers", "spec.initContainers"].iter().any(|p| {
        list_at(pod, p).iter().any(|c| {
            list_at(c, "env").iter().any(env_secret)
                || list_at(c, "envFrom")
                    .iter()
                    .any(|e| at(e, "secretRef").is_some())
        })
    });
    let volumes = list_at(pod, "spec.volumes");
    let volume_secret = volumes.iter().any(|v| {
        at(v, "secret").is_some()
            || list_at(v, "projected.sources")
                .iter()
                .any(|s| at(s, "secret").is_some())
    });
    if secret || volume_secret || !list_at(pod, "spec.imagePullSecrets").is_empty() {
        return Err(a.forbidden("a mirror pod may not reference secrets"));
    }
    let token = volumes.iter().any(|v| {
        let sources = list_at(v, "projected.sources");
        sources
            .iter()
            .any(|s| at(s, "serviceAccountToken").is_some())
    });
    if token {
        return Err(a.forbidden("a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

/// Mounts the token in every container that mounts nothing at its place.
fn mount_token(pod: &mut Value) {
    let volumes = list_at(pod, "spec.volumes");
    let there = volumes
        .iter()
        .map(|v| str_at(v, "name"))
        .find(|n| n.starts_with(VOLUME_PREFIX));
    let (name, new) = match there {
        Some(name) => (name.to_string(), false),
        None => (format!("{VOLUME_PREFIX}{}", suffix()), true),
    };
    let mut used = false;
    for path in ["initContainers", "containers"] {
        let Some(containers) = pod["spec"].get_mut(path).and_then(Value::as_array_mut) else {
            continue;
        };
        for c in containers {
            let mut mounts = list_at(c, "volumeMounts").to_vec();
            if mounts.iter().any(|m| str_at(m, "mountPath") == MOUNT) {
                continue;
            }
            mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT}));
            set(c, "volumeMounts", json!(mounts));
            used = true;
        }
    }
    if used && new {
        let mut volumes = list_at(pod, "spec.volumes").to_vec();
        volumes.push(token_volume(&name));
        set(pod, "spec.volumes", json!(volumes));
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace",
            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

/// Five characters of upstream's alphabet for generated names.
fn suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rng = rand::rng();
    let pick = |_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]);
    (0..5).map(pick).collect()
}

fn check_secrets(pod: &Value, account: &Value, create: bool) -> Result<(), String> {
    let sa = machinery::object::name(account);
    let known = |list: &str, s: &str| {
        list_at(account, list)
            .iter()
            .any(|k| str_at(k, "name") == s)
    };
    let tail = format!("is not allowed because service account {sa} does not reference that");
    if create {
        for v in list_at(pod, "spec.volumes") {
            let s = str_at(v, "secret.secretName");
            if at(v, "secret").is_some() && !known("secrets", s) {
                return Err(format!(
                    "volume with secret.secretName=\"{s}\" {tail} secret"
                ));
            }
        }
    }
    let lists: &[(&str, &str)] = if create {
        &[("spec.initContainers", "init "), ("spec.containers", "")]
    } else {
        &[("spec.ephemeralContainers", "ephemeral ")]
    };
    for (path, label) in lists {
        for c in list_at(pod, path) {
            check_container(c, label, &tail, &|s| known("secrets", s))?;
        }
    }
    if !create {
        return Ok(());
    }
    for (i, s) in list_at(pod, "spec.imagePullSecrets").iter().enumerate() {
        let s = str_at(s, "name");
        if !known("imagePullSecrets", s) {
            return Err(format!(
                "imagePullSecrets[{i}].name=\"{s}\" {tail} imagePullSecret"
            ));
        }
    }
    Ok(())
}

fn check_container(
    c: &Value,
    label: &str,
    tail: &str,
    known: &dyn Fn(&str) -> bool,
) -> Result<(), String> {
    let name = str_at(c, "name");
    for e in list_at(c, "env") {
        let s = str_at(e, "valueFrom.secretKeyRef.name");
        if at(e, "valueFrom.secretKeyRef").is_some() && !known(s) {
            let env = str_at(e, "name");
            return Err(format!(
                "{label}container {name} with envVar {env} referencing secret.secretName=\"{s}\" {tail} secret"
            ));
        }
    }
    for e in list_at(c, "envFrom") {
        let s = str_at(e, "secretRef.name");
        if at(e, "secretRef").is_some() && !known(s) {
            return Err(format!(
                "{label}container {name} with envFrom referencing secret.secretName=\"{s}\" {tail} secret"
            ));
        }
    }
    Ok(())
}
