//! `webhook`: admission webhooks that say no to some objects and change others.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use base64::Engine as _;
use serde_json::{Map, Value, json};

use crate::flags::Flags;
use crate::http1::{self, Reply, Request};
use crate::{log, tls};

/// A verdict on a request.
#[derive(Default)]
struct Verdict {
    denied: bool,
    status: Option<Value>,
    patch: Option<Value>,
}

pub fn run(args: &[String]) -> Result<u8> {
    let known = [
        ("tls-cert-file", ""),
        ("tls-private-key-file", ""),
        ("port", "443"),
        ("sidecar-image", ""),
    ];
    let flags = Flags::parse(args, &known, false)?;
    log::end_on_signal();
    let config = tls::server(
        flags.get("tls-cert-file").as_ref(),
        flags.get("tls-private-key-file").as_ref(),
        false,
    )?;
    let listener = http1::listen(flags.port("port")?)?;
    let sidecar = flags.get("sidecar-image").to_string();
    log::line("serving webhooks");
    http1::serve(
        listener,
        Some(config),
        Arc::new(move |request| answer(request, &sidecar)),
    );
    Ok(0)
}

fn answer(request: &Request, sidecar: &str) -> Reply {
    if request.path == "/readyz" {
        return Reply::ok("ok");
    }
    let Some(judge) = judge(&request.path) else {
        return Reply::error(404, "404 page not found");
    };
    if request.header("Content-Type") != Some("application/json") {
        log::line(&format!(
            "contentType={:?}, expect application/json",
            request.header("Content-Type")
        ));
        return Reply::ok("");
    }
    let review: Value = match serde_json::from_slice(&request.body) {
        Ok(review) => review,
        Err(e) => return Reply::error(400, &format!("Request could not be decoded: {e}")),
    };
    let version = review["apiVersion"].as_str().unwrap_or_default();
    let known = matches!(version, "admission.k8s.io/v1" | "admission.k8s.io/v1beta1");
    if !known || review["kind"] != "AdmissionReview" {
        return Reply::error(
            400,
            &format!(
                "Unsupported group version kind: {version} {}",
                review["kind"]
            ),
        );
    }
    let asked = &review["request"];
    let verdict =
        judge(asked, sidecar).unwrap_or_else(|e| deny_with(json!({"message": format!("{e:#}")})));
    let mut response = Map::new();
    response.insert("uid".into(), asked["uid"].clone());
    response.insert("allowed".into(), json!(!verdict.denied));
    if let Some(status) = verdict.status {
        response.insert("status".into(), status);
    }
    if let Some(patch) = verdict.patch {
        let text = base64::engine::general_purpose::STANDARD.encode(patch.to_string());
        response.insert("patch".into(), json!(text));
        response.insert("patchType".into(), json!("JSONPatch"));
    }
    log::line(&format!(
        "{} {}: allowed {}",
        request.path, asked["uid"], !verdict.denied
    ));
    Reply::json(&json!({"apiVersion": version, "kind": "AdmissionReview", "response": response}))
}

type Judge = fn(&Value, &str) -> Result<Verdict>;

fn judge(path: &str) -> Option<Judge> {
    Some(match path {
        "/always-allow-delay-5s" => |_, _| {
            std::thread::sleep(std::time::Duration::from_secs(5));
            Ok(Verdict::default())
        },
        "/always-deny" => |_, _| {
            Ok(deny_with(
                json!({"message": "this webhook denies all requests"}),
            ))
        },
        "/add-label" => |asked, _| Ok(patch(add_label(object(asked)?))),
        "/pods" => |asked, _| pods(asked),
        "/pods/attach" => |asked, _| attach(asked),
        "/mutating-pods" => |asked, _| mutating_pods(asked),
        "/mutating-pods-sidecar" => sidecar,
        "/configmaps" => |asked, _| {
            data(
                asked,
                "the configmap contains unwanted key and value",
                "the configmap cannot be deleted because it contains unwanted key and value",
            )
        },
        "/mutating-configmaps" | "/mutating-custom-resource" => |asked, _| mutating_data(asked),
        "/custom-resource" => |asked, _| {
            data(
                asked,
                "the custom resource contains unwanted data",
                "the custom resource cannot be deleted because it contains unwanted key and value",
            )
        },
        "/crd" => |asked, _| crd(asked),
        _ => return None,
    })
}

