//! Rules by who they apply to: bindings indexed by subject, roles by name, kept up change by change.

use std::collections::HashMap;
use std::sync::Arc;

use client::{ChangeKind, Entry};
use machinery::request::User;
use serde::Deserialize;

use super::rule::Rule;
use crate::feed::Step;

/// One RoleBinding (with a namespace) or ClusterRoleBinding (namespace `""`).
#[derive(Debug)]
pub struct Binding {
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub role_is_cluster: bool,
    pub role: Box<str>,
    subjects: Vec<Subject>,
}

#[derive(Clone, Debug, Deserialize)]
struct Subject {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BindingDocument {
    role_ref: RoleRef,
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
}

#[derive(Deserialize)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Deserialize)]
struct RoleDocument {
    #[serde(default)]
    rules: Option<Vec<Rule>>,
}

/// Bindings of one scope by subject; the number is the place of the subject in its binding.
#[derive(Default)]
struct Scope {
    users: HashMap<Box<str>, Vec<(Arc<Binding>, usize)>>,
    groups: HashMap<Box<str>, Vec<(Arc<Binding>, usize)>>,
}

type Rules = Arc<[Rule]>;

/// All rules of the cluster. What has no namespace lies by itself: every request asks for it several times.
#[derive(Default)]
pub struct Index {
    cluster_roles: HashMap<Box<str>, Rules>,
    /// Namespace, then name.
    roles: HashMap<Box<str>, HashMap<Box<str>, Rules>>,
    bindings: HashMap<Box<str>, HashMap<Box<str>, Arc<Binding>>>,
    cluster: Scope,
    scopes: HashMap<Box<str>, Scope>,
}

// === Binding ===

impl Binding {
    /// Upstream's reason of an allowed request.
    pub fn reason(&self, subject: usize) -> String {
        let kind = if self.role_is_cluster {
            "ClusterRole"
        } else {
            "Role"
        };
        let s = &self.subjects[subject];
        let to = match s.kind.as_str() {
            "ServiceAccount" => {
                let namespace = s.namespace.as_deref().filter(|n| !n.is_empty());
                format!(
                    "ServiceAccount \"{}/{}\"",
                    s.name,
                    namespace.unwrap_or(&self.namespace)
                )
            }
            kind => format!("{kind} \"{}\"", s.name),
        };
        let (name, role) = (&self.name, &self.role);
        if self.namespace.is_empty() {
            format!("RBAC: allowed by ClusterRoleBinding \"{name}\" of {kind} \"{role}\" to {to}")
        } else {
            let namespace = &self.namespace;
            format!(
                "RBAC: allowed by RoleBinding \"{name}/{namespace}\" of {kind} \"{role}\" to {to}"
            )
        }
    }
}

// === Subject ===

impl Subject {
    /// The user name that a User or ServiceAccount subject means, in a binding of `namespace`.
    fn user(&self, namespace: &str) -> Option<Box<str>> {
        match self.kind.as_str() {
            "User" => Some(self.name.as_str().into()),
            "ServiceAccount" => {
                let own = self.namespace.as_deref().unwrap_or("");
                let namespace = if own.is_empty() { namespace } else { own };
                if namespace.is_empty() {
                    return None;
                }
                Some(format!("system:serviceaccount:{namespace}:{}", self.name).into())
            }
            _ => None,
        }
    }
}

// === Index ===

impl Index {
    /// Applies a step of a feed of Roles or ClusterRoles (`cluster` tells which).
    pub fn apply_roles(&mut self, step: Step<'_>, cluster: bool) {
        match step {
            Step::Reset(all) => {
                match cluster {
                    true => self.cluster_roles.clear(),
                    false => self.roles.clear(),
                }
                all.iter().for_each(|e| self.put_role(e));
            }
            Step::Change(c) if c.kind == ChangeKind::Deleted => {
                self.roles_of(&c.entry.namespace).remove(&c.entry.name);
            }
            Step::Change(c) => self.put_role(&c.entry),
        }
    }

    fn put_role(&mut self, entry: &Entry) {
        let rules = match serde_json::from_slice::<RoleDocument>(&entry.bytes) {
            Ok(d) => d.rules.unwrap_or_default(),
            Err(error) => {
                tracing::error!(object = %entry.key(), %error, "stored role does not parse");
                Vec::new()
            }
        };
        self.roles_of(&entry.namespace)
            .insert(entry.name.clone(), rules.into());
    }

