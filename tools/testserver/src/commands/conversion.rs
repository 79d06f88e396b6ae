//! `crd-conversion-webhook`: `stable.example.com` between v1 (hostPort) and v2 (host, port).

use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};

use crate::flags::Flags;
use crate::http1::{self, Reply, Request};
use crate::{log, tls};

pub fn run(args: &[String]) -> Result<u8> {
    let known = [
        ("tls-cert-file", ""),
        ("tls-private-key-file", ""),
        ("port", "443"),
    ];
    let flags = Flags::parse(args, &known, false)?;
    log::end_on_signal();
    let config = tls::server(
        flags.get("tls-cert-file").as_ref(),
        flags.get("tls-private-key-file").as_ref(),
        false,
    )?;
    http1::serve(
        http1::listen(flags.port("port")?)?,
        Some(config),
        Arc::new(answer),
    );
    Ok(0)
}

fn answer(request: &Request) -> Reply {
    match request.path.as_str() {
        "/readyz" => return Reply::ok("ok"),
        "/crdconvert" => {}
        _ => return Reply::error(404, "404 page not found"),
    }
    let kind = request.header("Content-Type").unwrap_or_default();
    if kind != "application/json" {
        return Reply::error(400, &format!("unsupported content type: {kind}"));
    }
    let mut review: Value = match serde_json::from_slice(&request.body) {
        Ok(review) => review,
        Err(e) => return Reply::error(400, &format!("failed to deserialize body: {e}")),
    };
    let asked = review["request"].take();
    let wanted = asked["desiredAPIVersion"].as_str().unwrap_or_default();
    let mut converted = Vec::new();
    let mut failure = None;
    for object in asked["objects"].as_array().into_iter().flatten() {
        match convert(object.clone(), wanted) {
            Ok(object) => converted.push(object),
            Err(message) => {
                failure = Some(message);
                break;
            }
        }
    }
    let response = match failure {
        None => {
            json!({"uid": asked["uid"], "convertedObjects": converted, "result": {"status": "Success"}})
        }
        Some(message) => {
            log::line(&message);
            json!({"uid": asked["uid"], "result": {"status": "Failure", "message": message}})
        }
    };
    let version = review["apiVersion"].clone();
    Reply::json(&json!({"apiVersion": version, "kind": "ConversionReview", "response": response}))
}

fn convert(mut object: Value, wanted: &str) -> Result<Value, String> {
    let from = object["apiVersion"]
        .as_str()
        .unwrap_or_default()
        .to_string();
    if from == wanted {
        return Err(format!(
            "conversion from a version to itself should not call the webhook: {wanted}"
        ));
    }
    let Some(fields) = object.as_object_mut() else {
        return Err("not an object".to_string());
    };
    match (from.as_str(), wanted) {
        ("stable.example.com/v1", "stable.example.com/v2") => {
            if let Some(value) = fields.remove("hostPort") {
                let text = value.as_str().unwrap_or_default();
                let parts: Vec<&str> = text.split(':').collect();
                let [host, port] = parts[..] else {
                    return Err(format!("invalid hostPort value `{text}`"));
                };
                fields.insert("host".into(), json!(host));
                fields.insert("port".into(), json!(port));
            }
        }
        ("stable.example.com/v2", "stable.example.com/v1") => {
            let (host, port) = (fields.remove("host"), fields.remove("port"));
            if host.is_some() || port.is_some() {
                let text = |v: Option<Value>| {
                    v.and_then(|v| v.as_str().map(str::to_string))
                        .unwrap_or_default()
                };
                fields.insert(
                    "hostPort".into(),
                    json!(format!("{}:{}", text(host), text(port))),
                );
            }
        }
        _ => return Err(format!("unexpected conversion version {wanted:?}")),
    }
    fields.insert("apiVersion".into(), json!(wanted));
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::convert;
    use serde_json::json;

    #[test]
    fn hosts_and_ports_are_split_and_joined() {
        let (v1, v2) = ("stable.example.com/v1", "stable.example.com/v2");
        let old = json!({"apiVersion": v1, "hostPort": "h:1"});
        let new = json!({"apiVersion": v2, "host": "h", "port": "1"});
        assert_eq!(convert(old.clone(), v2).unwrap(), new);
        assert_eq!(convert(new, v1).unwrap(), old);
        assert!(
            convert(json!({"apiVersion": v1, "hostPort": "h"}), v2)
                .unwrap_err()
                .contains("invalid hostPort")
        );
        assert!(convert(old, v1).is_err());
    }
}