fn deny_with(status: Value) -> Verdict {
    Verdict {
        denied: true,
        status: Some(status),
        patch: None,
    }
}

fn patch(patch: Option<Value>) -> Verdict {
    Verdict {
        patch,
        ..Verdict::default()
    }
}

fn object(asked: &Value) -> Result<&Value> {
    Some(&asked["object"])
        .filter(|o| o.is_object())
        .ok_or_else(|| anyhow!("there is no object in the request"))
}

/// Objects that must be pods.
fn want_pods(asked: &Value) -> Result<()> {
    let resource = &asked["resource"];
    let right = resource["group"].as_str().unwrap_or_default().is_empty()
        && resource["version"] == "v1"
        && resource["resource"] == "pods";
    if right {
        Ok(())
    } else {
        Err(anyhow!("expect resource to be pods, got {resource}"))
    }
}

fn add_label(object: &Value) -> Option<Value> {
    let labels = object["metadata"]["labels"]
        .as_object()
        .filter(|l| !l.is_empty());
    let Some(labels) = labels else {
        return Some(
            json!([{"op": "add", "path": "/metadata/labels", "value": {"added-label": "yes"}}]),
        );
    };
    match labels.get("added-label").and_then(Value::as_str) {
        None => {
            Some(json!([{"op": "add", "path": "/metadata/labels/added-label", "value": "yes"}]))
        }
        Some("yes") => None,
        Some(_) => {
            Some(json!([{"op": "replace", "path": "/metadata/labels/added-label", "value": "yes"}]))
        }
    }
}

fn pods(asked: &Value) -> Result<Verdict> {
    want_pods(asked)?;
    let pod = object(asked)?;
    let mut text = String::new();
    match pod["metadata"]["labels"]["webhook-e2e-test"].as_str() {
        Some("webhook-disallow") => text.push_str("the pod contains unwanted label; "),
        // The test wants the caller's deadline to pass.
        Some("wait-forever") => log::forever(),
        _ => {}
    }
    for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
        if container["name"]
            .as_str()
            .is_some_and(|n| n.contains("webhook-disallow"))
        {
            text.push_str("the pod contains unwanted container name; ");
        }
    }
    if text.is_empty() {
        return Ok(Verdict::default());
    }
    Ok(deny_with(json!({"message": text.trim()})))
}

fn attach(asked: &Value) -> Result<Verdict> {
    if asked["name"] != "to-be-attached-pod" {
        return Ok(Verdict::default());
    }
    want_pods(asked)?;
    if asked["subResource"] != "attach" {
        return Err(anyhow!(
            "expect subResource to be attach, got {}",
            asked["subResource"]
        ));
    }
    let options = object(asked)?;
    if options["stdin"] != true || options["container"] != "container1" {
        return Ok(Verdict::default());
    }
    Ok(deny_with(
        json!({"message": "attaching to pod 'to-be-attached-pod' is not allowed"}),
    ))
}

fn has(list: &Value, name: &str) -> bool {
    list.as_array()
        .into_iter()
        .flatten()
        .any(|c| c["name"] == name)
}

fn mutating_pods(asked: &Value) -> Result<Verdict> {
    want_pods(asked)?;
    let pod = object(asked)?;
    let name = "webhook-added-init-container";
    if pod["metadata"]["name"] != "webhook-to-be-mutated"
        || has(&pod["spec"]["initContainers"], name)
    {
        return Ok(Verdict::default());
    }
    let container = json!({"image": "webhook-added-image", "name": name, "resources": {}});
    Ok(patch(Some(
        json!([{"op": "add", "path": "/spec/initContainers", "value": [container]}]),
    )))
}

fn sidecar(asked: &Value, image: &str) -> Result<Verdict> {
    if image.is_empty() {
        let message = "No image specified by the sidecar-image parameter";
        return Ok(deny_with(
            json!({"status": "Failure", "message": message, "code": 500}),
        ));
    }
    want_pods(asked)?;
    let name = "webhook-added-sidecar";
    if has(&object(asked)?["spec"]["containers"], name) {
        return Ok(Verdict::default());
    }
    let container = json!({"image": image, "name": name, "resources": {}});
    Ok(patch(Some(
        json!([{"op": "add", "path": "/spec/containers/-", "value": container}]),
    )))
}

