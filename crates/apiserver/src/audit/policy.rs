//! Audit policies: at which level a request is recorded. Upstream: apiserver/pkg/audit/policy and
//! pkg/apis/audit/{v1,validation}.

use machinery::request::User;
use serde::Deserialize;

use crate::request_info::RequestInfo;

/// How much of a request is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

/// When an event is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

/// Upstream's `audit.k8s.io/v1` Policy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    api_version: String,
    kind: String,
    rules: Vec<Rule>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    paths: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// What a policy says about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub level: Level,
    pub omit_stages: Vec<Stage>,
    pub omit_managed_fields: bool,
}

/// What is recorded where nobody gives a policy: who changed what, and what people read. Left out are
/// the control plane's and the nodes' own reads and heartbeats, which would be all there is on an idle
/// node, health checks and discovery.
pub const DEFAULT: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  nonResourceURLs: ["/healthz*", "/livez*", "/readyz*", "/version", "/openapi*", "/metrics", "/api", "/api/*", "/apis", "/apis/*"]
- level: None
  users: ["system:apiserver", "system:kube-scheduler", "system:kube-controller-manager", "system:kube-proxy"]
  verbs: [get, list, watch]
- level: None
  userGroups: ["system:nodes", "system:serviceaccounts:kube-system"]
  verbs: [get, list, watch]
- level: None
  userGroups: ["system:nodes", "system:serviceaccounts:kube-system"]
  verbs: [update, patch]
  resources:
  - group: coordination.k8s.io
    resources: [leases]
  - group: ""
    resources: [nodes/status]
- level: None
  users: ["system:kube-scheduler", "system:kube-controller-manager"]
  resources:
  - group: coordination.k8s.io
    resources: [leases]
- level: None
  userGroups: ["system:nodes", "system:serviceaccounts:kube-system"]
  resources:
  - group: ""
    resources: [events]
  - group: events.k8s.io
    resources: [events]
- level: None
  users: ["system:apiserver", "system:kube-scheduler", "system:kube-controller-manager"]
  resources:
  - group: ""
    resources: [events]
  - group: events.k8s.io
    resources: [events]
- level: Metadata
"#;

// === Policy ===

