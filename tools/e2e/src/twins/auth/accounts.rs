//! Twins of service_accounts.go and subjectreviews.go.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use crate::images::{AGNHOST_IMAGE, BUSYBOX_IMAGE};
use crate::rest::{Cx, FOREVER, random};
use crate::waits;

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-auth] ServiceAccounts should allow opting out of API token automount [Conformance]",
        "svcaccounts",
        opting_out
    ),
    twin!(
        "[sig-auth] ServiceAccounts should guarantee kube-root-ca.crt exist in any namespace [Conformance]",
        "svcaccounts",
        root_ca
    ),
    twin!(
        "[sig-auth] ServiceAccounts should create a serviceAccountToken and ensure a successful TokenReview [Conformance]",
        "svcaccounts",
        token
    ),
    twin!(
        "[sig-auth] ServiceAccounts should mount an API token into pods [Conformance]",
        "svcaccounts",
        mounts_token
    ),
    twin!(
        "[sig-auth] ServiceAccounts should mount projected service account token [Conformance]",
        "svcaccounts",
        projected_token
    ),
    twin!(
        "[sig-auth] ServiceAccounts ServiceAccountIssuerDiscovery should support OIDC discovery of service account issuer [Conformance]",
        "svcaccounts",
        issuer_discovery
    ),
    twin!(
        "[sig-auth] SubjectReview should support SubjectReview API operations [Conformance]",
        "subjectreview",
        subject_review
    ),
];

const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn account(name: &str, automount: Option<bool>) -> Value {
    let mut object =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
    if let Some(automount) = automount {
        object["automountServiceAccountToken"] = json!(automount);
    }
    object
}

async fn opting_out(cx: Cx) -> Result<()> {
    let accounts = cx.core("serviceaccounts");
    for (name, automount) in [("mount", true), ("nomount", false)] {
        cx.ok(Method::POST, &accounts, &account(name, Some(automount)))
            .await?;
    }
    let wanted = [
        ("default", None, true),
        ("default", Some(true), true),
        ("default", Some(false), false),
        ("mount", None, true),
        ("mount", Some(true), true),
        ("mount", Some(false), false),
        ("nomount", None, false),
        ("nomount", Some(true), true),
        ("nomount", Some(false), false),
    ];
    for (sa, spec, mounts) in wanted {
        let suffix = match spec {
            None => "",
            Some(true) => "-mountspec",
            Some(false) => "-nomountspec",
        };
        let name = format!("pod-service-account-{sa}sa{suffix}");
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"serviceAccountName": sa, "restartPolicy": "Never",
                "containers": [{"name": "token-test", "image": AGNHOST_IMAGE}]}});
        if let Some(automount) = spec {
            pod["spec"]["automountServiceAccountToken"] = json!(automount);
        }
        let made = cx.ok(Method::POST, &cx.core("pods"), &pod).await?;
        let mounted = made["spec"]["containers"].as_array().is_some_and(|all| {
            let of = |c: &Value| c["volumeMounts"].as_array().cloned().unwrap_or_default();
            all.iter().flat_map(of).any(|m| m["mountPath"] == MOUNT)
        });
        ensure!(mounted == mounts, "{name} has a token: {mounted}: {made}");
    }
    Ok(())
}

async fn root_ca(cx: Cx) -> Result<()> {
    let every = Duration::from_millis(500);
    let path = cx.core("configmaps/kube-root-ca.crt");
    let there = async || {
        cx.eventually(every, FOREVER, "kube-root-ca.crt", || cx.exists(&path))
            .await
    };
    there().await?;
    let now = crate::fixtures::grace(0);
    cx.ok(Method::DELETE, &path, &now).await?;
    there().await?;
    let empty = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": ""}});
    cx.ok(Method::PUT, &path, &empty).await?;
    cx.eventually(every, FOREVER, "ca.crt again", || async {
        let found = cx.get(&path).await?;
        Ok(found["data"]["ca.crt"]
            .as_str()
            .is_some_and(|c| !c.is_empty()))
    })
    .await?;
    let found = cx.get(&path).await?;
    ensure!(found["data"]["ca.crt"] != "", "{found}");
    Ok(())
}

