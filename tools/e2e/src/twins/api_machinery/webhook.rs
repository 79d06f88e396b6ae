//! Twins of webhook.go.

pub mod conditions;
mod fixture;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use crate::crds;
use crate::images::PAUSE_IMAGE;
use crate::operations::discovered;
use crate::rest::{Cx, labelled, random, version};
use crate::waits;
use fixture::{CONFIG_MAPS, Hooks, Kind, PODS, config_map, post, refused, unwanted};

const GROUP: &str = "admissionregistration.k8s.io";

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should include webhook resources in discovery documents [Conformance]",
        "webhook",
        in_discovery
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny pod and configmap creation [Conformance]",
        "webhook",
        denies
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny attaching pod [Conformance]",
        "webhook",
        denies_attaching
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny custom resource creation, update and deletion [Conformance]",
        "webhook",
        denies_custom
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should unconditionally reject operations on fail closed webhook [Conformance]",
        "webhook",
        fails_closed
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate configmap [Conformance]",
        "webhook",
        mutates_config_map
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate pod and apply defaults after mutation [Conformance]",
        "webhook",
        mutates_pod
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should not be able to mutate or prevent deletion of webhook configuration objects [Conformance]",
        "webhook",
        exempt
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource [Conformance]",
        "webhook",
        mutates_custom
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should deny crd creation [Conformance]",
        "webhook",
        denies_definition
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with different stored version [Conformance]",
        "webhook",
        other_stored_version
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with pruning [Conformance]",
        "webhook",
        prunes
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should honor timeout [Conformance]",
        "webhook",
        times_out
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a validating webhook should work [Conformance]",
        "webhook",
        changes_validating
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a mutating webhook should work [Conformance]",
        "webhook",
        changes_mutating
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing validating webhooks should work [Conformance]",
        "webhook",
        lists_validating
    ),
    twin!(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing mutating webhooks should work [Conformance]",
        "webhook",
        lists_mutating
    ),
];

async fn in_discovery(cx: Cx) -> Result<()> {
    Hooks::set_up(&cx).await?;
    let resources = [
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
    ];
    discovered(&cx, &format!("{GROUP}/v1"), &resources).await
}

/// A pod with one container.
fn pod(name: &str, container: &str, label: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": label},
        "spec": {"containers": [{"name": container, "image": PAUSE_IMAGE}]}})
}

const UNWANTED: &str = "the configmap contains unwanted key and value";

async fn denies(cx: Cx) -> Result<()> {
    let hooks = Hooks::set_up(&cx).await?;
    let name = "deny-unwanted-pod-container-name-and-label.k8s.io";
    let pods = hooks.hook(name, &["CREATE"], PODS, "/pods");
    // Without a CA bundle every call fails.
    let mut open = hooks.hook("fail-open.k8s.io", &["CREATE"], CONFIG_MAPS, "/configmaps");
    open["clientConfig"]["caBundle"] = Value::Null;
    open["failurePolicy"] = json!("Ignore");
    let all = vec![pods, hooks.deny_config_maps(), open];
    hooks.register(Kind::Validating, &hooks.unique, all).await?;

    let all = cx.core("pods");
    let bad = pod("disallowed-pod", "webhook-disallow", unwanted());
    let texts = [
        "the pod contains unwanted container name",
        "the pod contains unwanted label",
    ];
    refused(&cx, Method::POST, &all, &bad, &texts).await?;
    let label = json!({"webhook-e2e-test": "wait-forever"});
    let hanging = pod("hanging-pod", "wait-forever", label);
    refused(&cx, Method::POST, &all, &hanging, &["webhook", "deadline"]).await?;
    let made = cx.exists(&format!("{all}/hanging-pod")).await?;
    ensure!(!made, "hanging-pod is there");

    let all = cx.core("configmaps");
    let bad = config_map("disallowed-configmap", &unwanted());
    refused(&cx, Method::POST, &all, &bad, &[UNWANTED]).await?;
    let good = config_map("allowed-configmap", &json!({"admit": "this"}));
    let mut made = cx.ok(Method::POST, &all, &good).await?;
    let path = format!("{all}/allowed-configmap");
    made["data"]["webhook-e2e-test"] = json!("webhook-disallow");
    refused(&cx, Method::PUT, &path, &made, &[UNWANTED]).await?;
    let patch = json!({"data": unwanted()});
    let content = "application/strategic-merge-patch+json";
    let answer = cx.send(Method::PATCH, &path, content, Some(&patch)).await?;
    let named = answer.as_ref().is_err_and(|f| f.message.contains(UNWANTED));
    ensure!(named, "{answer:?}");
    let labels = json!({"skip-webhook-admission": "yes", &hooks.unique: "true"});
    let skipped = cx.another("exempted-namespace", labels).await?;
    cx.ok(Method::POST, &skipped.core("configmaps"), &bad)
        .await?;
    Ok(())
}

