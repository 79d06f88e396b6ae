//! Match conditions of webhooks.

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::super::Twin;
use super::fixture::{CONFIG_MAPS, Hooks, Kind, config_map, refused};
use crate::rest::{Cx, random};

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update validating webhook configurations with match conditions [Conformance]",
        "webhook",
        keeps_validating
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update mutating webhook configurations with match conditions [Conformance]",
        "webhook",
        keeps_mutating
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should reject validating webhook configurations with invalid match conditions [Conformance]",
        "webhook",
        rejects_validating
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should reject mutating webhook configurations with invalid match conditions [Conformance]",
        "webhook",
        rejects_mutating
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate everything except 'skip-me' configmaps [Conformance]",
        "webhook",
        skips_one
    ),
];

fn hook(hooks: &Hooks<'_>, kind: Kind, conditions: &Value) -> Value {
    let (name, path) = match kind {
        Kind::Mutating => ("adding-configmap-data.k8s.io", "/mutating-configmaps"),
        Kind::Validating => (
            "validation-webhook-with-match-conditions.k8s.io",
            "/always-deny",
        ),
    };
    let mut hook = hooks.hook(name, &["CREATE"], CONFIG_MAPS, path);
    hook["matchPolicy"] = json!("Equivalent");
    hook["admissionReviewVersions"] = json!(["v1"]);
    hook["matchConditions"] = conditions.clone();
    hook
}

async fn keeps(cx: &Cx, kind: Kind) -> Result<()> {
    let hooks = Hooks::set_up(cx).await?;
    let one = |n: u8, namespace: &str| {
        json!({"name": format!("expression-{n}"),
            "expression": format!("object.metadata.namespace == '{namespace}'")})
    };
    let first = json!([one(1, "production")]);
    let all = vec![hook(&hooks, kind, &first)];
    let metadata = json!({"name": hooks.unique});
    hooks.create(kind, metadata, all).await?;
    let path = kind.path(&hooks.unique);
    let got = cx.get(&path).await?;
    ensure!(got["webhooks"][0]["matchConditions"] == first, "{got}");
    let both = json!([one(1, "production"), one(2, "staging")]);
    cx.update(&path, |object| {
        object["webhooks"][0]["matchConditions"] = both.clone();
    })
    .await?;
    let got = cx.get(&path).await?;
    ensure!(got["webhooks"][0]["matchConditions"] == both, "{got}");
    Ok(())
}

async fn rejects(cx: &Cx, kind: Kind) -> Result<()> {
    let hooks = Hooks::set_up(cx).await?;
    let bad = json!([{"name": "invalid-expression-1", "expression": "... [] bad expression"}]);
    let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind.kind(),
        "metadata": {"name": hooks.unique}, "webhooks": [hook(&hooks, kind, &bad)]});
    refused(
        cx,
        Method::POST,
        &kind.all(),
        &object,
        &["compilation failed"],
    )
    .await
}

async fn keeps_validating(cx: Cx) -> Result<()> {
    keeps(&cx, Kind::Validating).await
}

async fn keeps_mutating(cx: Cx) -> Result<()> {
    keeps(&cx, Kind::Mutating).await
}

async fn rejects_validating(cx: Cx) -> Result<()> {
    rejects(&cx, Kind::Validating).await
}

async fn rejects_mutating(cx: Cx) -> Result<()> {
    rejects(&cx, Kind::Mutating).await
}

async fn skips_one(cx: Cx) -> Result<()> {
    let hooks = Hooks::set_up(&cx).await?;
    let mut hook = hooks.mutate_config_maps(1);
    hook["matchConditions"] =
        json!([{"name": "skip-me", "expression": "object.metadata.name != 'skip-me'"}]);
    hooks
        .register(Kind::Mutating, &hooks.unique, vec![hook])
        .await?;
    let start = json!({"mutation-start": "yes"});
    let mutated = json!({"mutation-start": "yes", "mutation-stage-1": "yes"});
    let some = format!("any-{}", random(8));
    for (name, expected) in [(some.as_str(), mutated), ("skip-me", start.clone())] {
        let path = cx.core("configmaps");
        let object = config_map(name, &start);
        let made = cx.ok(Method::POST, &path, &object).await?;
        ensure!(made["data"] == expected, "{name}: {made}");
    }
    Ok(())
}
