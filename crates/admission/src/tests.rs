//! Tables over plugins: the write that comes in, and what comes out or the refusal's text.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use client::memory::MemoryReads;
use machinery::ApiError;
use machinery::descriptor::{Descriptor, Scope};
use machinery::request::{Admission, Attempt, Attributes, Authorizer, Decision, Operation, User};
use machinery::strategy::Strategy;
use serde_json::{Value, json};

use crate::{Context, chain};

mod hooks;
mod namespaces;
mod nodes;
mod pods;
mod policies;
mod quotas;
mod security;

struct Plain;

impl Strategy for Plain {
    fn name_problems(&self, _: &str, _: bool) -> Vec<String> {
        Vec::new()
    }
}

/// Allows nothing.
struct Nobody;

#[async_trait]
impl Authorizer for Nobody {
    fn name(&self) -> &'static str {
        "nobody"
    }

    async fn authorize(&self, _: &Attributes) -> Decision {
        Decision::NoOpinion(String::new())
    }

    async fn rules(&self, _: &User, _: &str) -> (Vec<Value>, Vec<Value>, bool) {
        (Vec::new(), Vec::new(), false)
    }
}

const CACHES: &[(&str, &str)] = &[
    ("", "namespaces"),
    ("", "pods"),
    ("", "nodes"),
    ("", "serviceaccounts"),
    ("", "limitranges"),
    ("", "resourcequotas"),
    ("scheduling.k8s.io", "priorityclasses"),
    ("storage.k8s.io", "storageclasses"),
    ("node.k8s.io", "runtimeclasses"),
    ("discovery.k8s.io", "endpointslices"),
    ("", "services"),
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
    ),
    (
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
    ),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
    (
        "admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings",
    ),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicies",
    ),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicybindings",
    ),
];

pub(crate) struct World {
    reads: Arc<MemoryReads>,
    pub context: Context,
}

impl World {
    /// Namespace `d` with its account.
    pub fn new() -> Self {
        let reads = Arc::new(MemoryReads::new(CACHES));
        let context = Context {
            reads: reads.clone(),
            authorizer: Arc::new(Nobody),
            writer: Arc::new(OnceLock::new()),
            webhooks: webhook::Caller::new(reads.clone(), "test"),
            conditions: None,
        };
        let world = Self { reads, context };
        world.put(
            "",
            "namespaces",
            json!({"metadata": {"name": "d"}, "status": {"phase": "Active"}}),
        );
        world.put(
            "",
            "serviceaccounts",
            json!({"metadata": {"name": "default", "namespace": "d"}}),
        );
        world
    }

    pub fn put(&self, group: &'static str, resource: &'static str, object: Value) {
        self.reads
            .memory(group, resource)
            .expect("a cache")
            .apply(object)
            .expect("an object");
    }
}

/// One write. `what` is `group/resource/subresource`, `-` for the core group.
pub(crate) struct Write {
    pub what: &'static str,
    pub operation: Operation,
    pub user: User,
    pub object: Option<Value>,
    pub before: Option<Value>,
    pub name: &'static str,
    pub namespace: &'static str,
}

impl Write {
    pub fn create(what: &'static str, object: Value) -> Self {
        Self {
            what,
            operation: Operation::Create,
            user: User::new("u", &[]),
            object: Some(object),
            before: None,
            name: "",
            namespace: "d",
        }
    }

    pub fn update(what: &'static str, before: Value, object: Value) -> Self {
        Self {
            operation: Operation::Update,
            before: Some(before),
            name: "x",
            ..Self::create(what, object)
        }
    }
}

pub(crate) struct Outcome {
    pub object: Value,
    pub warnings: Vec<String>,
}

/// Runs the named plugin (`""`: the whole chain).
pub(crate) async fn run(world: &World, plugin: &str, w: Write) -> Result<Outcome, ApiError> {
    let parts: Vec<&str> = w.what.split('/').collect();
    let group: &'static str = Box::leak(parts[0].trim_matches('-').to_string().into_boxed_str());
    let resource: &'static str = Box::leak(parts[1].to_string().into_boxed_str());
    let cluster = [
        "nodes",
        "namespaces",
        "priorityclasses",
        "persistentvolumes",
    ];
    let scope = if cluster.contains(&resource) {
        Scope::Cluster
    } else {
        Scope::Namespaced
    };
    let d = Descriptor::new(group, "v1", "K", resource, scope, Plain);
    let mut a = Attempt {
        subresource: parts.get(2).copied().unwrap_or(""),
        namespace: if scope == Scope::Cluster {
            ""
        } else {
            w.namespace
        },
        name: w.name,
        object: w.object,
        before: w.before.as_ref(),
        ..Attempt::new(w.operation, &d, &w.user)
    };
    let mut all = chain(&world.context);
    all.insert(0, Arc::new(crate::ParamAccess(world.context.clone())));
    let chosen: Vec<&Arc<dyn Admission>> = all
        .iter()
        .filter(|p| (plugin.is_empty() || p.name() == plugin) && p.handles(w.operation))
        .collect();
    for p in &chosen {
        p.mutate(&mut a).await?;
    }
    for p in &chosen {
        p.validate(&a).await?;
    }
    Ok(Outcome {
        object: a.object.unwrap_or_default(),
        warnings: a.warnings.take(),
    })
}

/// The refusal's message, or `ok`.
pub(crate) async fn text(world: &World, plugin: &str, w: Write) -> String {
    match run(world, plugin, w).await {
        Ok(_) => "ok".into(),
        Err(e) => e.message,
    }
}

pub(crate) fn pod(spec: Value) -> Value {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "c", "image": "i"}]);
    }
    json!({"metadata": {"name": "p", "namespace": "d"}, "spec": spec})
}

#[test]
fn chain_has_upstreams_order() {
    let names: Vec<&str> = chain(&World::new().context)
        .iter()
        .map(|p| p.name())
        .collect();
    assert_eq!(
        names,
        [
            "NamespaceLifecycle",
            "LimitRanger",
            "ServiceAccount",
            "NodeRestriction",
            "TaintNodesByCondition",
            "PodSecurity",
            "Priority",
            "DefaultTolerationSeconds",
            "DefaultStorageClass",
            "StorageObjectInUseProtection",
            "PersistentVolumeClaimResize",
            "RuntimeClass",
            "CertificateApproval",
            "CertificateSigning",
            "ClusterTrustBundleAttest",
            "CertificateSubjectRestriction",
            "DefaultIngressClass",
            "PodTopologyLabels",
            "NodeDeclaredFeatureValidator",
            "PodResizeValidator",
            "MutatingAdmissionPolicy",
            "MutatingAdmissionWebhook",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionWebhook",
            "ResourceQuota",
        ]
    );
}

/// A step that a plugin has and does not name would never be asked.
#[test]
fn plugins_name_the_steps_that_they_have() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let mut plugins = 0;
    for file in std::fs::read_dir(folder).expect("this crate") {
        let path = file.expect("a file").path();
        if path.ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for text in text.split("Admission for ").skip(1) {
            let plugin = text.split("\n}\n").next().unwrap_or_default();
            let has = |step: &str| plugin.contains(&format!("async fn {step}("));
            let named = match (has("mutate"), has("validate")) {
                (true, true) => "Steps::Both",
                (true, false) => "Steps::Mutate",
                _ => "Steps::Validate",
            };
            let name = plugin.lines().next().unwrap_or_default();
            assert!(plugin.contains(named), "{path:?}: {name}");
            plugins += 1;
        }
    }
    // ParamAccess is none of the chain.
    assert_eq!(plugins, chain(&World::new().context).len() + 1);
}