async fn denies_attaching(cx: Cx) -> Result<()> {
    let hooks = Hooks::set_up(&cx).await?;
    let on = ("", &["v1"][..], &["pods/attach"][..]);
    let hook = hooks.hook(
        "deny-attaching-pod.k8s.io",
        &["CONNECT"],
        on,
        "/pods/attach",
    );
    hooks
        .register(Kind::Validating, &hooks.unique, vec![hook])
        .await?;
    let object = pod("to-be-attached-pod", "container1", json!({}));
    cx.ok(Method::POST, &cx.core("pods"), &object).await?;
    waits::running(&cx, "to-be-attached-pod").await?;
    let args = ["attach", "to-be-attached-pod", "-i", "-c=container1"];
    let out = tokio::time::timeout(fixture::WITHIN, cx.kubectl(&args, "")).await??;
    let text = "attaching to pod 'to-be-attached-pod' is not allowed";
    ensure!(!out.ok && out.stderr.contains(text), "{out:?}");
    Ok(())
}

/// A custom resource definition with these versions, the first one stored.
async fn define(cx: &Cx, versions: &[&str], schema: Value) -> Result<Value> {
    let word = format!("e2e-test-{}-{}-crd", cx.namespace, random(4));
    let one = |(i, v): (usize, &&str)| crds::version(v, i == 0, schema.clone());
    let versions = versions.iter().enumerate().map(one).collect();
    let names = crds::names(&word);
    let crd = crds::definition("webhook.example.com", names, "Namespaced", versions);
    crds::create(cx, &crd).await
}

fn custom(cx: &Cx, crd: &Value, name: &str, data: Value) -> Value {
    let version = crd["spec"]["versions"][0]["name"]
        .as_str()
        .unwrap_or_default();
    json!({"kind": crd["spec"]["names"]["kind"],
        "apiVersion": format!("webhook.example.com/{version}"),
        "metadata": {"name": name, "namespace": cx.namespace}, "data": data})
}

async fn denies_custom(cx: Cx) -> Result<()> {
    let hooks = Hooks::set_up(&cx).await?;
    let crd = define(&cx, &["v1"], crds::anything()).await?;
    let plural = [crds::plural(&crd)];
    let name = "deny-unwanted-custom-resource-data.k8s.io";
    let operations = ["CREATE", "UPDATE", "DELETE"];
    let on = ("webhook.example.com", &["v1"][..], &plural[..]);
    let hook = hooks.hook(name, &operations, on, "/custom-resource");
    hooks
        .register(Kind::Validating, &hooks.unique, vec![hook])
        .await?;
    let all = crds::objects(&crd, "v1", Some(&cx.namespace));
    let bad = custom(&cx, &crd, "cr-instance-1", unwanted());
    let text = "the custom resource contains unwanted data";
    refused(&cx, Method::POST, &all, &bad, &[text]).await?;
    let data = json!({"webhook-e2e-test": "webhook-nondeletable"});
    let fixed = custom(&cx, &crd, "cr-instance-2", data);
    cx.ok(Method::POST, &all, &fixed).await?;
    let path = format!("{all}/cr-instance-2");
    let mut found = cx.get(&path).await?;
    found["data"] = unwanted();
    refused(&cx, Method::PUT, &path, &found, &[text]).await?;
    let text = "the custom resource cannot be deleted because it contains unwanted key and value";
    refused(&cx, Method::DELETE, &path, &json!({}), &[text]).await?;
    cx.update(&path, |o| {
        o["data"]["webhook-e2e-test"] = json!("webhook-allow");
    })
    .await?;
    cx.delete(&path).await?;
    Ok(())
}

