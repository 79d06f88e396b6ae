//! Twins of crd_publish_openapi.go.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use http::Method;
use regex::Regex;
use serde_json::{Value, json};

use super::super::Twin;
use crate::crds;
use crate::rest::{Cx, random};
use crate::waits::name;

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD with validation schema [Conformance]",
        "crd-publish-openapi",
        with_schema
    ),
    twin!(
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD without validation schema [Conformance]",
        "crd-publish-openapi",
        without_schema
    ),
    twin!(
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields at the schema root [Conformance]",
        "crd-publish-openapi",
        unknown_at_root
    ),
    twin!(
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields in an embedded object [Conformance]",
        "crd-publish-openapi",
        unknown_in_nested
    ),
    twin!(
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of different groups [Conformance]",
        "crd-publish-openapi",
        groups
    ),
    twin!(
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group but different versions [Conformance]",
        "crd-publish-openapi",
        versions
    ),
    twin!(
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group and version but different kinds [Conformance]",
        "crd-publish-openapi",
        kinds
    ),
    twin!(
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] updates the published spec when one version gets renamed [Conformance]",
        "crd-publish-openapi",
        renamed
    ),
    twin!(
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] removes definition from spec when one version gets changed to not be served [Conformance]",
        "crd-publish-openapi",
        unserved
    ),
];

const POLL: Duration = Duration::from_millis(500);
const WITHIN: Duration = Duration::from_secs(60);
/// How many answers in a row must be right.
const IN_A_ROW: usize = 10;

fn foo() -> Value {
    let text = |about: &str| json!({"type": "string", "description": about});
    let mut feeling = text("Whether Bar is feeling great.");
    feeling["enum"] = json!(["Great", "Down"]);
    let mut qux = text("Indicates to external qux type.");
    qux["pattern"] = json!("in-tree|out-of-tree");
    let bars = json!({"description": "List of Bars and their specs.", "type": "array",
        "items": {"type": "object", "required": ["name"], "properties": {
            "name": text("Name of Bar."), "age": text("Age of Bar."), "feeling": feeling,
            "bazs": {"description": "List of Bazs.", "items": {"type": "string"},
                "type": "array"}}}});
    let statuses = json!({"description": "List of Bars and their statuses.", "type": "array",
        "items": {"type": "object", "properties": {
            "name": text("Name of Bar."), "quxType": qux,
            "available": {"description": "Whether the Bar is installed.", "type": "boolean"}}}});
    json!({"description": "Foo CRD for Testing", "type": "object", "properties": {
        "spec": {"type": "object", "description": "Specification of Foo",
            "properties": {"bars": bars}},
        "status": {"type": "object", "description": "Status of Foo",
            "properties": {"bars": statuses}}}})
}

fn waldo() -> Value {
    let dummy = json!({"description": "Dummy property.", "type": "object"});
    let bars = json!({"description": "List of Bars and their statuses.", "type": "array",
        "items": {"type": "object"}});
    json!({"description": "Waldo CRD for Testing", "type": "object", "properties": {
        "spec": {"type": "object", "description": "Specification of Waldo",
            "properties": {"dummy": dummy}},
        "status": {"type": "object", "description": "Status of Waldo",
            "properties": {"bars": bars}}}})
}

/// What the published definition must be.
#[derive(Clone)]
enum Expected {
    Absent,
    There,
    Equal(Value),
}

/// The name of a kind's definition in the document.
fn definition(crd: &Value, version: &str) -> String {
    let group = crd["spec"]["group"].as_str().unwrap_or_default();
    let mut words: Vec<&str> = group.split('.').collect();
    words.reverse();
    let kind = crd["spec"]["names"]["kind"].as_str().unwrap_or_default();
    format!("{}.{version}.{kind}", words.join("."))
}

/// A definition without what the server adds to it; what is empty is left out.
fn bare(mut definition: Value) -> Value {
    if let Some(all) = definition.as_object_mut() {
        all.retain(|k, _| {
            k != "x-kubernetes-group-version-kind" && k != "x-kubernetes-selectable-fields"
        });
        if let Some(properties) = all.get_mut("properties").and_then(Value::as_object_mut) {
            properties.retain(|k, _| k != "metadata" && k != "apiVersion" && k != "kind");
        }
        all.retain(|k, v| k != "properties" || v.as_object().is_none_or(|p| !p.is_empty()));
    }
    definition
}

