//! Aggregated ClusterRoles have the rules of the roles that their selectors match.
//! Upstream: pkg/controller/clusterroleaggregation.

use std::sync::Arc;

use api::rbac::v1::{ClusterRole, PolicyRule};
use api::selector::LabelSelector;
use async_trait::async_trait;
use client::Client;
use client::api::{Patch, PatchParams};
use reconciler::{During, Error, Key, Next, Reconcile, Reconciler, Trigger};
use serde_json::json;

use crate::common::object::Object;
use crate::common::selector;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "clusterrole-aggregation-controller",
    account: "clusterrole-aggregation-controller",
    component: "clusterrole-aggregation-controller",
    needs: &[("rbac.authorization.k8s.io", "clusterroles")],
    build: |setup| Ok(build(setup)),
};

fn build(setup: &Setup) -> Reconciler {
    let this = Aggregation {
        client: setup.client.clone(),
    };
    let roles = setup.client.clone();
    let group = "rbac.authorization.k8s.io";
    Reconciler::new("clusterrole-aggregation-controller", 5, this).on(Trigger::map(
        group,
        "clusterroles",
        move |e| {
            let Ok(lister) = roles.lister::<ClusterRole>() else {
                return Vec::new();
            };
            let (now, before) = (e.typed::<ClusterRole>(), e.typed_before::<ClusterRole>());
            let concerned = |role: &ClusterRole| {
                let selectors = selectors(role);
                let hit = |r: &ClusterRole| matches(&selectors, r);
                role.name() == &*e.entry.name
                    || now.as_ref().is_some_and(|r| hit(r))
                    || before.as_ref().is_some_and(|r| hit(r))
            };
            let all = lister.list(None);
            let aggregated = all
                .iter()
                .filter(|r| r.aggregation_rule.is_some() && concerned(r));
            aggregated.map(|r| Key::new("", r.name()).into()).collect()
        },
    ))
}

struct Aggregation {
    client: Client,
}

fn selectors(role: &ClusterRole) -> Vec<LabelSelector> {
    let rule = role.aggregation_rule.iter();
    let all = rule.flat_map(|r| r.cluster_role_selectors.iter().flatten());
    all.filter_map(selector::parse).collect()
}

fn matches(selectors: &[LabelSelector], role: &ClusterRole) -> bool {
    selectors
        .iter()
        .any(|s| selector::matches(s, role.labels()))
}

/// The rules of an aggregated role: those of the roles of each selector in turn, each once.
fn rules(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Vec<PolicyRule> {
    let mut rules: Vec<PolicyRule> = Vec::new();
    for s in selectors(role) {
        let mut sources: Vec<&Arc<ClusterRole>> = all
            .iter()
            .filter(|r| r.name() != role.name() && selector::matches(&s, r.labels()))
            .collect();
        sources.sort_by(|a, b| a.name().cmp(b.name()));
        for rule in sources.iter().flat_map(|r| r.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

#[async_trait]
impl Reconcile for Aggregation {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let lister = self.client.lister::<ClusterRole>()?;
        let found = lister.get("", &key.name);
        let Some(role) = found.filter(|r| r.aggregation_rule.is_some()) else {
            return Ok(Next::Done);
        };
        let rules = rules(&role, &lister.list(None));
        if role.rules.as_deref().unwrap_or(&[]) == rules {
            return Ok(Next::Done);
        }
        let apply = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": role.name()}, "rules": rules});
        let params = PatchParams::apply("clusterrole-aggregation-controller").force();
        let api = self.client.all::<ClusterRole>();
        match api.patch(role.name(), &params, &Patch::Apply(&apply)).await {
            Ok(_) => {}
            // A server without server-side apply takes the rules as a merge.
            Err(e) if client::status_code(&e) == Some(415) => {
                let merge = json!({"rules": rules});
                let params = crate::common::act::patch_params();
                api.patch(role.name(), &params, &Patch::Merge(&merge))
                    .await
                    .during("write the aggregated rules")?;
            }
            Err(e) => return Err(e).during("apply the aggregated rules"),
        }
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn role(name: &str, labels: &Value, verb: &str) -> Arc<ClusterRole> {
        let v = json!({"metadata": {"name": name, "labels": labels},
            "rules": [{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}]});
        Arc::new(serde_json::from_value(v).unwrap())
    }

    #[test]
    fn rules_come_in_order_of_selectors_and_names_once_each() {
        let all = [
            role("z", &json!({"to": "a"}), "get"),
            role("b", &json!({"to": "a"}), "list"),
            role("c", &json!({"to": "b"}), "get"),
            role("other", &json!({}), "delete"),
        ];
        let v = json!({"metadata": {"name": "sum"}, "aggregationRule": {"clusterRoleSelectors": [
            {"matchLabels": {"to": "b"}}, {"matchLabels": {"to": "a"}}]}});
        let sum: ClusterRole = serde_json::from_value(v).unwrap();
        let verbs: Vec<String> = rules(&sum, &all)
            .into_iter()
            .flat_map(|r| r.verbs)
            .collect();
        assert_eq!(verbs, ["get", "list"]);
    }
}