impl Policy {
    /// Reads a policy file.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > crate::limits::AUDIT_POLICY_BYTES {
            return Err("the file is too large".into());
        }
        let policy: Self =
            serde_saphyr::from_str(text).map_err(|e| format!("failed decoding: {e}"))?;
        if policy.api_version != "audit.k8s.io/v1" || policy.kind != "Policy" {
            return Err(format!(
                "unknown group version field {}, Kind={} in policy",
                policy.api_version, policy.kind
            ));
        }
        let problems: Vec<String> = policy
            .rules
            .iter()
            .enumerate()
            .flat_map(|(i, r)| r.problems(&format!("rules[{i}]")))
            .collect();
        if !problems.is_empty() {
            return Err(problems.join(", "));
        }
        match policy.rules.is_empty() {
            true => Err("loaded illegal policy with 0 rules".into()),
            false => Ok(policy),
        }
    }

    /// The first rule that matches decides; without one nothing is recorded.
    pub fn verdict(&self, info: &RequestInfo, user: Option<&User>) -> Verdict {
        let rule = self.rules.iter().find(|r| r.matches(info, user));
        let mut omit_stages = self.omit_stages.clone();
        if let Some(rule) = rule {
            omit_stages.extend(&rule.omit_stages);
        }
        Verdict {
            level: rule.map_or(Level::None, |r| r.level),
            omit_stages,
            omit_managed_fields: rule
                .and_then(|r| r.omit_managed_fields)
                .unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn problems(&self, at: &str) -> Vec<String> {
        let mut out = Vec::new();
        for (i, path) in self.paths.iter().enumerate().filter(|(_, p)| *p != "*") {
            let at = format!("{at}.nonResourceURLs[{i}]");
            if !path.starts_with('/') {
                out.push(format!("{at}: Invalid value: {path:?}: non-resource URL rules must begin with a '/' character"));
            }
            if path.find('*').is_some_and(|star| star + 1 < path.len()) {
                out.push(format!("{at}: Invalid value: {path:?}: non-resource URL wildcards '*' must be the final character of the rule"));
            }
        }
        for r in &self.resources {
            if !["", "*"].contains(&&*r.group) {
                for why in api::names::subdomain_name(&r.group, false) {
                    out.push(format!(
                        "{at}.resources.group: Invalid value: {:?}: {why}",
                        r.group
                    ));
                }
            }
            if !r.resource_names.is_empty() && r.resources.is_empty() {
                out.push(format!("{at}.resources.resourceNames: Invalid value: {:?}: using resourceNames requires at least one resource", r.resource_names));
            }
        }
        let both = !self.resources.is_empty() || !self.namespaces.is_empty();
        if !self.paths.is_empty() && both {
            out.push(format!("{at}.nonResourceURLs: Invalid value: {:?}: rules cannot apply to both regular resources and non-resource URLs", self.paths));
        }
        out
    }

    fn matches(&self, info: &RequestInfo, user: Option<&User>) -> bool {
        let has = |list: &[String], text: &str| list.iter().any(|l| l == text);
        let named = |u: &User| has(&self.users, &u.name);
        if !self.users.is_empty() && !user.is_some_and(named) {
            return false;
        }
        let member = |u: &User| u.groups.iter().any(|g| has(&self.user_groups, g));
        if !self.user_groups.is_empty() && !user.is_some_and(member) {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, &info.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            let inside = self.namespaces.is_empty() || has(&self.namespaces, &info.namespace);
            let named = |r: &GroupResources| r.matches(info);
            return info.is_resource
                && inside
                && (self.resources.is_empty() || self.resources.iter().any(named));
        }
        if !self.paths.is_empty() {
            return !info.is_resource && self.paths.iter().any(|p| path_matches(p, &info.path));
        }
        true
    }
}

impl GroupResources {
    fn matches(&self, info: &RequestInfo) -> bool {
        if self.group != "*" && self.group != info.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.resource_names.is_empty() && !self.resource_names.contains(&info.name) {
            return false;
        }
        let sub = info.subresource.as_str();
        self.resources.iter().any(|r| match r.split_once('/') {
            _ if r == "*" => true,
            None => sub.is_empty() && *r == info.resource,
            Some(("*", s)) => !sub.is_empty() && s == sub,
            Some((resource, "*")) => resource == info.resource,
            Some((resource, s)) => resource == info.resource && s == sub,
        })
    }
}

fn path_matches(rule: &str, path: &str) -> bool {
    rule == "*" || rule == path || (rule.strip_suffix('*')).is_some_and(|p| path.starts_with(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(verb: &str, what: &str) -> RequestInfo {
        let parts: Vec<&str> = what.split('|').collect();
        match parts.as_slice() {
            [group, resource, sub, namespace, name] => RequestInfo {
                is_resource: true,
                verb: verb.into(),
                group: (*group).into(),
                resource: (*resource).into(),
                subresource: (*sub).into(),
                namespace: (*namespace).into(),
                name: (*name).into(),
                ..RequestInfo::default()
            },
            _ => RequestInfo {
                verb: verb.into(),
                path: what.into(),
                ..RequestInfo::default()
            },
        }
    }

    #[test]
    fn the_first_matching_rule_decides() {
        let policy = Policy::parse(
            r#"{apiVersion: audit.k8s.io/v1, kind: Policy, omitStages: [RequestReceived], rules: [
            {level: None, users: [quiet]},
            {level: RequestResponse, resources: [{group: "", resources: [pods, "services/*", "*/scale"]}], omitManagedFields: true},
            {level: Request, resources: [{group: apps, resources: [deployments], resourceNames: [d]}], omitStages: [Panic]},
            {level: Metadata, namespaces: [""], verbs: [list]},
            {level: Metadata, nonResourceURLs: ["/a*"]},
            {level: Metadata, userGroups: [g]}]}"#,
        )
        .unwrap();
        let table = [
            ("quiet", "get", "|pods||n|p", Level::None),
            ("u", "get", "|pods||n|p", Level::RequestResponse),
            ("u", "get", "|pods|log|n|p", Level::None),
            ("u", "get", "|services|proxy|n|p", Level::RequestResponse),
            ("u", "get", "|services||n|p", Level::RequestResponse),
            ("u", "get", "|x|scale|n|p", Level::RequestResponse),
            ("u", "get", "apps|deployments||n|d", Level::Request),
            ("u", "get", "apps|deployments||n|e", Level::None),
            ("u", "list", "x|nodes|||", Level::Metadata),
            ("u", "list", "x|nodes||n|", Level::None),
            ("u", "get", "/abc", Level::Metadata),
            ("u", "get", "/b", Level::None),
        ];
        for (user, verb, what, expected) in table {
            let verdict = policy.verdict(&info(verb, what), Some(&User::new(user, &[])));
            assert_eq!(verdict.level, expected, "{user} {verb} {what}");
        }
        let member = User::new("u", &["g"]);
        assert_eq!(
            policy.verdict(&info("get", "/b"), Some(&member)).level,
            Level::Metadata
        );
        assert_eq!(policy.verdict(&info("get", "/b"), None).level, Level::None);
        let verdict = policy.verdict(&info("get", "apps|deployments||n|d"), Some(&member));
        assert_eq!(verdict.omit_stages, [Stage::RequestReceived, Stage::Panic]);
        assert!(!verdict.omit_managed_fields);
    }

    #[test]
    fn what_is_wrong_with_a_policy_is_told() {
        let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
        for (text, why) in [
            ("{}", "unknown group version"),
            (head, "0 rules"),
            (
                &format!("{head}rules: [{{level: Loud}}]"),
                "failed decoding",
            ),
            (
                &format!("{head}rules: [{{level: None, nonResourceURLs: [a]}}]"),
                "must begin with a '/'",
            ),
            (
                &format!("{head}rules: [{{level: None, nonResourceURLs: ['/*/a']}}]"),
                "must be the final character",
            ),
            (
                &format!("{head}rules: [{{level: None, resources: [{{group: a/b}}]}}]"),
                "rules[0].resources.group: Invalid value: \"a/b\"",
            ),
            (
                &format!("{head}rules: [{{level: None, nonResourceURLs: [/a], namespaces: [b]}}]"),
                "both regular resources",
            ),
        ] {
            let error = Policy::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn by_default_changes_are_recorded_and_heartbeats_are_not() {
        let policy = Policy::parse(DEFAULT).unwrap();
        let node = User::new("system:node:n", &["system:nodes", "system:authenticated"]);
        let admin = User::new("admin", &["system:masters"]);
        let table = [
            (
                &node,
                "update",
                "coordination.k8s.io|leases||n|n",
                Level::None,
            ),
            (&node, "patch", "|nodes|status||n", Level::None),
            (&node, "get", "|secrets||n|s", Level::None),
            (&node, "create", "|pods||n|", Level::Metadata),
            (&admin, "get", "|secrets||n|s", Level::Metadata),
            (&admin, "get", "/readyz", Level::None),
            (&admin, "create", "|events||n|", Level::Metadata),
            (&node, "create", "|events||n|", Level::None),
            (&admin, "create", "|pods|exec|n|p", Level::Metadata),
        ];
        for (user, verb, what, expected) in table {
            let level = policy.verdict(&info(verb, what), Some(user)).level;
            assert_eq!(level, expected, "{} {verb} {what}", user.name);
        }
    }
}
