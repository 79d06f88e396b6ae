//! Rules of roles, taken apart and put together by resource, as kubectl shows them.
//! Upstream: component-helpers/auth/rbac/validation (BreakdownRule, CompactRules).

use serde_json::Value;

use crate::object;

/// A rule about one resource or one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    group: Option<String>,
    resource: Option<String>,
    name: Option<String>,
    url: Option<String>,
    verbs: Vec<String>,
}

// === Rule ===

impl Rule {
    /// Resource, paths, names and verbs, as cells of a table.
    pub fn cells(&self) -> [String; 4] {
        [
            self.resource_and_group(),
            listed(&self.url),
            listed(&self.name),
            format!("[{}]", self.verbs.join(" ")),
        ]
    }

    fn resource_and_group(&self) -> String {
        let Some(resource) = &self.resource else {
            return String::new();
        };
        let (plural, sub) = match resource.split_once('/') {
            Some((plural, sub)) => (plural, format!("/{sub}")),
            None => (resource.as_str(), String::new()),
        };
        match self.group.as_deref() {
            None | Some("") => format!("{plural}{sub}"),
            Some(group) => format!("{plural}.{group}{sub}"),
        }
    }

    /// What upstream sorts by: the rule as its text.
    fn order(&self) -> String {
        format!(
            "Verbs:[{}],APIGroups:{},Resources:{},ResourceNames:{},NonResourceURLs:{},",
            self.verbs.join(" "),
            listed(&self.group),
            listed(&self.resource),
            listed(&self.name),
            listed(&self.url)
        )
    }
}

fn listed(value: &Option<String>) -> String {
    format!("[{}]", value.as_deref().unwrap_or_default())
}

/// The rules of a role, one for each resource and each path, in upstream's order.
pub fn compact<'a>(rules: impl IntoIterator<Item = &'a Value>) -> Vec<Rule> {
    let mut all: Vec<Rule> = Vec::new();
    for rule in rules {
        for one in apart(rule) {
            let same = |r: &&mut Rule| {
                one.resource.is_some()
                    && (&r.group, &r.resource, &r.name) == (&one.group, &one.resource, &one.name)
            };
            match all.iter_mut().find(same) {
                Some(known) => {
                    let new = one.verbs.into_iter().filter(|v| !known.verbs.contains(v));
                    let new: Vec<String> = new.collect();
                    known.verbs.extend(new);
                }
                None => all.push(one),
            }
        }
    }
    all.sort_by_key(Rule::order);
    all
}

fn apart(rule: &Value) -> Vec<Rule> {
    let texts = |pointer: &str| -> Vec<String> {
        object::items(rule, pointer)
            .iter()
            .map(object::plain)
            .collect()
    };
    let (groups, verbs) = (texts("/apiGroups"), texts("/verbs"));
    let names = texts("/resourceNames");
    let names: Vec<Option<String>> = if names.is_empty() {
        vec![None]
    } else {
        names.into_iter().map(Some).collect()
    };
    let mut all = Vec::new();
    for group in &groups {
        for resource in texts("/resources") {
            for verb in &verbs {
                all.extend(names.iter().map(|name| Rule {
                    group: Some(group.clone()),
                    resource: Some(resource.clone()),
                    name: name.clone(),
                    url: None,
                    verbs: vec![verb.clone()],
                }));
            }
        }
    }
    for url in texts("/nonResourceURLs") {
        all.extend(verbs.iter().map(|verb| Rule {
            group: None,
            resource: None,
            name: None,
            url: Some(url.clone()),
            verbs: vec![verb.clone()],
        }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_are_told_by_resource() {
        let rules = [
            json!({"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get"]}),
            json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}),
            json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}),
            json!({"nonResourceURLs": ["/healthz"], "verbs": ["get"]}),
        ];
        let cells: Vec<[String; 4]> = compact(&rules).iter().map(Rule::cells).collect();
        let row = |a: &str, b: &str, c: &str, d: &str| [a, b, c, d].map(ToString::to_string);
        assert_eq!(
            cells,
            [
                row("pods", "[]", "[]", "[get list create]"),
                row("", "[/healthz]", "[]", "[get]"),
                row("deployments.apps/scale", "[]", "[]", "[get]"),
            ]
        );
    }
}