    fn roles_of(&mut self, namespace: &str) -> &mut HashMap<Box<str>, Rules> {
        match namespace {
            "" => &mut self.cluster_roles,
            _ => self.roles.entry(namespace.into()).or_default(),
        }
    }

    fn scope_of(&mut self, namespace: &str) -> &mut Scope {
        match namespace {
            "" => &mut self.cluster,
            _ => self.scopes.entry(namespace.into()).or_default(),
        }
    }

    /// Applies a step of a feed of RoleBindings or ClusterRoleBindings.
    pub fn apply_bindings(&mut self, step: Step<'_>, cluster: bool) {
        match step {
            Step::Reset(all) => {
                self.bindings
                    .retain(|namespace, _| namespace.is_empty() != cluster);
                match cluster {
                    true => self.cluster = Scope::default(),
                    false => self.scopes.clear(),
                }
                all.iter().for_each(|e| self.put_binding(e));
            }
            Step::Change(c) if c.kind == ChangeKind::Deleted => {
                self.remove_binding(&c.entry.namespace, &c.entry.name);
            }
            Step::Change(c) => self.put_binding(&c.entry),
        }
    }

    fn put_binding(&mut self, entry: &Entry) {
        self.remove_binding(&entry.namespace, &entry.name);
        let document: BindingDocument = match serde_json::from_slice(&entry.bytes) {
            Ok(d) => d,
            Err(error) => {
                tracing::error!(object = %entry.key(), %error, "stored binding does not parse");
                return;
            }
        };
        let binding = Arc::new(Binding {
            namespace: entry.namespace.clone(),
            name: entry.name.clone(),
            role_is_cluster: document.role_ref.kind == "ClusterRole",
            role: document.role_ref.name.into(),
            subjects: document.subjects.unwrap_or_default(),
        });
        let scope = self.scope_of(&entry.namespace);
        for (i, subject) in binding.subjects.iter().enumerate() {
            let list = if subject.kind == "Group" {
                scope
                    .groups
                    .entry(subject.name.as_str().into())
                    .or_default()
            } else if let Some(user) = subject.user(&binding.namespace) {
                scope.users.entry(user).or_default()
            } else {
                continue;
            };
            list.push((binding.clone(), i));
        }
        self.bindings
            .entry(entry.namespace.clone())
            .or_default()
            .insert(entry.name.clone(), binding);
    }

    fn remove_binding(&mut self, namespace: &str, name: &str) {
        let Some(names) = self.bindings.get_mut(namespace) else {
            return;
        };
        let Some(binding) = names.remove(name) else {
            return;
        };
        let scope = self.scope_of(namespace);
        for subject in &binding.subjects {
            if subject.kind == "Group" {
                drop_from(&mut scope.groups, &subject.name, &binding);
            } else if let Some(user) = subject.user(namespace) {
                drop_from(&mut scope.users, &user, &binding);
            }
        }
    }

    /// The rules of a role; namespace `""` for cluster roles.
    pub fn role(&self, namespace: &str, name: &str) -> Option<&Rules> {
        match namespace {
            "" => self.cluster_roles.get(name),
            _ => self.roles.get(namespace)?.get(name),
        }
    }

    /// Calls `f` with each binding (and the place of its subject) that applies to the user: cluster
    /// bindings first, then those of the namespace. `f` answers whether to go on.
    pub fn visit(&self, user: &User, namespace: &str, mut f: impl FnMut(&Binding, usize) -> bool) {
        let own = self.scopes.get(namespace);
        for scope in std::iter::once(&self.cluster).chain(own) {
            let groups = user
                .groups
                .iter()
                .filter_map(|g| scope.groups.get(g.as_str()));
            let lists = scope
                .users
                .get(user.name.as_str())
                .into_iter()
                .chain(groups);
            for (binding, subject) in lists.flatten() {
                if !f(binding, *subject) {
                    return;
                }
            }
        }
    }

    /// The rules that a binding grants.
    pub fn rules_of(&self, binding: &Binding) -> Option<&Rules> {
        let namespace = if binding.role_is_cluster {
            ""
        } else {
            &binding.namespace
        };
        self.role(namespace, &binding.role)
    }
}

fn drop_from(
    map: &mut HashMap<Box<str>, Vec<(Arc<Binding>, usize)>>,
    key: &str,
    binding: &Arc<Binding>,
) {
    if let Some(list) = map.get_mut(key) {
        list.retain(|(b, _)| !Arc::ptr_eq(b, binding));
        if list.is_empty() {
            map.remove(key);
        }
    }
}
