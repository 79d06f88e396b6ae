//! The RBAC objects of a fresh cluster, and how they are kept up at each start.
//! Upstream: bootstrappolicy, pkg/registry/rbac/reconciliation.

use machinery::object::{list_at, map_at, map_mut, str_at};
use serde_json::{Value, json};

use crate::RBAC_GROUP;
use crate::rbac::rule::{Rule, missing};
use crate::rbac_escalation::rules_of;

mod controllers;
mod tables;

use controllers::CONTROLLER_ROLES;
use tables::{CLUSTER_ROLES, RoleSpec};

/// What must be done so that a stored object is at least what bootstrap wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing.
    Keep,
    Create(Value),
    Update(Value),
    /// The role reference changed, which an update may not do: delete, then create.
    Recreate(Value),
}

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// Who a binding binds: `U name`, `G name` or `S namespace/name`.
type Subjects = &'static [&'static str];

/// Cluster role bindings: name, which is also the role's, and subjects.
static CLUSTER_BINDINGS: &[(&str, Subjects)] = &[
    ("cluster-admin", &["G system:masters"]),
    ("system:monitoring", &["G system:monitoring"]),
    ("system:discovery", &["G system:authenticated"]),
    ("system:basic-user", &["G system:authenticated"]),
    (
        "system:public-info-viewer",
        &["G system:authenticated", "G system:unauthenticated"],
    ),
    ("system:node-proxier", &["U system:kube-proxy"]),
    (
        "system:kube-controller-manager",
        &["U system:kube-controller-manager"],
    ),
    ("system:kube-dns", &["S kube-system/kube-dns"]),
    ("system:kube-scheduler", &["U system:kube-scheduler"]),
    ("system:volume-scheduler", &["U system:kube-scheduler"]),
    ("system:node", &[]),
    (
        "system:service-account-issuer-discovery",
        &["G system:serviceaccounts"],
    ),
    (
        "system:cluster-trust-bundle-discovery",
        &["G system:serviceaccounts"],
    ),
];

const LEADER_RULES: &[&str] = &[
    "create,get,list,update,watch coordination.k8s.io: leases",
    "create,get,list,update,watch coordination.k8s.io: leasecandidates",
];

/// Namespaced roles: namespace, name, rules.
static ROLES: &[(&str, &str, &[&str])] = &[
    (
        "kube-system",
        "extension-apiserver-authentication-reader",
        &["RD core: configmaps # extension-apiserver-authentication"],
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        &["RD core: secrets"],
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        &["create,get,list,watch core: configmaps"],
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        &[
            "delete,get,list,watch core: secrets",
            "create,patch,update core,events.k8s.io: events",
        ],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        LEADER_RULES,
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        LEADER_RULES,
    ),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        &[
            "RD core: configmaps",
            "update core: configmaps # cluster-info",
            "create,patch,update core,events.k8s.io: events",
        ],
    ),
];

/// Namespaced bindings: namespace, name, role, subjects.
static ROLE_BINDINGS: &[(&str, &str, &str, Subjects)] = &[
    (
        "kube-system",
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        &[
            "U system:kube-controller-manager",
            "U system:kube-scheduler",
        ],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        &[
            "U system:kube-controller-manager",
            "S kube-system/kube-controller-manager",
            "S kube-system/leader-election-controller",
        ],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        &["U system:kube-scheduler", "S kube-system/kube-scheduler"],
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &["S kube-system/bootstrap-signer"],
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        "system:controller:cloud-provider",
        &["S kube-system/cloud-provider"],
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        "system:controller:token-cleaner",
        &["S kube-system/token-cleaner"],
    ),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &["S kube-system/bootstrap-signer"],
    ),
];

