//! The Node authorizer: what a kubelet may read because a pod of its node refers to it.
//! Upstream: plugin/pkg/auth/authorizer/node. Only allows or has no opinion, never denies.
//! Instead of upstream's graph: pods by node, with their references; the rest is looked up.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use client::Reads;
use machinery::GroupResource;
use machinery::object::str_at;
use machinery::request::{Attributes, Authorizer, Decision, User};
use parking_lot::Mutex;
use serde_json::Value;

use crate::bootstrap;
use crate::feed::Feed;
use crate::rbac::Rule;

pub mod refs;

use refs::{Pods, References};

/// Prefix of the user name of a node.
pub const USER_PREFIX: &str = "system:node:";
/// Group of all nodes.
pub const GROUP: &str = "system:nodes";

/// Decides for users of group `system:nodes`.
pub struct Node {
    reads: Arc<dyn Reads>,
    rules: Vec<Rule>,
    state: Mutex<State>,
}

struct State {
    pods: Pods,
    feed: Feed,
}

/// The node name of a user: `None` if it is not a node, `Some("")` if it is one without a name.
pub fn identity(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix(USER_PREFIX)?;
    user.in_group(GROUP).then_some(name)
}

type Answer = Result<(), String>;

fn no<T>(why: impl Into<String>) -> Result<T, String> {
    Err(why.into())
}

// === Node ===

impl Node {
    /// An authorizer over these caches.
    pub fn new(reads: Arc<dyn Reads>) -> Self {
        Self {
            reads,
            rules: bootstrap::node_rules(),
            state: Mutex::new(State {
                pods: HashMap::new(),
                feed: Feed::new("", "pods"),
            }),
        }
    }

    /// The decision; an empty reason means that the authorizer has nothing to say.
    pub fn decide(&self, a: &Attributes) -> Decision {
        let Some(node) = identity(&a.user) else {
            return Decision::NoOpinion(String::new());
        };
        if node.is_empty() {
            return Decision::NoOpinion(format!("unknown node for user \"{}\"", a.user.name));
        }
        let answer = if a.is_resource {
            self.resource(a, node)
        } else {
            self.by_rules(a)
        };
        match answer {
            Ok(()) => Decision::Allow(String::new()),
            Err(why) => Decision::NoOpinion(why),
        }
    }

    fn resource(&self, a: &Attributes, node: &str) -> Answer {
        match (a.group.as_str(), a.resource.as_str()) {
            ("", "secrets" | "configmaps") => self.read_named(a, node),
            ("", "persistentvolumeclaims") if a.subresource == "status" => {
                self.claim_status(a, node)
            }
            ("", "persistentvolumeclaims" | "persistentvolumes")
            | ("resource.k8s.io", "resourceclaims")
            | ("storage.k8s.io", "volumeattachments") => self.get_one(a, node),
            ("", "serviceaccounts") => self.service_account(a, node),
            ("coordination.k8s.io", "leases") => lease(a, node),
            ("storage.k8s.io", "csinodes") => csi_node(a, node),
            ("resource.k8s.io", "resourceslices") => self.resource_slice(a, node),
            ("", "nodes") => self.node(a, node),
            ("", "pods") => self.pod(a, node),
            ("certificates.k8s.io", "podcertificaterequests") => self.certificate_request(a, node),
            _ => self.by_rules(a),
        }
    }

    fn by_rules(&self, a: &Attributes) -> Answer {
        if self.rules.iter().any(|r| r.allows(a)) {
            Ok(())
        } else {
            no("")
        }
    }

    /// Secrets and config maps: one named object at a time, through a pod.
    fn read_named(&self, a: &Attributes, node: &str) -> Answer {
        if !matches!(a.verb.as_str(), "get" | "list" | "watch") {
            return no("can only read resources of this type");
        }
        if !a.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if a.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(a, node)
    }

    fn get_one(&self, a: &Attributes, node: &str) -> Answer {
        if a.verb != "get" {
            return no("can only get individual resources of this type");
        }
        if !a.subresource.is_empty() {
            return no("cannot get subresource");
        }
        self.related(a, node)
    }

