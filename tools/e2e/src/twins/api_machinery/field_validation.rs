//! Twins of field_validation.go.

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use crate::connect::Answer;
use crate::crds;
use crate::rest::Cx;

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-api-machinery] FieldValidation should detect unknown and duplicate fields of a typed object [Conformance]",
        "field-validation",
        typed
    ),
    twin!(
        "[sig-api-machinery] FieldValidation should detect unknown metadata fields of a typed object [Conformance]",
        "field-validation",
        typed_metadata
    ),
    twin!(
        "[sig-api-machinery] FieldValidation should create/apply a valid CR for CRD with validation schema [Conformance]",
        "field-validation",
        valid
    ),
    twin!(
        "[sig-api-machinery] FieldValidation should create/apply a CR with unknown fields for CRD with no validation schema [Conformance]",
        "field-validation",
        no_schema
    ),
    twin!(
        "[sig-api-machinery] FieldValidation should create/apply an invalid CR with extra properties for CRD with validation schema [Conformance]",
        "field-validation",
        extra
    ),
    twin!(
        "[sig-api-machinery] FieldValidation should detect unknown metadata fields in both the root and embedded object of a CR [Conformance]",
        "field-validation",
        metadata
    ),
    twin!(
        "[sig-api-machinery] FieldValidation should detect duplicates in a CR when preserving unknown fields [Conformance]",
        "field-validation",
        duplicates
    ),
];

const STRICT: &str = "fieldManager=field_validation_mgr&fieldValidation=Strict";

/// Posts the text of a Deployment; it must be refused with a message.
async fn post(cx: &Cx, metadata: &str, spec: &str, wanted: &str) -> Result<()> {
    let body = format!(
        r#"{{"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {{{metadata}"name": "my-dep", "labels": {{"app": "nginx"}}}},
        "spec": {{{spec}"selector": {{"matchLabels": {{"app": "nginx"}}}},
        "template": {{"metadata": {{"labels": {{"app": "nginx"}}}},
        "spec": {{"containers": [{{"name": "nginx", "image": "nginx:latest"}}]}}}}}}}}"#
    );
    let path = cx.group("apps/v1", &format!("deployments?{STRICT}"));
    // No content type: what has none is JSON.
    let answer = cx.raw(Method::POST, &path, &[], body).await?;
    ensure!(answer.code >= 400, "{answer:?}");
    let status: Value = serde_json::from_str(&answer.text)?;
    let message = status["message"].as_str().unwrap_or_default();
    ensure!(message.contains(wanted), "{message} lacks {wanted}");
    Ok(())
}

async fn typed(cx: Cx) -> Result<()> {
    let wanted = r#"strict decoding error: unknown field "spec.unknownField", duplicate field "spec.replicas""#;
    let spec = r#""unknownField": "foo", "replicas": 2, "replicas": 3, "#;
    post(&cx, "", spec, wanted).await
}

async fn typed_metadata(cx: Cx) -> Result<()> {
    let wanted = r#"strict decoding error: unknown field "metadata.unknownMeta""#;
    post(&cx, r#""unknownMeta": "foo", "#, "", wanted).await
}

/// The schema of these tests.
fn schema() -> Value {
    let port = json!({"type": "object", "required": ["containerPort", "protocol"], "properties": {
        "containerPort": {"type": "integer", "format": "int32"}, "hostIP": {"type": "string"},
        "hostPort": {"type": "integer", "format": "int32"}, "name": {"type": "string"},
        "protocol": {"type": "string"}}});
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "foo": {"type": "string"},
        "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
        "ports": {"type": "array", "items": port, "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["containerPort", "protocol"]}}}}})
}

/// Applies an object of a definition; the parts that follow `metadata` and `spec` are given.
async fn apply(cx: &Cx, schema: &Value, root: &str, metadata: &str, spec: &str) -> Result<Answer> {
    let crd = crds::create_primed(cx, &crds::random_versions(schema)).await?;
    let kind = crd["spec"]["names"]["kind"].as_str().unwrap_or_default();
    let body = format!(
        r#"
apiVersion: mygroup.example.com/v1beta1
kind: {kind}
metadata:
  name: mytest
{metadata}{root}spec:
{spec}  cronSpec: "* * * * */5"
  ports:
  - name: x
    containerPort: 80
    protocol: TCP
"#
    );
    let path = format!("{}/mytest?{STRICT}", crds::objects(&crd, "v1beta1", None));
    let headers = [("content-type", "application/apply-patch+yaml")];
    let answer = cx.raw(Method::PATCH, &path, &headers, body).await?;
    crds::delete(cx, &crd).await?;
    Ok(answer)
}

async fn valid(cx: Cx) -> Result<()> {
    let answer = apply(&cx, &schema(), "", "", "  foo: foo1\n").await?;
    ensure!(answer.code < 300, "{answer:?}");
    Ok(())
}

async fn no_schema(cx: Cx) -> Result<()> {
    let answer = apply(&cx, &crds::anything(), "", "", "  unknown: uk1\n").await?;
    ensure!(answer.code < 300, "{answer:?}");
    Ok(())
}

async fn extra(cx: Cx) -> Result<()> {
    let root = "unknownField: unknown\n";
    let answer = apply(&cx, &schema(), root, "", "  foo: foo1\n").await?;
    let wanted = ".unknownField: field not declared in schema";
    ensure!(
        answer.code >= 400 && answer.text.contains(wanted),
        "{answer:?}"
    );
    Ok(())
}

async fn metadata(cx: Cx) -> Result<()> {
    let mut schema = schema();
    let spec = &mut schema["properties"]["spec"];
    spec["x-kubernetes-preserve-unknown-fields"] = json!(true);
    spec["properties"]["template"] = json!({"type": "object", "x-kubernetes-embedded-resource": true,
        "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": {"type": "object"}}});
    let embedded = format!(
        "  template:\n    apiversion: foo/v1\n    kind: Sub\n    metadata:\n      unknownSubMeta: unknown\n      \
         name: subobject\n      namespace: {}\n  foo: foo1\n",
        cx.namespace
    );
    let answer = apply(&cx, &schema, "", "  unknownMeta: unknown\n", &embedded).await?;
    let wanted = [
        ".spec.template.metadata.unknownSubMeta: field not declared in schema",
        ".metadata.unknownMeta: field not declared in schema",
    ];
    let found = wanted.iter().any(|w| answer.text.contains(w));
    ensure!(answer.code >= 400 && found, "{answer:?}");
    Ok(())
}

async fn duplicates(cx: Cx) -> Result<()> {
    let mut schema = schema();
    schema["properties"]["spec"]["x-kubernetes-preserve-unknown-fields"] = json!(true);
    let spec = "  unknown: uk1\n  foo: foo1\n  foo: foo2\n";
    let answer = apply(&cx, &schema, "", "", spec).await?;
    let wanted = r#"line 9: key \"foo\" already set in map"#;
    ensure!(
        answer.code >= 400 && answer.text.contains(wanted),
        "{answer:?}"
    );
    Ok(())
}