/// Asks who a token is; it must be somebody.
async fn review(cx: &Cx, token: &str) -> Result<Value> {
    let object = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "metadata": {}, "spec": {"token": token}});
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let found = cx.ok(Method::POST, path, &object).await?;
    ensure!(
        found["status"]["error"]
            .as_str()
            .unwrap_or_default()
            .is_empty(),
        "{found}"
    );
    ensure!(found["status"]["authenticated"] == true, "{found}");
    Ok(found)
}

async fn token(cx: Cx) -> Result<()> {
    let name = format!("e2e-sa-{}", random(5));
    let accounts = cx.core("serviceaccounts");
    cx.ok(Method::POST, &accounts, &account(&name, None))
        .await?;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "metadata": {}, "spec": {"audiences": null}});
    let path = format!("{accounts}/{name}/token");
    let made = cx.ok(Method::POST, &path, &request).await?;
    let token = made["status"]["token"].as_str().unwrap_or_default();
    ensure!(!token.is_empty(), "{made}");
    review(&cx, token).await?;
    Ok(())
}

async fn mounts_token(cx: Cx) -> Result<()> {
    let sa = account("mount-test", None);
    cx.ok(Method::POST, &cx.core("serviceaccounts"), &sa)
        .await?;
    let name = format!("pod-service-account-{}", uuid::Uuid::new_v4());
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"serviceAccountName": "mount-test", "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "test", "image": BUSYBOX_IMAGE, "command": ["sleep", "100000"]}]}});
    cx.ok(Method::POST, &cx.core("pods"), &pod).await?;
    let pod = waits::running(&cx, &name).await?;
    let read = async |file: &str| {
        let file = format!("{MOUNT}/{file}");
        cx.k(&["exec", &name, "-c", "test", "--", "cat", &file], "")
            .await
    };
    let token = read("token").await?;
    let roots = cx.get(&cx.core("configmaps/kube-root-ca.crt")).await?;
    let ca = read("ca.crt").await?;
    ensure!(roots["data"]["ca.crt"] == ca, "{ca}");
    ensure!(read("namespace").await? == cx.namespace, "the namespace");

    let found = review(&cx, &token).await?;
    let user = &found["status"]["user"];
    let ns = &cx.namespace;
    ensure!(
        user["username"] == format!("system:serviceaccount:{ns}:mount-test"),
        "{user}"
    );
    let groups = user["groups"].as_array().context("groups")?;
    for group in [
        "system:authenticated".to_string(),
        "system:serviceaccounts".to_string(),
        format!("system:serviceaccounts:{ns}"),
    ] {
        ensure!(groups.contains(&json!(group)), "{user} lacks {group}");
    }
    let extra = |key: &str| user["extra"][format!("authentication.kubernetes.io/{key}")].clone();
    let id = extra("credential-id");
    let one = id
        .as_array()
        .filter(|a| a.len() == 1)
        .and_then(|a| a[0].as_str());
    ensure!(one.is_some_and(|id| id.starts_with("JTI=")), "{user}");
    let node = pod["spec"]["nodeName"].as_str().context("a node")?;
    let node = cx.get(&format!("/api/v1/nodes/{node}")).await?;
    let both = [("pod", &pod), ("node", &node)];
    for (what, object) in both {
        for field in ["name", "uid"] {
            let wanted = json!([object["metadata"][field]]);
            let found = extra(&format!("{what}-{field}"));
            ensure!(found == wanted, "{what}-{field} is {found}, not {wanted}");
        }
    }
    Ok(())
}

