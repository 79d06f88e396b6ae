//! FlowSchemas: which requests they are about. Upstream: flowcontrol/rule.go.

use machinery::request::User;
use serde::Deserialize;
use serde_json::Value;

use crate::request_info::RequestInfo;

const ALL: &str = "*";
const ACCOUNT: &str = "system:serviceaccount:";

/// `spec` of a FlowSchema.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SchemaSpec {
    pub matching_precedence: i32,
    pub priority_level_configuration: Named,
    pub distinguisher_method: Option<Method>,
    pub rules: Vec<Rules>,
}

/// Anything with a name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Named {
    pub name: String,
    pub namespace: String,
}

/// What makes two requests of a schema different flows.
#[derive(Clone, Debug, Deserialize)]
pub struct Method {
    #[serde(rename = "type")]
    pub kind: String,
}

/// Requests of some subjects.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rules {
    subjects: Vec<Subject>,
    resource_rules: Vec<ResourceRule>,
    non_resource_rules: Vec<PathRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Subject {
    kind: String,
    user: Named,
    group: Named,
    service_account: Named,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceRule {
    verbs: Vec<String>,
    #[serde(rename = "apiGroups")]
    groups: Vec<String>,
    resources: Vec<String>,
    namespaces: Vec<String>,
    cluster_scope: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PathRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    paths: Vec<String>,
}

impl SchemaSpec {
    /// The spec of a stored object.
    pub fn of(object: &Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(&object["spec"])
    }

    /// Everything that members of these groups ask for.
    pub fn all_of(groups: &[&str], level: &str) -> Self {
        let all = || vec![ALL.to_string()];
        let subject = |g: &&str| Subject {
            kind: "Group".into(),
            group: Named {
                name: (*g).to_string(),
                ..Named::default()
            },
            ..Subject::default()
        };
        Self {
            priority_level_configuration: Named {
                name: level.into(),
                ..Named::default()
            },
            rules: vec![Rules {
                subjects: groups.iter().map(subject).collect(),
                resource_rules: vec![ResourceRule {
                    verbs: all(),
                    groups: all(),
                    resources: all(),
                    namespaces: all(),
                    cluster_scope: true,
                }],
                non_resource_rules: vec![PathRule {
                    verbs: all(),
                    paths: all(),
                }],
            }],
            ..Self::default()
        }
    }

    /// Whether a request is one of these.
    pub fn matches(&self, info: &RequestInfo, user: &User) -> bool {
        self.rules.iter().any(|r| r.matches(info, user))
    }
}

/// Whether a list has a text, or is the wildcard alone.
fn has(list: &[String], text: &str) -> bool {
    matches!(list, [one] if one == ALL) || list.iter().any(|l| l == text)
}

impl Rules {
    fn matches(&self, info: &RequestInfo, user: &User) -> bool {
        if !self.subjects.iter().any(|s| s.matches(user)) {
            return false;
        }
        match info.is_resource {
            true => self.resource_rules.iter().any(|r| r.matches(info)),
            false => self.non_resource_rules.iter().any(|r| r.matches(info)),
        }
    }
}

impl Subject {
    fn matches(&self, user: &User) -> bool {
        match self.kind.as_str() {
            "User" => self.user.name == ALL || self.user.name == user.name,
            "Group" => self.group.name == ALL || user.in_group(&self.group.name),
            "ServiceAccount" => {
                let account = user
                    .name
                    .strip_prefix(ACCOUNT)
                    .and_then(|a| a.split_once(':'));
                let wanted = &self.service_account;
                account.is_some_and(|(namespace, name)| {
                    namespace == wanted.namespace && (wanted.name == ALL || name == wanted.name)
                })
            }
            _ => false,
        }
    }
}

impl ResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        if !has(&self.verbs, &info.verb) || !has(&self.groups, &info.group) {
            return false;
        }
        let named = |r: &String| match r.split_once('/') {
            None => info.subresource.is_empty() && *r == info.resource,
            Some((resource, sub)) => resource == info.resource && sub == info.subresource,
        };
        let every = matches!(self.resources.as_slice(), [one] if one == ALL);
        if !every && !self.resources.iter().any(named) {
            return false;
        }
        match info.namespace.as_str() {
            "" => self.cluster_scope,
            namespace => has(&self.namespaces, namespace),
        }
    }
}

impl PathRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        has(&self.verbs, &info.verb) && self.paths.iter().any(|p| under(p, &info.path))
    }
}

/// Whether a path is a rule's, or below it.
fn under(rule: &str, path: &str) -> bool {
    if rule == ALL || rule == path {
        return true;
    }
    let prefix = rule.strip_suffix('*').unwrap_or(rule);
    match prefix.ends_with('/') {
        true => path.starts_with(prefix),
        false => path
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with('/')),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn info(verb: &str, path: &str) -> RequestInfo {
        let parts: Vec<&str> = path.split('|').collect();
        match parts.as_slice() {
            [path] => RequestInfo {
                verb: verb.into(),
                path: (*path).into(),
                ..RequestInfo::default()
            },
            [group, resource, sub, namespace] => RequestInfo {
                is_resource: true,
                verb: verb.into(),
                group: (*group).into(),
                resource: (*resource).into(),
                subresource: (*sub).into(),
                namespace: (*namespace).into(),
                ..RequestInfo::default()
            },
            _ => panic!("{path}"),
        }
    }

    #[test]
    fn schemas_match_as_upstreams_do() {
        let object = json!({"spec": {"rules": [{
            "subjects": [
                {"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}},
                {"kind": "User", "user": {"name": "u"}}],
            "resourceRules": [
                {"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"], "namespaces": ["a"]},
                {"verbs": ["*"], "apiGroups": [""], "resources": ["*"], "clusterScope": true}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/a/*", "/b/"]}]}]}});
        let spec = SchemaSpec::of(&object).unwrap();
        let table = [
            ("u", "get", "apps|deployments||a", true),
            ("u", "get", "apps|deployments|scale|a", true),
            ("u", "get", "apps|deployments|status|a", false),
            ("u", "get", "apps|deployments||b", false),
            ("u", "get", "apps|deployments||", false),
            ("u", "list", "apps|deployments||a", false),
            ("u", "list", "|nodes||", true),
            ("u", "list", "|pods||a", false),
            ("u", "get", "/healthz", true),
            ("u", "get", "/healthz/etcd", true),
            ("u", "get", "/healthzz", false),
            ("u", "get", "/a/b", true),
            ("u", "get", "/a", false),
            ("u", "get", "/b/c", true),
            ("u", "post", "/healthz", false),
            ("v", "get", "/healthz", false),
            (
                "system:serviceaccount:kube-system:x",
                "list",
                "|nodes||",
                true,
            ),
            (
                "system:serviceaccount:kube-systems:x",
                "list",
                "|nodes||",
                false,
            ),
        ];
        for (user, verb, what, expected) in table {
            let user = User::new(user, &[]);
            let got = spec.matches(&info(verb, what), &user);
            assert_eq!(got, expected, "{} {verb} {what}", user.name);
        }
        let all = SchemaSpec::all_of(&["system:masters"], "exempt");
        assert!(all.matches(
            &info("delete", "x|y|z|w"),
            &User::new("", &["system:masters"])
        ));
        assert!(!all.matches(
            &info("delete", "x|y|z|w"),
            &User::new("system:masters", &[])
        ));
    }
}
