//! Twins of crd_conversion_webhook.go and crd_selectable_fields.go: two versions that a webhook converts.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use crate::connect::escape;
use crate::crds;
use crate::rest::{Cx, FOREVER, Watch, random};
use crate::waits::name;
use crate::webhooks::Server;

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert from CR v1 to CR v2 [Conformance]",
        "crd-webhook",
        converts_one
    ),
    twin!(
        "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert a non homogeneous list of CRs [Conformance]",
        "crd-webhook",
        converts_lists
    ),
    twin!(
        "[sig-api-machinery] CustomResourceFieldSelectors [Privileged:ClusterAdmin] CustomResourceFieldSelectors MUST list and watch custom resources matching the field selector [Conformance]",
        "crd-selectable-fields",
        field_selectors
    ),
];

const GROUP: &str = "stable.example.com";
const SERVICE: &str = "e2e-test-crd-conversion-webhook";
const PORT: u16 = 9443;
const OFTEN: Duration = Duration::from_millis(100);

/// Starts the webhook; the bundle that vouches for it.
async fn webhook(cx: &Cx) -> Result<String> {
    let server = Server {
        command: "crd-conversion-webhook",
        role_binding: "crd-conversion-webhook-auth-reader",
        secret: "sample-custom-resource-conversion-webhook-secret",
        deployment: "sample-crd-conversion-webhook-deployment",
        container: "sample-crd-conversion-webhook",
        labels: json!({"app": "sample-crd-conversion-webhook", "crd-webhook": "true"}),
        service: SERVICE,
        service_label: json!({"test": "crd-webhook"}),
        selector: json!({"crd-webhook": "true"}),
        port: PORT,
        container_port: 9444,
    };
    server.deploy(cx).await
}

/// The versions of the definition, one of them stored.
fn versions(stored: &str, selectable: bool) -> Vec<Value> {
    let text = json!({"type": "string"});
    let schema = |fields: Value| json!({"type": "object", "properties": fields});
    let mut first = crds::version("v1", stored == "v1", schema(json!({"hostPort": text})));
    let fields = json!({"host": text, "port": text});
    let mut second = crds::version("v2", stored == "v2", schema(fields));
    if selectable {
        first["selectableFields"] = json!([{"jsonPath": ".hostPort"}]);
        second["selectableFields"] = json!([{"jsonPath": ".host"}, {"jsonPath": ".port"}]);
    }
    vec![first, second]
}

/// Makes the definition with its webhook and waits until objects are converted.
async fn definition(cx: &Cx, selectable: bool) -> Result<Value> {
    let bundle = webhook(cx).await?;
    let word = format!("e2e-test-{}-{}-crd", cx.namespace, random(4));
    let versions = versions("v1", selectable);
    let mut crd = crds::definition(GROUP, crds::names(&word), "Namespaced", versions);
    crd["spec"]["preserveUnknownFields"] = json!(false);
    let service =
        json!({"namespace": cx.namespace, "name": SERVICE, "path": "/crdconvert", "port": PORT});
    crd["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "clientConfig": {"caBundle": bundle, "service": service},
        "conversionReviewVersions": ["v1", "v1beta1"]}});
    let made = crds::create(cx, &crd).await?;
    let all = crds::objects(&made, "v2", Some(&cx.namespace));
    let empty = object(&made, "v2", &cx.namespace, json!({}));
    cx.eventually(OFTEN, FOREVER, "objects are converted", || async {
        let answer = cx
            .send(Method::POST, &all, "application/json", Some(&empty))
            .await?;
        Ok(answer.is_ok())
    })
    .await?;
    cx.delete(&format!("{all}/{}", cx.namespace)).await?;
    Ok(made)
}

fn object(crd: &Value, version: &str, name: &str, fields: Value) -> Value {
    let mut out = json!({"apiVersion": format!("{GROUP}/{version}"),
        "kind": crd["spec"]["names"]["kind"], "metadata": {"name": name}});
    for (key, value) in fields.as_object().into_iter().flatten() {
        out[key] = value.clone();
    }
    out
}