/// Every bootstrap object in upstream's order: cluster roles, cluster role bindings, roles, role bindings.
/// Namespaces kube-system and kube-public must exist before the last two.
pub fn objects() -> Vec<Value> {
    let mut out: Vec<Value> = CLUSTER_ROLES.iter().map(|r| cluster_role(r, "")).collect();
    let controller = "system:controller:";
    out.extend(CONTROLLER_ROLES.iter().map(|r| cluster_role(r, controller)));
    for (name, subjects) in CLUSTER_BINDINGS {
        out.push(binding(
            "",
            name,
            "ClusterRole",
            name,
            subjects_of(subjects),
        ));
    }
    for role in CONTROLLER_ROLES {
        let name = format!("{controller}{}", role.name);
        let subject =
            json!({"kind": "ServiceAccount", "name": role.name, "namespace": "kube-system"});
        out.push(binding("", &name, "ClusterRole", &name, vec![subject]));
    }
    for (namespace, name, rules) in ROLES {
        let mut role = object("Role", namespace, name);
        role["rules"] = json!(parse_rules(rules));
        out.push(role);
    }
    for (namespace, name, role, subjects) in ROLE_BINDINGS {
        out.push(binding(
            namespace,
            name,
            "Role",
            role,
            subjects_of(subjects),
        ));
    }
    out
}

/// The rules of cluster role `system:node`, which the Node authorizer applies without a binding.
pub fn node_rules() -> Vec<Rule> {
    let role = CLUSTER_ROLES.iter().find(|r| r.name == "system:node");
    parse_rules(role.map(|r| r.rules).unwrap_or_default())
}

/// Names (without the prefix `system:controller:`) of controllers that have a role of their own.
pub fn controllers() -> impl Iterator<Item = &'static str> {
    CONTROLLER_ROLES.iter().map(|r| r.name)
}

/// What to do about one bootstrap object, given what is stored under its name.
pub fn reconcile(expected: &Value, stored: Option<&Value>) -> Step {
    let Some(stored) = stored else {
        return Step::Create(expected.clone());
    };
    let annotations = map_at(stored, "metadata.annotations");
    let protect = annotations
        .and_then(|a| a.get(AUTOUPDATE))
        .and_then(Value::as_str);
    if protect == Some("false") {
        return Step::Keep;
    }
    let mut wanted = stored.clone();
    merge_meta(&mut wanted, expected, "annotations");
    merge_meta(&mut wanted, expected, "labels");
    if expected.get("roleRef").is_some() {
        if stored.get("roleRef") != expected.get("roleRef") {
            return Step::Recreate(expected.clone());
        }
        merge_subjects(&mut wanted, expected);
    } else {
        merge_rules(&mut wanted, expected);
    }
    if wanted == *stored {
        Step::Keep
    } else {
        Step::Update(wanted)
    }
}

fn merge_meta(wanted: &mut Value, expected: &Value, field: &str) {
    let Some(extra) = map_at(expected, &format!("metadata.{field}")) else {
        return;
    };
    let have = map_mut(wanted, &format!("metadata.{field}"));
    for (k, v) in extra {
        have.entry(k.clone()).or_insert_with(|| v.clone());
    }
}

fn merge_subjects(wanted: &mut Value, expected: &Value) {
    let same = |a: &Value, b: &Value| {
        ["kind", "name", "namespace"]
            .iter()
            .all(|f| str_at(a, f) == str_at(b, f))
    };
    let have = list_at(wanted, "subjects").to_vec();
    let lacking: Vec<Value> = list_at(expected, "subjects")
        .iter()
        .filter(|s| !have.iter().any(|h| same(h, s)))
        .cloned()
        .collect();
    if !lacking.is_empty() {
        wanted["subjects"] = json!([have, lacking].concat());
    }
}

fn merge_rules(wanted: &mut Value, expected: &Value) {
    let rules = |o: &Value| rules_of(o).unwrap_or_default();
    let (have, want) = (rules(wanted), rules(expected));
    let lacking = missing(&have, &want);
    if !lacking.is_empty() {
        let mut all: Vec<Value> = list_at(wanted, "rules").to_vec();
        all.extend(lacking.iter().map(|r| json!(r)));
        wanted["rules"] = json!(all);
    }
    let selectors = list_at(expected, "aggregationRule.clusterRoleSelectors");
    if selectors.is_empty() {
        if let Some(map) = wanted.as_object_mut() {
            map.remove("aggregationRule");
        }
        return;
    }
    let have = list_at(wanted, "aggregationRule.clusterRoleSelectors").to_vec();
    let lacking: Vec<Value> = selectors
        .iter()
        .filter(|s| !have.contains(s))
        .cloned()
        .collect();
    if !lacking.is_empty() {
        machinery::object::set(
            wanted,
            "aggregationRule.clusterRoleSelectors",
            json!([have, lacking].concat()),
        );
    }
}