/// Is the document right about a definition? What is wrong, if not.
fn check(document: &Value, name: &str, expected: &Expected) -> Result<(), String> {
    let found = document["definitions"].get(name);
    match (expected, found) {
        (Expected::Absent, None) | (Expected::There, Some(_)) => Ok(()),
        (Expected::Absent, Some(_)) => Err(format!("{name} is still there")),
        (_, None) => Err(format!("{name} is not there")),
        (Expected::Equal(wanted), Some(found)) => {
            let found = bare(found.clone());
            let equal = &found == wanted;
            equal.then_some(()).ok_or(format!("{found}, not {wanted}"))
        }
    }
}

/// Waits until the v2 document says of a definition what it must, many times in a row.
async fn published(cx: &Cx, name: &str, expected: Expected) -> Result<()> {
    let end = tokio::time::Instant::now() + WITHIN;
    let (mut tag, mut document) = (String::new(), Value::Null);
    loop {
        let mut wrong = None;
        for _ in 0..IN_A_ROW {
            let headers = [("if-none-match", tag.as_str())];
            let headers = if tag.is_empty() {
                &[][..]
            } else {
                &headers[..]
            };
            let answer = cx.raw(Method::GET, "/openapi/v2", headers, "").await?;
            match answer.code {
                200 => {
                    document = serde_json::from_str(&answer.text)?;
                    tag = answer.tag;
                    ensure!(!tag.is_empty(), "the document has no ETag");
                }
                304 if !document.is_null() => {}
                code => bail!("GET /openapi/v2: {code}"),
            }
            wrong = check(&document, name, &expected).err();
            if wrong.is_some() {
                break;
            }
        }
        let Some(wrong) = wrong else {
            return Ok(());
        };
        let late = tokio::time::Instant::now() >= end;
        ensure!(!late, "not in {WITHIN:?}: {wrong}");
        tokio::time::sleep(POLL).await;
    }
}

/// Makes a definition whose versions all are served, the first one stored, and waits for the document.
async fn set_up(
    cx: &Cx,
    schema: Value,
    expected: Expected,
    suffix: &str,
    versions: &[&str],
) -> Result<Value> {
    let group = format!("crd-publish-openapi-test-{suffix}.example.com");
    let word = format!("e2e-test-{}-{}-crd", cx.namespace, random(4));
    let version = |(i, v): (usize, &&str)| crds::version(v, i == 0, schema.clone());
    let versions = versions.iter().enumerate().map(version).collect();
    let crd = crds::definition(&group, crds::names(&word), "Namespaced", versions);
    let made = crds::create(cx, &crd).await?;
    for version in crds::served(&made) {
        published(cx, &definition(&made, &version), expected.clone()).await?;
    }
    Ok(made)
}

/// As `set_up`, with the schema itself expected.
async fn set_up_as(cx: &Cx, schema: Value, suffix: &str, versions: &[&str]) -> Result<Value> {
    let expected = Expected::Equal(schema.clone());
    set_up(cx, schema, expected, suffix, versions).await
}

async fn clean_up(cx: &Cx, crd: &Value) -> Result<()> {
    crds::delete(cx, crd).await?;
    for version in crds::served(crd) {
        published(cx, &definition(crd, &version), Expected::Absent).await?;
    }
    Ok(())
}

/// A custom resource of a definition's first version.
fn object(crd: &Value, name: &str, rest: Value) -> String {
    let group = crd["spec"]["group"].as_str().unwrap_or_default();
    let version = crd["spec"]["versions"][0]["name"]
        .as_str()
        .unwrap_or_default();
    let mut object = json!({"kind": crd["spec"]["names"]["kind"],
        "apiVersion": format!("{group}/{version}"), "metadata": {"name": name}});
    for (key, value) in rest.as_object().into_iter().flatten() {
        object[key] = value.clone();
    }
    object.to_string()
}

/// kubectl must create, delete, apply and delete an object.
async fn accepted(cx: &Cx, crd: &Value, name: &str, rest: Value) -> Result<()> {
    let object = object(crd, name, rest);
    for verb in ["create", "apply"] {
        cx.k(&[verb, "-f", "-"], &object).await?;
        cx.k(&["delete", crds::plural(crd), name], "").await?;
    }
    Ok(())
}