/// An object must be in version 1 and have its one field, or in version 2 with both.
fn is_in(object: &Value, version: &str) -> Result<()> {
    let fields = |o: &Value| (o["hostPort"].clone(), o["host"].clone(), o["port"].clone());
    let expected = match version {
        "v1" => (json!("localhost:8080"), Value::Null, Value::Null),
        _ => (Value::Null, json!("localhost"), json!("8080")),
    };
    ensure!(
        object["apiVersion"] == format!("{GROUP}/{version}"),
        "{object}"
    );
    ensure!(fields(object) == expected, "{object}");
    Ok(())
}

async fn converts_one(cx: Cx) -> Result<()> {
    let crd = definition(&cx, false).await?;
    let all = |version: &str| crds::objects(&crd, version, Some(&cx.namespace));
    let fields = json!({"hostPort": "localhost:8080"});
    let one = object(&crd, "v1", "cr-instance-1", fields);
    cx.ok(Method::POST, &all("v1"), &one).await?;
    let found = cx.get(&format!("{}/cr-instance-1", all("v2"))).await?;
    is_in(&found, "v2")
}

async fn converts_lists(cx: Cx) -> Result<()> {
    let crd = definition(&cx, false).await?;
    let all = |version: &str| crds::objects(&crd, version, Some(&cx.namespace));
    let fields = json!({"hostPort": "localhost:8080"});
    let one = object(&crd, "v1", "cr-instance-1", fields.clone());
    cx.ok(Method::POST, &all("v1"), &one).await?;
    let path = format!("{}/{}", crds::ALL, name(&crd));
    cx.update(&path, |o| {
        o["spec"]["versions"] = json!(versions("v2", false))
    })
    .await?;
    let two = object(&crd, "v1", "cr-instance-2", fields);
    let mut tries = 1;
    loop {
        match cx
            .send(Method::POST, &all("v1"), "application/json", Some(&two))
            .await?
        {
            Ok(_) => break,
            Err(_) if tries < 5 => tries += 1,
            Err(f) => bail!("cr-instance-2: {f:?}"),
        }
    }
    for version in ["v1", "v2"] {
        let found = cx.items(&all(version)).await?;
        let names: BTreeSet<&str> = found.iter().map(name).collect();
        ensure!(
            names == BTreeSet::from(["cr-instance-1", "cr-instance-2"]),
            "{names:?}"
        );
        for one in &found {
            is_in(one, version)?;
        }
    }
    Ok(())
}

/// Names that a watch told of, by type of event.
#[derive(Default)]
struct Seen {
    added: BTreeSet<String>,
    deleted: BTreeSet<String>,
}

/// A watch with a field selector, and what it told so far.
struct Watched {
    what: String,
    watch: Watch,
    seen: Seen,
}

impl Watched {
    async fn begin(cx: &Cx, all: &str, selector: &str) -> Result<Self> {
        let query = format!("fieldSelector={}", escape(selector));
        Ok(Self {
            what: format!("{all} {selector}"),
            watch: cx.watch(all, &query).await?,
            seen: Seen::default(),
        })
    }

    /// Begins as an informer does: with a list, then a watch from its version.
    async fn inform(cx: &Cx, all: &str, selector: &str) -> Result<Self> {
        let selector_text = escape(selector);
        let list = cx
            .get(&format!("{all}?fieldSelector={selector_text}"))
            .await?;
        let since = crate::rest::version(&list)?;
        let query = format!("fieldSelector={selector_text}&resourceVersion={since}");
        let items = list["items"].as_array().into_iter().flatten();
        Ok(Self {
            what: format!("informer {all} {selector}"),
            watch: cx.watch(all, &query).await?,
            seen: Seen {
                added: items.map(|o| name(o).to_string()).collect(),
                deleted: BTreeSet::new(),
            },
        })
    }