    fn claim_status(&self, a: &Attributes, node: &str) -> Answer {
        if !matches!(a.verb.as_str(), "get" | "update" | "patch") {
            return no("can only get/update/patch this type");
        }
        self.related(a, node)
    }

    fn service_account(&self, a: &Attributes, node: &str) -> Answer {
        match (a.verb.as_str(), a.subresource.as_str()) {
            ("get", "") => self.related(a, node),
            ("create", "token") => {
                if a.name.is_empty() {
                    return no("can only create tokens for individual service accounts");
                }
                self.related(a, node)
            }
            (_, "") => no("not allowed to get service accounts"),
            ("create", _) => no("can only create token subresource of serviceaccount"),
            _ => no("can only create tokens for individual service accounts"),
        }
    }

    fn resource_slice(&self, a: &Attributes, node: &str) -> Answer {
        if !a.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match a.verb.as_str() {
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.related(a, node),
            "list" | "watch" | "deletecollection" if selects_node(a, node) => Ok(()),
            "list" | "watch" | "deletecollection" => no(
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn node(&self, a: &Attributes, node: &str) -> Answer {
        let reads = matches!(a.verb.as_str(), "get" | "list" | "watch");
        if a.subresource.is_empty() && reads {
            return match a.name.as_str() {
                name if name == node => Ok(()),
                "" => no(format!(
                    "node '{node}' cannot read all nodes, only its own Node object"
                )),
                other => no(format!(
                    "node '{node}' cannot read '{other}', only its own Node object"
                )),
            };
        }
        self.by_rules(a)
    }

    fn pod(&self, a: &Attributes, node: &str) -> Answer {
        if !a.subresource.is_empty() {
            return self.by_rules(a);
        }
        match a.verb.as_str() {
            "get" => self.related(a, node),
            "list" | "watch" if selects_node(a, node) => Ok(()),
            "list" | "watch" if !a.name.is_empty() => self.related(a, node),
            "list" | "watch" => no("can only list/watch pods with spec.nodeName field selector"),
            _ => self.by_rules(a),
        }
    }

    fn certificate_request(&self, a: &Attributes, node: &str) -> Answer {
        if !a.subresource.is_empty() {
            return no("nodes may not access the status subresource of PodCertificateRequests");
        }
        match a.verb.as_str() {
            "create" => Ok(()),
            "get" => self.related(a, node),
            "list" | "watch" if selects_node(a, node) => Ok(()),
            "list" | "watch" => {
                no("can only list/watch podcertificaterequests with nodeName field selector")
            }
            verb => no(format!("nodes may not {verb} podcertificaterequests")),
        }
    }

    /// Whether the named object has to do with the node.
    fn related(&self, a: &Attributes, node: &str) -> Answer {
        if a.name.is_empty() {
            return no("No Object name found");
        }
        let (namespace, name) = (a.namespace.as_str(), a.name.as_str());
        let found = match (a.group.as_str(), a.resource.as_str()) {
            ("", "pods") => self.with_pods(node, |pods| {
                pods.contains_key(&(namespace.into(), name.into()))
            }),
            ("", "configmaps") => self.any_pod(node, namespace, |r| r.config_maps.contains(name)),
            ("", "serviceaccounts") => self.any_pod(node, namespace, |r| &*r.account == name),
            ("", "persistentvolumeclaims") => {
                self.any_pod(node, namespace, |r| r.claims.contains(name))
            }
            ("resource.k8s.io", "resourceclaims") => {
                self.any_pod(node, namespace, |r| r.resource_claims.contains(name))
            }
            ("", "secrets") => {
                self.any_pod(node, namespace, |r| r.secrets.contains(name))
                    || self.secret_of_volume(node, namespace, name)
            }
            ("", "persistentvolumes") => self.volume_of_node(node, name),
            (group, resource) => {
                let gr = GroupResource::new(group.to_string(), resource.to_string());
                let object = self.reads.cache(&gr).and_then(|c| c.get(namespace, name));
                let value = object.and_then(|o| o.value().ok()).unwrap_or(Value::Null);
                str_at(&value, "spec.nodeName") == node
            }
        };
        if found {
            return Ok(());
        }
        no(format!(
            "no relationship found between node '{node}' and this object"
        ))
    }

    fn with_pods<R>(&self, node: &str, f: impl FnOnce(&refs::NodePods) -> R) -> R {
        let mut state = self.state.lock();
        let State { pods, feed } = &mut *state;
        feed.poll(&*self.reads, |step| refs::apply(pods, step));
        match pods.get(node) {
            Some(found) => f(found),
            None => f(&refs::NodePods::new()),
        }
    }

    fn any_pod(&self, node: &str, namespace: &str, f: impl Fn(&References) -> bool) -> bool {
        self.with_pods(node, |pods| {
            pods.iter().any(|((n, _), r)| &**n == namespace && f(r))
        })
    }

    /// Whether a pod of the node uses the claim that the volume is bound to.
    fn volume_of_node(&self, node: &str, volume: &str) -> bool {
        let cache = self
            .reads
            .cache(&GroupResource::new("", "persistentvolumes"));
        let object = cache.and_then(|c| c.get("", volume));
        let Some(value) = object.and_then(|o| o.value().ok()) else {
            return false;
        };
        let namespace = str_at(&value, "spec.claimRef.namespace");
        let claim = str_at(&value, "spec.claimRef.name");
        !claim.is_empty() && self.any_pod(node, namespace, |r| r.claims.contains(claim))
    }

    /// Whether a volume of a claim of a pod of the node needs the secret.
    fn secret_of_volume(&self, node: &str, namespace: &str, secret: &str) -> bool {
        let Some(volumes) = self
            .reads
            .cache(&GroupResource::new("", "persistentvolumes"))
        else {
            return false;
        };
        volumes.list(None).iter().any(|entry| {
            let Ok(value) = entry.value() else {
                return false;
            };
            let own = str_at(&value, "spec.claimRef.namespace").to_string();
            let refers = refs::volume_secrets(&value["spec"], &own)
                .iter()
                .any(|(ns, name)| ns == namespace && name == secret);
            refers && self.volume_of_node(node, &entry.name)
        })
    }
}

#[async_trait]
impl Authorizer for Node {
    fn name(&self) -> &'static str {
        "node"
    }

    async fn authorize(&self, a: &Attributes) -> Decision {
        self.decide(a)
    }

    fn rules_problem(&self, user: &User) -> Option<String> {
        let problem = "node authorizer does not support user rule resolution";
        identity(user).map(|_| problem.to_string())
    }

    async fn rules(&self, user: &User, _namespace: &str) -> (Vec<Value>, Vec<Value>, bool) {
        // Upstream: node users cannot be told their rules.
        (Vec::new(), Vec::new(), identity(user).is_some())
    }
}

/// Whether the request selects the objects of this node only.
fn selects_node(a: &Attributes, node: &str) -> bool {
    let Some(text) = &a.field_selector else {
        return false;
    };
    api::selector::FieldSelector::parse(text)
        .is_ok_and(|s| s.requires("spec.nodeName") == Some(node))
}

fn lease(a: &Attributes, node: &str) -> Answer {
    if !matches!(
        a.verb.as_str(),
        "get" | "create" | "update" | "patch" | "delete"
    ) {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if a.namespace != "kube-node-lease" {
        return no("can only access leases in the \"kube-node-lease\" system namespace");
    }
    if a.verb != "create" && a.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    Ok(())
}

fn csi_node(a: &Attributes, node: &str) -> Answer {
    if !matches!(
        a.verb.as_str(),
        "get" | "create" | "update" | "patch" | "delete"
    ) {
        return no("can only get, create, update, patch, or delete a CSINode");
    }
    if !a.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if a.verb != "create" && a.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    Ok(())
}