/// kubectl must refuse an object for one of these reasons.
async fn rejected(cx: &Cx, verb: &str, object: &str, reasons: &[&str]) -> Result<()> {
    let out = cx.kubectl(&[verb, "-f", "-"], object).await?;
    let named = reasons.iter().any(|r| out.stderr.contains(r));
    ensure!(!out.ok && named, "kubectl {verb} of {object}: {out:?}");
    Ok(())
}

/// kubectl must explain a field in these words.
async fn explained(cx: &Cx, field: &str, pattern: &str) -> Result<()> {
    let text = cx.k(&["explain", field], "").await?;
    let fits = Regex::new(&format!("(?s){pattern}"))?.is_match(&text);
    ensure!(fits, "{field}: {text:?} is not {pattern}");
    Ok(())
}

async fn with_schema(cx: Cx) -> Result<()> {
    let crd = set_up_as(&cx, foo(), "foo", &["v1"]).await?;
    let bars = |bar: Value| json!({"spec": {"bars": [bar]}});
    accepted(&cx, &crd, "test-foo", bars(json!({"name": "test-bar"}))).await?;
    let bad = bars(json!({"name": "test-bar", "feeling": "NonExistentValue"}));
    let bad = object(&crd, "test-foo", bad);
    let reason = r#"Unsupported value: "NonExistentValue""#;
    rejected(&cx, "create", &bad, &[reason]).await?;
    let unknown = object(&crd, "test-foo", json!({"spec": {"foo": true}}));
    let missing = object(&crd, "test-foo", bars(json!({"age": "10"})));
    for verb in ["create", "apply"] {
        let reasons = [r#"unknown field "foo""#, r#"unknown field "spec.foo""#];
        rejected(&cx, verb, &unknown, &reasons).await?;
        let reasons = [
            r#"missing required field "name""#,
            "spec.bars[0].name: Required value",
        ];
        rejected(&cx, verb, &missing, &reasons).await?;
    }
    let plural = crds::plural(&crd);
    for (field, pattern) in [
        (
            "",
            "DESCRIPTION:.*Foo CRD for Testing.*FIELDS:.*apiVersion.*<string>.*APIVersion defines.*spec.*<Object>.*Specification of Foo",
        ),
        (
            ".metadata",
            "DESCRIPTION:.*Standard object's metadata.*FIELDS:.*creationTimestamp.*<string>.*CreationTimestamp is a timestamp",
        ),
        (
            ".spec",
            r"DESCRIPTION:.*Specification of Foo.*FIELDS:.*bars.*<\[\]Object>.*List of Bars and their specs",
        ),
        (
            ".spec.bars",
            r"(FIELD|RESOURCE):.*bars.*<\[\]Object>.*DESCRIPTION:.*List of Bars and their specs.*FIELDS:.*bazs.*<\[\]string>.*List of Bazs.*name.*<string>.*Name of Bar",
        ),
    ] {
        explained(&cx, &format!("{plural}{field}"), pattern).await?;
    }
    let field = format!("{plural}.spec.bars2");
    let out = cx.kubectl(&["explain", &field], "").await?;
    ensure!(
        !out.ok && out.stderr.contains(r#"field "bars2" does not exist"#),
        "{out:?}"
    );
    clean_up(&cx, &crd).await
}

/// kubectl must let unknown fields pass and explain the kind.
async fn lets_pass(cx: &Cx, crd: &Value, rest: Value, pattern: &str) -> Result<()> {
    accepted(cx, crd, "test-cr", rest).await?;
    explained(cx, crds::plural(crd), pattern).await?;
    clean_up(cx, crd).await
}

fn unknown() -> Value {
    json!({"a": {"b": [{"c": "d"}]}})
}

async fn without_schema(cx: Cx) -> Result<()> {
    let empty = Expected::Equal(json!({"type": "object"}));
    let crd = set_up(&cx, crds::anything(), empty, "empty", &["v1"]).await?;
    lets_pass(&cx, &crd, unknown(), "DESCRIPTION:.*<empty>").await
}

async fn unknown_at_root(cx: Cx) -> Result<()> {
    let mut schema = waldo();
    schema["description"] = json!("preserve-unknown-properties at root for Testing");
    schema["x-kubernetes-preserve-unknown-fields"] = json!(true);
    let suffix = "unknown-at-root";
    let crd = set_up(&cx, schema, Expected::There, suffix, &["v1"]).await?;
    let kind = crd["spec"]["names"]["kind"].as_str().unwrap_or_default();
    lets_pass(&cx, &crd, unknown(), &format!("KIND:.*{kind}")).await
}

async fn unknown_in_nested(cx: Cx) -> Result<()> {
    let about = "preserve-unknown-properties in nested field for Testing";
    let mut schema = waldo();
    schema["description"] = json!(about);
    schema["properties"]["spec"]["x-kubernetes-preserve-unknown-fields"] = json!(true);
    let suffix = "unknown-in-nested";
    let crd = set_up(&cx, schema, Expected::There, suffix, &["v1"]).await?;
    let rest = json!({"spec": {"a": null, "b": [{"c": "d"}]}});
    lets_pass(&cx, &crd, rest, &format!("DESCRIPTION:.*{about}")).await
}

/// Both definitions must be in the document, side by side.
async fn both(cx: &Cx, first: (&Value, Value), second: (&Value, Value)) -> Result<()> {
    for (crd, schema) in [second, first] {
        let version = crd["spec"]["versions"][0]["name"]
            .as_str()
            .unwrap_or_default();
        let name = definition(crd, version);
        published(cx, &name, Expected::Equal(schema)).await?;
    }
    Ok(())
}

fn group(crd: &Value) -> &Value {
    &crd["spec"]["group"]
}

async fn groups(cx: Cx) -> Result<()> {
    let first = set_up_as(&cx, foo(), "foo", &["v1"]).await?;
    let second = set_up_as(&cx, waldo(), "waldo", &["v1beta1"]).await?;
    ensure!(group(&first) != group(&second), "the groups are the same");
    both(&cx, (&first, foo()), (&second, waldo())).await?;
    clean_up(&cx, &first).await?;
    clean_up(&cx, &second).await
}

async fn versions(cx: Cx) -> Result<()> {
    let crd = set_up_as(&cx, foo(), "multi-ver", &["v2", "v3"]).await?;
    for version in ["v3", "v2"] {
        published(&cx, &definition(&crd, version), Expected::Equal(foo())).await?;
    }
    clean_up(&cx, &crd).await?;
    let first = set_up_as(&cx, foo(), "common-group", &["v4"]).await?;
    let second = set_up_as(&cx, waldo(), "common-group", &["v5"]).await?;
    ensure!(group(&first) == group(&second), "the groups differ");
    both(&cx, (&first, foo()), (&second, waldo())).await?;
    clean_up(&cx, &first).await?;
    clean_up(&cx, &second).await
}

async fn kinds(cx: Cx) -> Result<()> {
    let first = set_up_as(&cx, foo(), "common-group", &["v6"]).await?;
    let second = set_up_as(&cx, waldo(), "common-group", &["v6"]).await?;
    ensure!(group(&first) == group(&second), "the groups differ");
    both(&cx, (&first, foo()), (&second, waldo())).await?;
    clean_up(&cx, &first).await?;
    clean_up(&cx, &second).await
}

async fn renamed(cx: Cx) -> Result<()> {
    let crd = set_up_as(&cx, foo(), "multi-ver", &["v2", "v3"]).await?;
    let patch = json!([{"op": "test", "path": "/spec/versions/1/name", "value": "v3"},
        {"op": "replace", "path": "/spec/versions/1/name", "value": "v4"}]);
    let path = format!("{}/{}", crds::ALL, name(&crd));
    let crd = cx.patch(&path, "json", &patch).await?;
    for (version, expected) in [
        ("v4", Expected::Equal(foo())),
        ("v3", Expected::Absent),
        ("v2", Expected::Equal(foo())),
    ] {
        published(&cx, &definition(&crd, version), expected).await?;
    }
    clean_up(&cx, &crd).await
}

async fn unserved(cx: Cx) -> Result<()> {
    let suffix = "multi-to-single-ver";
    let crd = set_up_as(&cx, foo(), suffix, &["v5", "v6alpha1"]).await?;
    for version in ["v6alpha1", "v5"] {
        published(&cx, &definition(&crd, version), Expected::Equal(foo())).await?;
    }
    let path = format!("{}/{}", crds::ALL, name(&crd));
    let mut found = cx.get(&path).await?;
    found["spec"]["versions"][1]["served"] = json!(false);
    let crd = cx.ok(Method::PUT, &path, &found).await?;
    published(&cx, &definition(&crd, "v6alpha1"), Expected::Absent).await?;
    published(&cx, &definition(&crd, "v5"), Expected::Equal(foo())).await?;
    clean_up(&cx, &crd).await
}