fn object(kind: &str, namespace: &str, name: &str) -> Value {
    let mut o = json!({
        "apiVersion": format!("{RBAC_GROUP}/v1"), "kind": kind,
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {AUTOUPDATE: "true"},
        },
    });
    if !namespace.is_empty() {
        o["metadata"]["namespace"] = json!(namespace);
    }
    o
}

fn cluster_role(spec: &RoleSpec, prefix: &str) -> Value {
    let label = |l: &str| format!("{RBAC_GROUP}/{l}");
    let mut role = object("ClusterRole", "", &format!("{prefix}{}", spec.name));
    if let Some(l) = spec.label {
        role["metadata"]["labels"][label(l)] = json!("true");
    }
    role["rules"] = match spec.aggregates {
        None => json!(parse_rules(spec.rules)),
        Some(l) => {
            role["aggregationRule"] =
                json!({"clusterRoleSelectors": [{"matchLabels": {label(l): "true"}}]});
            Value::Null
        }
    };
    role
}

fn binding(namespace: &str, name: &str, kind: &str, role: &str, subjects: Vec<Value>) -> Value {
    let of = if namespace.is_empty() {
        "ClusterRoleBinding"
    } else {
        "RoleBinding"
    };
    let mut binding = object(of, namespace, name);
    binding["roleRef"] = json!({"apiGroup": RBAC_GROUP, "kind": kind, "name": role});
    if !subjects.is_empty() {
        binding["subjects"] = json!(subjects);
    }
    binding
}

fn subjects_of(subjects: Subjects) -> Vec<Value> {
    let parse = |s: &&str| match s.split_once(' ') {
        Some(("S", account)) => {
            let (namespace, name) = account.split_once('/').unwrap_or(("", account));
            json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
        }
        Some(("G", group)) => json!({"apiGroup": RBAC_GROUP, "kind": "Group", "name": group}),
        Some((_, user)) => json!({"apiGroup": RBAC_GROUP, "kind": "User", "name": user}),
        None => Value::Null,
    };
    subjects.iter().map(parse).collect()
}

fn parse_rules(rules: &[&str]) -> Vec<Rule> {
    rules.iter().map(|r| parse_rule(r)).collect()
}

/// One rule of the tables; their texts are checked by a test.
fn parse_rule(text: &str) -> Rule {
    let (verbs, rest) = text.split_once(' ').unwrap_or((text, ""));
    let verbs = match verbs {
        "RD" => "get,list,watch",
        "WR" => "create,delete,deletecollection,patch,update",
        "RW" => "create,delete,deletecollection,get,list,patch,update,watch",
        other => other,
    };
    let mut rule = Rule {
        verbs: sorted(verbs.split(',')),
        ..Rule::default()
    };
    if let Some(urls) = rest.strip_prefix("URL ") {
        rule.urls = sorted(urls.split(' '));
        return rule;
    }
    let (groups, rest) = rest.split_once(": ").unwrap_or((rest, ""));
    let (resources, names) = rest.split_once(" # ").unwrap_or((rest, ""));
    rule.api_groups = sorted(groups.split(',').map(|g| if g == "core" { "" } else { g }));
    rule.resources = sorted(resources.split(' '));
    rule.resource_names = sorted(names.split(' ').filter(|n| !n.is_empty()));
    rule
}

fn sorted<'a>(items: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut list: Vec<String> = items.map(String::from).collect();
    list.sort();
    list
}

#[cfg(test)]
mod tests;