    /// Waits until exactly these names were added and deleted.
    async fn until(&mut self, added: &[&str], deleted: &[&str]) -> Result<()> {
        let set = |names: &[&str]| -> BTreeSet<String> {
            names.iter().map(|n| (*n).to_string()).collect()
        };
        let (added, deleted) = (set(added), set(deleted));
        let end = tokio::time::Instant::now() + FOREVER;
        while self.seen.added != added || self.seen.deleted != deleted {
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            let next = self.watch.next(left).await;
            let (kind, object) = next.map_err(|e| {
                e.context(format!(
                    "{}: added {:?}, deleted {:?}",
                    self.what, self.seen.added, self.seen.deleted
                ))
            })?;
            let of = name(&object).to_string();
            match kind.as_str() {
                "ADDED" => self.seen.added.insert(of),
                "DELETED" => self.seen.deleted.insert(of),
                "MODIFIED" => true,
                other => bail!("{}: {other} {object}", self.what),
            };
            ensure!(
                self.seen.added.is_subset(&added) && self.seen.deleted.is_subset(&deleted),
                "{}: too much: added {:?}, deleted {:?}",
                self.what,
                self.seen.added,
                self.seen.deleted
            );
        }
        Ok(())
    }
}

async fn selects(cx: &Cx, all: &str, selector: &str, expected: &[&str]) -> Result<()> {
    let found = cx
        .items(&format!("{all}?fieldSelector={}", escape(selector)))
        .await?;
    let found: BTreeSet<&str> = found.iter().map(name).collect();
    let expected: BTreeSet<&str> = expected.iter().copied().collect();
    ensure!(
        found == expected,
        "{all} {selector}: {found:?}, expected {expected:?}"
    );
    Ok(())
}

async fn field_selectors(cx: Cx) -> Result<()> {
    let crd = definition(&cx, true).await?;
    let first = crds::objects(&crd, "v1", Some(&cx.namespace));
    let second = crds::objects(&crd, "v2", Some(&cx.namespace));
    let both = "host=host1,port=80";
    let mut wide = vec![Watched::begin(&cx, &second, "host=host1").await?];
    let mut narrow = vec![
        Watched::begin(&cx, &second, both).await?,
        Watched::begin(&cx, &first, "hostPort=host1:80").await?,
    ];
    wide.push(Watched::inform(&cx, &second, "host=host1").await?);
    narrow.push(Watched::inform(&cx, &second, both).await?);
    let mut names = Vec::new();
    for fields in [
        json!({"host": "host1", "port": "80"}),
        json!({"host": "host1", "port": "8080"}),
        json!({"host": "host2"}),
    ] {
        let one = object(
            &crd,
            "v2",
            &format!("selectable-field-cr{}", random(5)),
            fields,
        );
        cx.ok(Method::POST, &second, &one).await?;
        names.push(name(&one).to_string());
    }
    let (a, b) = (names[0].as_str(), names[1].as_str());
    selects(&cx, &second, "host=host1", &[a, b]).await?;
    selects(&cx, &second, both, &[a]).await?;
    selects(&cx, &first, "hostPort=host1:80", &[a]).await?;
    selects(&cx, &first, "hostPort=host1:8080", &[b]).await?;
    for w in &mut wide {
        w.until(&[a, b], &[]).await?;
    }
    for w in &mut narrow {
        w.until(&[a], &[]).await?;
    }
    let collection = format!(
        "{second}?fieldSelector={}&gracePeriodSeconds=0",
        escape(both)
    );
    cx.delete(&collection).await?;
    cx.update(&format!("{second}/{b}"), |o| o["host"] = json!("host2"))
        .await?;
    selects(&cx, &second, "host=host1", &[]).await?;
    selects(&cx, &second, both, &[]).await?;
    for w in &mut wide {
        w.until(&[a, b], &[a, b]).await?;
    }
    for w in &mut narrow {
        w.until(&[a], &[a]).await?;
    }
    Ok(())
}
