//! One policy rule: matching, the coverage test, and its text in escalation messages.
//! Upstream: pkg/apis/rbac/v1/evaluation_helpers.go, component-helpers/auth/rbac/validation.

use machinery::causes::go_quote;
use machinery::request::Attributes;
use serde::{Deserialize, Deserializer, Serialize};

/// A PolicyRule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    #[serde(default, deserialize_with = "nullable")]
    pub verbs: Vec<String>,
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub api_groups: Vec<String>,
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub resources: Vec<String>,
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub resource_names: Vec<String>,
    #[serde(
        default,
        rename = "nonResourceURLs",
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub urls: Vec<String>,
}

fn nullable<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(d)?.unwrap_or_default())
}

fn has(list: &[String], what: &str) -> bool {
    list.iter().any(|x| x == "*" || x == what)
}

// === Rule ===

impl Rule {
    /// Whether the rule allows the request.
    pub fn allows(&self, a: &Attributes) -> bool {
        if !has(&self.verbs, &a.verb) {
            return false;
        }
        if !a.is_resource {
            return self.urls.iter().any(|u| url_matches(u, &a.path));
        }
        has(&self.api_groups, &a.group)
            && self
                .resources
                .iter()
                .any(|r| resource_matches(r, &a.resource, &a.subresource))
            && (self.resource_names.is_empty() || self.resource_names.contains(&a.name))
    }

    /// The rule's atoms: one group, resource, verb (and name), or one URL and verb each.
    pub fn atoms(&self) -> Vec<Rule> {
        let mut out = Vec::new();
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let atom = Rule {
                        verbs: vec![verb.clone()],
                        api_groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        ..Rule::default()
                    };
                    if self.resource_names.is_empty() {
                        out.push(atom);
                        continue;
                    }
                    out.extend(self.resource_names.iter().map(|name| Rule {
                        resource_names: vec![name.clone()],
                        ..atom.clone()
                    }));
                }
            }
        }
        for url in &self.urls {
            out.extend(self.verbs.iter().map(|verb| Rule {
                verbs: vec![verb.clone()],
                urls: vec![url.clone()],
                ..Rule::default()
            }));
        }
        out
    }

    /// Whether this rule covers an atom.
    fn covers_atom(&self, atom: &Rule) -> bool {
        let verb = atom.verbs.iter().all(|v| has(&self.verbs, v));
        let groups = atom.api_groups.iter().all(|g| has(&self.api_groups, g));
        let resources = atom.resources.iter().all(|r| {
            let (main, sub) = r.split_once('/').unwrap_or((r, ""));
            self.resources
                .iter()
                .any(|own| resource_matches(own, main, sub))
        });
        let names = self.resource_names.is_empty()
            || (!atom.resource_names.is_empty()
                && atom
                    .resource_names
                    .iter()
                    .all(|n| self.resource_names.contains(n)));
        let urls = atom
            .urls
            .iter()
            .all(|u| self.urls.iter().any(|own| url_covers(own, u)));
        verb && groups && resources && names && urls
    }

    /// `{APIGroups:["apps"], Resources:["deployments"], Verbs:["create" "get"]}`.
    pub fn compact_text(&self) -> String {
        let parts: Vec<String> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ]
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", go_list(list)))
        .collect();
        format!("{{{}}}", parts.join(", "))
    }
}

/// Atoms of `servant` that no single rule of `owner` covers, in order.
pub fn missing(owner: &[Rule], servant: &[Rule]) -> Vec<Rule> {
    servant
        .iter()
        .flat_map(Rule::atoms)
        .filter(|atom| !owner.iter().any(|o| o.covers_atom(atom)))
        .collect()
}

/// Merges atoms that differ only in their verb.
pub fn compact(atoms: Vec<Rule>) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    for atom in atoms {
        let same = out.iter_mut().find(|r| {
            r.urls.is_empty()
                && atom.urls.is_empty()
                && r.api_groups == atom.api_groups
                && r.resources == atom.resources
                && r.resource_names == atom.resource_names
        });
        match same {
            Some(rule) => rule.verbs.extend(atom.verbs),
            None => out.push(atom),
        }
    }
    out
}

/// Go's `%q` of a list of strings.
pub fn go_list(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|s| go_quote(s)).collect();
    format!("[{}]", quoted.join(" "))
}

fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    if subresource.is_empty() {
        return rule == resource;
    }
    match rule.split_once('/') {
        Some((main, sub)) => sub == subresource && (main == resource || main == "*"),
        None => false,
    }
}

fn url_matches(rule: &str, path: &str) -> bool {
    rule == "*"
        || rule == path
        || (rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*')))
}

fn url_covers(own: &str, url: &str) -> bool {
    own == url || (own.ends_with('*') && url.starts_with(own.trim_end_matches('*')))
}