async fn fails_closed(cx: Cx) -> Result<()> {
    let hooks = Hooks::set_up(&cx).await?;
    let mut hook = hooks.hook(
        "fail-closed.k8s.io",
        &["CREATE"],
        CONFIG_MAPS,
        "/configmaps",
    );
    hook["clientConfig"]["caBundle"] = Value::Null;
    hook["failurePolicy"] = json!("Fail");
    hook["namespaceSelector"]["matchExpressions"] = json!([
        {"key": "fail-closed-webhook", "operator": "In", "values": ["yes"]}]);
    hooks
        .register(Kind::Validating, &hooks.unique, vec![hook])
        .await?;
    let labels = json!({"fail-closed-webhook": "yes", &hooks.unique: "true"});
    let closed = cx.bare("fail-closed-namespace", labels).await?;
    let object = config_map("foo", &Value::Null);
    let failure = cx
        .refused(Method::POST, &closed.core("configmaps"), &object)
        .await?;
    ensure!(
        failure.reason == "InternalError" && failure.code == 500,
        "{failure:?}"
    );
    Ok(())
}

async fn mutates_config_map(cx: Cx) -> Result<()> {
    let hooks = Hooks::set_up(&cx).await?;
    let stages = vec![hooks.mutate_config_maps(1), hooks.mutate_config_maps(2)];
    hooks
        .register(Kind::Mutating, &hooks.unique, stages)
        .await?;
    let object = config_map("to-be-mutated", &json!({"mutation-start": "yes"}));
    let made = cx.ok(Method::POST, &cx.core("configmaps"), &object).await?;
    ensure!(made["data"] == stages_done(true), "{made}");
    Ok(())
}

/// The data that the mutating webhooks make.
fn stages_done(both: bool) -> Value {
    let mut data = json!({"mutation-start": "yes", "mutation-stage-1": "yes"});
    if both {
        data["mutation-stage-2"] = json!("yes");
    }
    data
}

async fn mutates_pod(cx: Cx) -> Result<()> {
    let hooks = Hooks::set_up(&cx).await?;
    let name = "adding-init-container.k8s.io";
    let hook = hooks.hook(name, &["CREATE"], PODS, "/mutating-pods");
    hooks
        .register(Kind::Mutating, &hooks.unique, vec![hook])
        .await?;
    let object = pod("webhook-to-be-mutated", "example", json!({}));
    let made = cx.ok(Method::POST, &cx.core("pods"), &object).await?;
    let added = made["spec"]["initContainers"].as_array();
    ensure!(
        added.is_some_and(|all| all.len() == 1
            && all[0]["name"] == "webhook-added-init-container"
            && all[0]["terminationMessagePolicy"] == "File"),
        "{made}"
    );
    Ok(())
}

async fn exempt(cx: Cx) -> Result<()> {
    let hooks = Hooks::set_up(&cx).await?;
    let both = [
        "validatingwebhookconfigurations",
        "mutatingwebhookconfigurations",
    ];
    let on = (GROUP, &["*"][..], &both[..]);
    let blocking = format!("{}blocking", hooks.unique);
    let name = "deny-webhook-configuration-deletions.k8s.io";
    let mut hook = hooks.hook(name, &["DELETE"], on, "/always-deny");
    hook["failurePolicy"] = json!("Fail");
    hooks
        .register(Kind::Validating, &blocking, vec![hook])
        .await?;
    let name = "add-label-to-webhook-configurations.k8s.io";
    let mut hook = hooks.hook(name, &["CREATE"], on, "/add-label");
    hook["failurePolicy"] = json!("Fail");
    hooks
        .register(Kind::Mutating, &blocking, vec![hook])
        .await?;
    for (kind, name) in [
        (Kind::Validating, "dummy-validating-webhook.k8s.io"),
        (Kind::Mutating, "dummy-mutating-webhook.k8s.io"),
    ] {
        let on = ("", &["v1"][..], &["invalid"][..]);
        let mut hook = hooks.hook(name, &["CREATE"], on, "");
        hook["clientConfig"]["caBundle"] = Value::Null;
        hook["failurePolicy"] = json!("Ignore");
        let made = hooks.register(kind, &hooks.unique, vec![hook]).await?;
        ensure!(made["metadata"]["labels"]["added-label"] != "yes", "{made}");
        cx.delete(&kind.path(&hooks.unique)).await?;
    }
    Ok(())
}

/// The two stages for a definition's objects.
async fn mutate_custom(hooks: &Hooks<'_>, crd: &Value) -> Result<()> {
    let served = crds::served(crd);
    let versions: Vec<&str> = served.iter().map(String::as_str).collect();
    let plural = [crds::plural(crd)];
    let on = ("webhook.example.com", &versions[..], &plural[..]);
    let path = "/mutating-custom-resource";
    let first = "mutate-custom-resource-data-stage-1.k8s.io";
    let second = "mutate-custom-resource-data-stage-2.k8s.io";
    let stages = vec![
        hooks.hook(first, &["CREATE", "UPDATE"], on, path),
        hooks.hook(second, &["CREATE"], on, path),
    ];
    hooks
        .register(Kind::Mutating, &hooks.unique, stages)
        .await?;
    Ok(())
}

