//! `create role|clusterrole|rolebinding|clusterrolebinding`.

use clap::Args;
use serde_json::{Value, json};

use super::{Common, head};
use crate::context::Context;
use crate::error::{Error, Result};

const GROUP: &str = "rbac.authorization.k8s.io";
const VERSION: &str = "rbac.authorization.k8s.io/v1";

/// What a role allows.
#[derive(Clone, Debug, Args)]
pub struct Rule {
    /// Verb that applies to the resources contained in the rule
    #[arg(long, value_delimiter = ',')]
    verb: Vec<String>,
    /// Resource that the rule applies to
    #[arg(long, value_delimiter = ',')]
    resource: Vec<String>,
    /// Resource in the white list that the rule applies to, repeat this flag for multiple items
    #[arg(long, value_delimiter = ',')]
    resource_name: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub struct Role {
    name: String,
    #[command(flatten)]
    rule: Rule,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Debug, Args)]
pub struct ClusterRole {
    name: String,
    #[command(flatten)]
    rule: Rule,
    /// A partial url that user should have access to
    #[arg(long, value_delimiter = ',')]
    non_resource_url: Vec<String>,
    /// An aggregation label selector for combining ClusterRoles
    #[arg(long, value_delimiter = ',')]
    aggregation_rule: Vec<String>,
    #[command(flatten)]
    common: Common,
}

/// Who is bound to what.
#[derive(Clone, Debug, Args)]
pub struct Binding {
    /// ClusterRole this binding should reference
    #[arg(long)]
    clusterrole: Option<String>,
    /// Usernames to bind to the role
    #[arg(long)]
    user: Vec<String>,
    /// Groups to bind to the role
    #[arg(long)]
    group: Vec<String>,
    /// Service accounts to bind to the role, in the format <namespace>:<name>
    #[arg(long)]
    serviceaccount: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub struct RoleBinding {
    name: String,
    /// Role this RoleBinding should reference
    #[arg(long)]
    role: Option<String>,
    #[command(flatten)]
    binding: Binding,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Debug, Args)]
pub struct ClusterRoleBinding {
    name: String,
    #[command(flatten)]
    binding: Binding,
    #[command(flatten)]
    common: Common,
}

impl Rule {
    /// One rule per API group, in the order the resources are named.
    async fn rules(&self, cx: &Context) -> Result<Vec<Value>> {
        if self.verb.is_empty() {
            return Err(Error::text("at least one verb must be specified"));
        }
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        for word in &self.resource {
            let (word, sub) = match word.split_once('/') {
                Some((word, sub)) => (word, Some(sub)),
                None => (word.as_str(), None),
            };
            let (group, mut name) = if word == "*" {
                ("*".to_string(), "*".to_string())
            } else {
                let r = cx.discovery().await?.resolve(word)?;
                (r.group.clone(), r.plural.clone())
            };
            if let Some(sub) = sub {
                name = format!("{name}/{sub}");
            }
            match groups.iter_mut().find(|(g, _)| *g == group) {
                Some((_, names)) => names.push(name),
                None => groups.push((group, vec![name])),
            }
        }
        Ok(groups
            .into_iter()
            .map(|(group, names)| {
                let mut rule =
                    json!({"apiGroups": [group], "resources": names, "verbs": self.verb});
                if !self.resource_name.is_empty() {
                    rule["resourceNames"] = json!(self.resource_name);
                }
                rule
            })
            .collect())
    }
}

impl Role {
    pub async fn object(self, cx: &Context) -> Result<(Common, Value)> {
        if self.rule.resource.is_empty() {
            return Err(Error::text("at least one resource must be specified"));
        }
        let mut made = head(VERSION, "Role", &self.name);
        made["rules"] = self.rule.rules(cx).await?.into();
        Ok((self.common, made))
    }
}

impl ClusterRole {
    pub async fn object(self, cx: &Context) -> Result<(Common, Value)> {
        let mut made = head(VERSION, "ClusterRole", &self.name);
        if !self.aggregation_rule.is_empty() {
            let mut labels = json!({});
            for pair in &self.aggregation_rule {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                labels[key] = value.into();
            }
            made["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
            made["rules"] = json!([]);
            return Ok((self.common, made));
        }
        if self.rule.resource.is_empty() && self.non_resource_url.is_empty() {
            return Err(Error::text(
                "one of resource or nonResourceURL must be specified",
            ));
        }
        let mut rules = self.rule.rules(cx).await?;
        if !self.non_resource_url.is_empty() {
            rules.push(json!({"nonResourceURLs": self.non_resource_url, "verbs": self.rule.verb}));
        }
        made["rules"] = rules.into();
        Ok((self.common, made))
    }
}

impl Binding {
    fn subjects(&self) -> Result<Vec<Value>> {
        let named =
            |kind: &str, name: &String| json!({"kind": kind, "apiGroup": GROUP, "name": name});
        let mut all: Vec<Value> = self.user.iter().map(|n| named("User", n)).collect();
        all.extend(self.group.iter().map(|n| named("Group", n)));
        for account in &self.serviceaccount {
            let Some((ns, name)) = account
                .split_once(':')
                .filter(|(a, b)| !a.is_empty() && !b.is_empty())
            else {
                return Err(Error::text("serviceaccount must be <namespace>:<name>"));
            };
            all.push(json!({"kind": "ServiceAccount", "name": name, "namespace": ns}));
        }
        Ok(all)
    }
}

impl RoleBinding {
    pub fn object(self) -> Result<(Common, Value)> {
        let (kind, name) = match (&self.role, &self.binding.clusterrole) {
            (Some(name), None) => ("Role", name),
            (None, Some(name)) => ("ClusterRole", name),
            _ => {
                return Err(Error::text(
                    "exactly one of clusterrole or role must be specified",
                ));
            }
        };
        let mut made = head(VERSION, "RoleBinding", &self.name);
        made["roleRef"] = json!({"apiGroup": GROUP, "kind": kind, "name": name});
        made["subjects"] = self.binding.subjects()?.into();
        Ok((self.common, made))
    }
}

impl ClusterRoleBinding {
    pub fn object(self) -> Result<(Common, Value)> {
        let name = self.binding.clusterrole.as_ref();
        let name = name.ok_or_else(|| Error::text("clusterrole must be specified"))?;
        let mut made = head(VERSION, "ClusterRoleBinding", &self.name);
        made["roleRef"] = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": name});
        made["subjects"] = self.binding.subjects()?.into();
        Ok((self.common, made))
    }
}