async fn projected_token(cx: Cx) -> Result<()> {
    let name = format!("test-pod-{}", uuid::Uuid::new_v4());
    let args = ["mounttest", "--file_content=/test-volume/token"];
    let mut pod = crate::fixtures::pod(
        &name,
        json!({}),
        crate::fixtures::agnhost("agnhost-container", &args),
    );
    pod["spec"]["restartPolicy"] = json!("Never");
    let source = json!({"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}});
    pod["spec"]["volumes"] = json!([{"name": "test-volume", "projected": {"sources": [source]}}]);
    pod["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "test-volume", "mountPath": "/test-volume", "readOnly": true}]);
    cx.ok(Method::POST, &cx.core("pods"), &pod).await?;
    waits::succeeded(&cx, &name).await?;
    let log = waits::log(&cx, &name, "agnhost-container").await?;
    let part = r"[A-Za-z0-9_\-]+";
    let wanted = format!(r#"content of file "/test-volume/token": {part}\.{part}\.{part}"#);
    ensure!(regex::Regex::new(&wanted)?.is_match(&log), "{log}");
    let path = cx.core(&format!("pods/{name}"));
    cx.delete(&path).await?;
    cx.gone(&path, waits::POD_DELETE).await
}

async fn issuer_discovery(cx: Cx) -> Result<()> {
    let role = "system:service-account-issuer-discovery";
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let binding = format!("{}-{role}", cx.namespace);
    let object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": binding},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": cx.namespace}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}});
    cx.ok(Method::POST, bindings, &object).await?;
    cx.clean(format!("{bindings}/{binding}"));
    let name = "oidc-discovery-validator";
    let args = [
        "test-service-account-issuer-discovery",
        "--token-path",
        "/var/run/secrets/tokens/sa-token",
        "--audience",
        "oidc-discovery-test",
    ];
    let mut container = crate::fixtures::agnhost(name, &args);
    container["volumeMounts"] =
        json!([{"name": "sa-token", "mountPath": "/var/run/secrets/tokens", "readOnly": true}]);
    let token =
        json!({"path": "sa-token", "expirationSeconds": 600, "audience": "oidc-discovery-test"});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "serviceAccountName": "default", "containers": [container],
            "volumes": [{"name": "sa-token",
                "projected": {"sources": [{"serviceAccountToken": token}]}}]}});
    cx.ok(Method::POST, &cx.core("pods"), &pod).await?;
    let done = waits::succeeded(&cx, name).await;
    let log = waits::log(&cx, name, name).await?;
    done.with_context(|| log.clone())?;
    let gone = cx.delete(&format!("{bindings}/{binding}")).await?;
    ensure!(gone.is_object(), "{gone}");
    Ok(())
}

async fn subject_review(cx: Cx) -> Result<()> {
    let made = cx
        .ok(
            Method::POST,
            &cx.core("serviceaccounts"),
            &account("e2e", None),
        )
        .await?;
    let uid = made["metadata"]["uid"].as_str().context("a uid")?;
    let ns = &cx.namespace;
    let user = format!("system:serviceaccount:{ns}:e2e");
    let own = format!("system:serviceaccounts:{ns}");
    let groups = ["system:authenticated", "system:serviceaccounts", &own];
    let mut spec = json!({"user": user, "groups": groups, "uid": uid,
        "resourceAttributes": {"verb": "list", "resource": "configmaps", "version": "v1", "namespace": ns}});
    let review = |kind: &str, namespace: Option<&str>, spec: &Value| {
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind,
            "metadata": {"namespace": namespace}, "spec": spec})
    };
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let object = review("SubjectAccessReview", None, &spec);
    let found = cx.ok(Method::POST, path, &object).await?;
    let allowed = found["status"]["allowed"].as_bool().context("allowed")?;

    let mut headers = vec![
        ("impersonate-user", user.as_str()),
        ("impersonate-uid", uid),
    ];
    headers.extend(groups.iter().map(|g| ("impersonate-group", *g)));
    let list = cx
        .raw(Method::GET, &cx.core("configmaps"), &headers, "")
        .await?;
    ensure!(list.code == 200 || list.code == 403, "{list:?}");
    ensure!((list.code == 200) == allowed, "allowed {allowed}: {list:?}");

    spec["user"] = json!("e2e");
    let path = cx.group("authorization.k8s.io/v1", "localsubjectaccessreviews");
    let object = review("LocalSubjectAccessReview", Some(ns), &spec);
    let found = cx.ok(Method::POST, &path, &object).await?;
    ensure!(found["status"]["allowed"] == allowed, "{found}");
    Ok(())
}