/// Creates an object that the webhooks change.
async fn create_custom(cx: &Cx, crd: &Value) -> Result<Value> {
    let data = json!({"mutation-start": "yes"});
    let object = custom(cx, crd, "cr-instance-1", data);
    let all = crds::objects(crd, "v1", Some(&cx.namespace));
    cx.ok(Method::POST, &all, &object).await
}

async fn mutates_custom(cx: Cx) -> Result<()> {
    let hooks = Hooks::set_up(&cx).await?;
    let crd = define(&cx, &["v1"], crds::anything()).await?;
    mutate_custom(&hooks, &crd).await?;
    let made = create_custom(&cx, &crd).await?;
    ensure!(made["data"] == stages_done(true), "{made}");
    Ok(())
}

async fn denies_definition(cx: Cx) -> Result<()> {
    let hooks = Hooks::set_up(&cx).await?;
    let on = (
        "apiextensions.k8s.io",
        &["*"][..],
        &["customresourcedefinitions"][..],
    );
    let mut hook = hooks.hook(
        "deny-crd-with-unwanted-label.k8s.io",
        &["CREATE"],
        on,
        "/crd",
    );
    hook["namespaceSelector"] = Value::Null;
    hook["objectSelector"] = json!({"matchLabels": {&hooks.unique: "true"}});
    hooks
        .register(Kind::Validating, &hooks.unique, vec![hook])
        .await?;
    let word = "e2e-test-webhook-deny-crd";
    let names = json!({"singular": word, "plural": format!("{word}s"),
        "kind": "E2e-test-webhook-deny-crd", "listKind": "E2e-test-webhook-deny-crdList"});
    let versions = vec![crds::version("v1", true, crds::anything())];
    let mut crd = crds::definition("webhook.example.com", names, "Namespaced", versions);
    crd["metadata"]["labels"] =
        json!({&hooks.unique: "true", "webhook-e2e-test": "webhook-disallow"});
    let text = "the crd contains unwanted label";
    refused(&cx, Method::POST, crds::ALL, &crd, &[text]).await
}

async fn other_stored_version(cx: Cx) -> Result<()> {
    let hooks = Hooks::set_up(&cx).await?;
    let crd = define(&cx, &["v1", "v2"], crds::anything()).await?;
    mutate_custom(&hooks, &crd).await?;
    create_custom(&cx, &crd).await?;
    let versions = [
        crds::version("v1", false, crds::anything()),
        crds::version("v2", true, crds::anything()),
    ];
    let path = format!("{}/{}", crds::ALL, waits::name(&crd));
    let patch = json!({"spec": {"versions": versions}});
    cx.patch(&path, "strategic-merge", &patch).await?;
    let object = crds::objects(&crd, "v2", Some(&cx.namespace));
    let patch = json!([{"op": "add", "path": "/dummy", "value": "test"}]);
    let patched = cx
        .patch(&format!("{object}/cr-instance-1"), "json", &patch)
        .await?;
    ensure!(patched["data"] == stages_done(true), "{patched}");
    ensure!(patched["dummy"] == "test", "{patched}");
    Ok(())
}

async fn prunes(cx: Cx) -> Result<()> {
    let hooks = Hooks::set_up(&cx).await?;
    let text = json!({"type": "string"});
    let data = json!({"type": "object",
        "properties": {"mutation-start": text, "mutation-stage-1": text}});
    let schema = json!({"type": "object", "properties": {"data": data}});
    let crd = define(&cx, &["v1", "v2"], schema).await?;
    mutate_custom(&hooks, &crd).await?;
    let made = create_custom(&cx, &crd).await?;
    ensure!(made["data"] == stages_done(false), "{made}");
    Ok(())
}

