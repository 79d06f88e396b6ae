//! [DRA] CRUD Tests: every verb and every kind of patch on the kinds of resource.k8s.io.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use http::Method;
use serde_json::{Value, json};

use crate::pods;
use crate::rest::{Cx, Watch, version};

/// How soon an event must come.
const TOLD: Duration = Duration::from_secs(5);
const GONE: Duration = Duration::from_secs(30);

/// A kind and what the test does with it.
pub struct Kind {
    resource: &'static str,
    kind: &'static str,
    namespaced: bool,
    spec: Value,
    change: fn(&mut Value),
    /// Kind and body of each patch.
    patches: Vec<(&'static str, Value)>,
    change_status: Option<fn(&mut Value)>,
    status_patches: Vec<(&'static str, Value)>,
}

/// A test on its way: where the object is, and who looks on.
struct Run<'a> {
    cx: &'a Cx,
    kind: &'a Kind,
    object: Value,
    all: String,
    path: String,
    selector: String,
    watches: Vec<Watch>,
    version: u64,
}

const LABEL: &str = "test.dra.example.com";

fn set_label(object: &mut Value) {
    object["metadata"]["labels"][LABEL] = json!("test");
}

fn label_patch() -> Value {
    json!({"metadata": {"labels": {LABEL: "test"}}})
}

fn request() -> Value {
    json!({"devices": {"requests": [{"name": "req-0", "exactly": {"deviceClassName": "dra.example.com"}}]}})
}

fn condition() -> Value {
    let now = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    json!({"type": "Testing", "status": "True", "lastTransitionTime": now,
        "reason": "E2E_test_running", "message": "This condition can be ignored."})
}

pub fn device_class() -> Kind {
    let selectors = |text: &str| json!({"selectors": [{"cel": {"expression": text}}]});
    Kind {
        resource: "deviceclasses",
        kind: "DeviceClass",
        namespaced: false,
        spec: selectors("false"),
        change: |o| o["spec"]["selectors"][0]["cel"]["expression"] = json!("1 == 0"),
        patches: vec![("strategic-merge", json!({"spec": selectors("1 == 0")}))],
        change_status: None,
        status_patches: Vec::new(),
    }
}

pub fn taint_rule() -> Kind {
    Kind {
        resource: "devicetaintrules",
        kind: "DeviceTaintRule",
        namespaced: false,
        spec: json!({"taint": {"key": "testing", "effect": "None"}}),
        change: |o| o["spec"]["taint"]["effect"] = json!("NoExecute"),
        patches: vec![(
            "strategic-merge",
            json!({"spec": {"taint": {"effect": "NoExecute"}}}),
        )],
        change_status: Some(|o| match o["status"]["conditions"].as_array_mut() {
            Some(all) => all.push(condition()),
            None => o["status"]["conditions"] = json!([condition()]),
        }),
        status_patches: vec![(
            "strategic-merge",
            json!({"status": {"conditions": [condition()]}}),
        )],
    }
}

pub fn claim() -> Kind {
    let place = format!("/metadata/labels/{LABEL}");
    let merges = ["strategic-merge", "apply", "merge"];
    let mut patches: Vec<_> = merges.map(|k| (k, label_patch())).into();
    patches.push((
        "json",
        json!([{"op": "add", "path": place, "value": "test"}]),
    ));
    let allocated = json!({"status": {"allocation": {}}});
    let mut status_patches: Vec<_> = merges.map(|k| (k, allocated.clone())).into();
    status_patches.push((
        "json",
        json!([{"op": "add", "path": "/status/allocation", "value": {}}]),
    ));
    Kind {
        resource: "resourceclaims",
        kind: "ResourceClaim",
        namespaced: true,
        spec: request(),
        change: set_label,
        patches,
        change_status: Some(|o| o["status"]["allocation"] = json!({"devices": {}})),
        status_patches,
    }
}

pub fn claim_template() -> Kind {
    Kind {
        resource: "resourceclaimtemplates",
        kind: "ResourceClaimTemplate",
        namespaced: true,
        spec: json!({"spec": request()}),
        change: set_label,
        patches: vec![("strategic-merge", label_patch())],
        change_status: None,
        status_patches: Vec::new(),
    }
}

pub fn slice() -> Kind {
    let devices = json!([{"name": "device-0"}]);
    Kind {
        resource: "resourceslices",
        kind: "ResourceSlice",
        namespaced: false,
        spec: json!({"driver": "dra.example.com", "nodeName": "no-such-node",
            "pool": {"name": "cluster", "generation": 1, "resourceSliceCount": 1}}),
        change: |o| o["spec"]["devices"] = json!([{"name": "device-0"}]),
        patches: vec![("strategic-merge", json!({"spec": {"devices": devices}}))],
        change_status: None,
        status_patches: Vec::new(),
    }
}

// === Run ===

impl<'a> Run<'a> {
    async fn begin(cx: &'a Cx, kind: &'a Kind) -> Result<Self> {
        let group = "/apis/resource.k8s.io/v1";
        let resources = cx.get(group).await?;
        let mut resources = resources["resources"].as_array().into_iter().flatten();
        ensure!(
            resources.any(|r| r["name"] == kind.resource),
            "{} is not discovered",
            kind.resource
        );
        let everywhere = format!("{group}/{}", kind.resource);
        let (all, name) = match kind.namespaced {
            true => (
                format!("{group}/namespaces/{}/{}", cx.namespace, kind.resource),
                "test".to_string(),
            ),
            false => (everywhere.clone(), format!("test-{}", cx.namespace)),
        };
        let selector = format!("labelSelector=e2e-test.kubernetes.io%3D{}", cx.namespace);
        let mut watches = Vec::new();
        let places = if kind.namespaced {
            vec![&everywhere, &all]
        } else {
            vec![&everywhere]
        };
        for place in places {
            let list = cx.get(&format!("{place}?{selector}")).await?;
            ensure!(
                list["items"].as_array().is_some_and(Vec::is_empty),
                "{list}"
            );
            let from = list["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or_default();
            watches.push(
                cx.watch(place, &format!("{selector}&resourceVersion={from}"))
                    .await?,
            );
        }
        let mut object = json!({"apiVersion": "resource.k8s.io/v1", "kind": kind.kind, "spec": kind.spec,
            "metadata": {"name": name, "labels": {"e2e-test.kubernetes.io": cx.namespace}}});
        if kind.namespaced {
            object["metadata"]["namespace"] = json!(cx.namespace);
        }
        let path = format!("{all}/{name}");
        Ok(Self {
            cx,
            kind,
            object,
            all,
            path,
            selector,
            watches,
            version: 0,
        })
    }

    /// All that look on are told, and of nothing else but changes before.
    async fn told(&mut self, wanted: &str) -> Result<()> {
        let mut last = self.version;
        for watch in &mut self.watches {
            let mut seen = self.version;
            loop {
                let (kind, object) = watch.next(TOLD).await?;
                let metadata = &object["metadata"];
                ensure!(
                    metadata["name"] == self.object["metadata"]["name"]
                        && metadata["namespace"] == self.object["metadata"]["namespace"],
                    "{kind} of another: {object}"
                );
                let now = version(&object)?;
                ensure!(now >= seen, "{kind} goes from {seen} to {now}");
                seen = now;
                if kind == wanted {
                    break;
                }
                ensure!(kind == "MODIFIED", "{kind}, expected {wanted}: {object}");
            }
            last = last.max(seen);
        }
        self.version = last;
        Ok(())
    }

    async fn create(&mut self) -> Result<Value> {
        let path = format!("{}?fieldValidation=Strict", self.all);
        let made = self.cx.ok(Method::POST, &path, &self.object).await?;
        for key in ["name", "namespace"] {
            ensure!(
                made["metadata"][key] == self.object["metadata"][key],
                "{made}"
            );
        }
        version(&made)?;
        self.told("ADDED").await?;
        Ok(made)
    }

    async fn delete(&mut self) -> Result<()> {
        self.cx.delete(&self.path).await?;
        pods::gone(self.cx, &self.path, GONE).await?;
        self.told("DELETED").await
    }

    /// A patch of a kind on the object or its status.
    async fn patch(&mut self, place: &str, kind: &str, body: &Value, made: &Value) -> Result<()> {
        let mut path = format!("{}{place}?fieldValidation=Strict", self.path);
        let mut body = body.clone();
        let content = match kind {
            "apply" => {
                path.push_str("&fieldManager=test-apply&force=true");
                "application/apply-patch+yaml".to_string()
            }
            kind => format!("application/{kind}-patch+json"),
        };
        if kind != "json" {
            for key in ["apiVersion", "kind"] {
                body[key] = made[key].clone();
            }
            for key in ["name", "namespace", "uid"] {
                if let Some(value) = made["metadata"].get(key) {
                    body["metadata"][key] = value.clone();
                }
            }
        }
        let answer = self
            .cx
            .send(Method::PATCH, &path, &content, Some(&body))
            .await?;
        answer.map_err(|f| anyhow!("PATCH {path} ({kind}): {f:?}"))?;
        self.told("MODIFIED").await
    }

    async fn run(&mut self) -> Result<()> {
        let made = self.create().await?;
        self.cx.get(&self.path).await?;
        let updated = self.cx.update(&self.path, self.kind.change).await?;
        ensure!(version(&updated)? > version(&made)?, "{updated}");
        self.told("MODIFIED").await?;
        let status = format!("{}/status", self.path);
        if let Some(change) = self.kind.change_status {
            self.cx.update(&status, change).await?;
            self.told("MODIFIED").await?;
            self.cx.get(&status).await?;
        }
        for (kind, body) in &self.kind.patches {
            self.delete().await?;
            let made = self.create().await?;
            self.patch("", kind, body, &made).await?;
        }
        for (kind, body) in &self.kind.status_patches {
            self.delete().await?;
            let made = self.create().await?;
            self.cx.update(&self.path, self.kind.change).await?;
            self.told("MODIFIED").await?;
            self.patch("/status", kind, body, &made).await?;
        }
        let everywhere = format!("/apis/resource.k8s.io/v1/{}", self.kind.resource);
        for place in [&self.all, &everywhere] {
            let list = self.cx.get(&format!("{place}?{}", self.selector)).await?;
            ensure!(
                list["items"].as_array().is_some_and(|i| i.len() == 1),
                "{list}"
            );
        }
        self.cx
            .delete(&format!("{}?{}", self.all, self.selector))
            .await?;
        pods::gone(self.cx, &self.path, GONE).await?;
        self.told("DELETED").await
    }
}

pub async fn crud(cx: Cx, kind: Kind) -> Result<()> {
    let done = Run::begin(&cx, &kind).await?.run().await;
    ensure!(done.is_ok(), "{done:?}");
    Ok(())
}