fn data(asked: &Value, unwanted: &str, undeletable: &str) -> Result<Verdict> {
    let (object, value, reason) = match asked["operation"].as_str() {
        Some("CREATE" | "UPDATE") => (&asked["object"], "webhook-disallow", unwanted),
        Some("DELETE") => (&asked["oldObject"], "webhook-nondeletable", undeletable),
        _ => return Ok(Verdict::default()),
    };
    if object["data"]["webhook-e2e-test"] == value {
        return Ok(deny_with(json!({ "reason": reason })));
    }
    Ok(Verdict::default())
}

fn mutating_data(asked: &Value) -> Result<Verdict> {
    let data = &object(asked)?["data"];
    let add =
        |stage: &str| json!([{"op": "add", "path": format!("/data/{stage}"), "value": "yes"}]);
    let mut out = None;
    if data["mutation-start"] == "yes" {
        out = Some(add("mutation-stage-1"));
    }
    if data["mutation-stage-1"] == "yes" {
        out = Some(add("mutation-stage-2"));
    }
    Ok(patch(out))
}

fn crd(asked: &Value) -> Result<Verdict> {
    let resource = &asked["resource"];
    if resource["group"] != "apiextensions.k8s.io"
        || resource["resource"] != "customresourcedefinitions"
    {
        return Err(anyhow!(
            "expect resource to be one of the CRDs, got {resource}"
        ));
    }
    if object(asked)?["metadata"]["labels"]["webhook-e2e-test"] == "webhook-disallow" {
        return Ok(deny_with(
            json!({"message": "the crd contains unwanted label"}),
        ));
    }
    Ok(Verdict::default())
}

#[cfg(test)]
mod tests {
    use super::answer;
    use crate::http1::Request;
    use base64::Engine as _;
    use serde_json::{Value, json};

    fn ask(path: &str, request: Value) -> Value {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        let reply = answer(
            &Request {
                path: path.into(),
                headers: vec![("Content-Type".into(), "application/json".into())],
                body: review.to_string().into_bytes(),
                ..Request::default()
            },
            "",
        );
        serde_json::from_slice::<Value>(&reply.body).unwrap()["response"].clone()
    }

    fn patch(response: &Value) -> Value {
        let text = base64::engine::general_purpose::STANDARD
            .decode(response["patch"].as_str().unwrap())
            .unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn objects_are_judged() {
        let pods = json!({"group": "", "version": "v1", "resource": "pods"});
        let bad = json!({"uid": "u", "resource": pods, "object": {
            "metadata": {"labels": {"webhook-e2e-test": "webhook-disallow"}},
            "spec": {"containers": [{"name": "webhook-disallow"}]}}});
        let response = ask("/pods", bad);
        assert_eq!(response["uid"], "u");
        assert_eq!(
            response["status"]["message"],
            "the pod contains unwanted label; the pod contains unwanted container name;"
        );
        let wrong = ask(
            "/pods",
            json!({"uid": "u", "resource": {"resource": "nodes"}, "object": {}}),
        );
        assert_eq!(wrong["allowed"], false);
        let gone = json!({"operation": "DELETE", "oldObject": {"data": {"webhook-e2e-test": "webhook-nondeletable"}}});
        assert!(
            ask("/configmaps", gone)["status"]["reason"]
                .as_str()
                .unwrap()
                .contains("cannot be deleted")
        );
    }

    #[test]
    fn objects_are_changed() {
        let second =
            json!({"object": {"data": {"mutation-start": "yes", "mutation-stage-1": "yes"}}});
        assert_eq!(
            patch(&ask("/mutating-configmaps", second))[0]["path"],
            "/data/mutation-stage-2"
        );
        let labelled = json!({"object": {"metadata": {"labels": {"added-label": "yes"}}}});
        assert!(ask("/add-label", labelled)["patch"].is_null());
        let bare = json!({"object": {"metadata": {}}});
        assert_eq!(
            patch(&ask("/add-label", bare))[0]["value"]["added-label"],
            "yes"
        );
    }
}