async fn times_out(cx: Cx) -> Result<()> {
    let hooks = Hooks::set_up(&cx).await?;
    let all = cx.core("configmaps");
    let object = config_map("e2e-test-slow-webhook-configmap", &Value::Null);
    for (policy, seconds) in [
        ("Fail", json!(1)),
        ("Ignore", json!(1)),
        ("Fail", json!(10)),
        ("Fail", Value::Null),
    ] {
        let name = "allow-configmap-with-delay-webhook.k8s.io";
        let path = "/always-allow-delay-5s";
        let mut hook = hooks.hook(name, &["CREATE"], CONFIG_MAPS, path);
        hook["failurePolicy"] = json!(policy);
        hook["timeoutSeconds"] = seconds.clone();
        let made = hooks
            .register(Kind::Validating, &hooks.unique, vec![hook])
            .await?;
        let answer = post(&cx, &all, &object).await?;
        if policy == "Fail" && seconds == 1 {
            let late = |text: &str| {
                let timed_out =
                    text.contains("context deadline exceeded") || text.contains("timeout");
                timed_out && text.contains("/always-allow-delay-5s?timeout=1s")
            };
            let fits = answer.as_ref().is_err_and(|f| late(&f.message));
            ensure!(fits, "{answer:?}");
        } else {
            ensure!(answer.is_ok(), "{policy} {seconds}: {answer:?}");
            cx.delete(&format!("{all}/{}", waits::name(&object)))
                .await?;
        }
        cx.delete(&Kind::Validating.path(waits::name(&made)))
            .await?;
    }
    Ok(())
}

/// Sets the operations of the first rule, by PUT.
async fn set_operations(cx: &Cx, path: &str, operations: &[&str]) -> Result<Value> {
    cx.update(path, |o| {
        o["webhooks"][0]["rules"][0]["operations"] = json!(operations);
    })
    .await
}

/// Sets them by a JSON patch.
async fn patch_operations(cx: &Cx, path: &str, operations: &[&str], since: u64) -> Result<()> {
    let patch = json!([{"op": "replace", "path": "/webhooks/0/rules/0/operations",
        "value": operations}]);
    let patched = cx.patch(path, "json", &patch).await?;
    ensure!(version(&patched)? > since, "{patched}");
    Ok(())
}

async fn changes_validating(cx: Cx) -> Result<()> {
    let hooks = Hooks::set_up(&cx).await?;
    let all = vec![hooks.deny_config_maps()];
    let made = hooks.register(Kind::Validating, &hooks.unique, all).await?;
    let since = version(&made)?;
    hooks.denied(true).await?;
    let path = Kind::Validating.path(&hooks.unique);
    set_operations(&cx, &path, &["UPDATE"]).await?;
    hooks.denied(false).await?;
    patch_operations(&cx, &path, &["CREATE"], since).await?;
    hooks.denied(true).await
}

async fn changes_mutating(cx: Cx) -> Result<()> {
    let hooks = Hooks::set_up(&cx).await?;
    let all = vec![hooks.mutate_config_maps(1)];
    let made = hooks.register(Kind::Mutating, &hooks.unique, all).await?;
    version(&made)?;
    let path = Kind::Mutating.path(&hooks.unique);
    let updated = set_operations(&cx, &path, &["UPDATE"]).await?;
    hooks.mutated(false).await?;
    patch_operations(&cx, &path, &["CREATE"], version(&updated)?).await?;
    hooks.mutated(true).await
}

/// Makes ten configurations with a label; a path that lists them alone.
async fn make_ten(hooks: &Hooks<'_>, kind: Kind, hook: &Value) -> Result<String> {
    let id = uuid::Uuid::new_v4().to_string();
    let label = json!({"e2e-list-test-uuid": id});
    for i in 0..10 {
        hooks
            .register_labelled(kind, i, &label, hook.clone())
            .await?;
    }
    let selector = labelled(&format!("e2e-list-test-uuid={id}"));
    let listed = format!("{}?{selector}", kind.all());
    let found = hooks.cx.items(&listed).await?;
    ensure!(found.len() == 10, "{} configurations", found.len());
    hooks.ready().await?;
    Ok(listed)
}

async fn lists_validating(cx: Cx) -> Result<()> {
    let hooks = Hooks::set_up(&cx).await?;
    let hook = hooks.deny_config_maps();
    let listed = make_ten(&hooks, Kind::Validating, &hook).await?;
    hooks.denied(true).await?;
    cx.delete(&listed).await?;
    hooks.denied(false).await
}

async fn lists_mutating(cx: Cx) -> Result<()> {
    let hooks = Hooks::set_up(&cx).await?;
    let hook = hooks.mutate_config_maps(1);
    let listed = make_ten(&hooks, Kind::Mutating, &hook).await?;
    hooks.mutated(true).await?;
    cx.delete(&listed).await?;
    hooks.mutated(false).await
}
