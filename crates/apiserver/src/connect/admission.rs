//! Admission of connect requests: plugins see the options that the query stands for.
//! Upstream: apiserver handlers/rest.go ConnectResource.

use machinery::request::{Attempt, Operation};
use machinery::{ApiError, Descriptor};
use serde_json::{Value, json};

use super::ConnectRequest;
use super::options::{PodExecOptions, QueryText};
use crate::admit;
use crate::query::Query;
use crate::server::Inner;

/// Admits a request; what plugins changed of its options is changed in it. Gives the warnings for the client.
pub async fn admit(
    server: &Inner,
    d: &Descriptor,
    r: &mut ConnectRequest,
) -> Result<Vec<String>, (ApiError, Vec<String>)> {
    // Logs are read, not connected to.
    if r.subresource == "log" {
        return Ok(Vec::new());
    }
    let kind = d.kind_of(&r.subresource).kind;
    let asked = options(&kind, r);
    let user = r.user.clone();
    let (namespace, name, sub) = (r.namespace.clone(), r.name.clone(), r.subresource.clone());
    let mut attempt = Attempt {
        subresource: &sub,
        namespace: &namespace,
        name: &name,
        object: Some(asked.clone()),
        versions: server,
        ..Attempt::new(Operation::Connect, d, &user)
    };
    let done = async {
        admit::mutate(server, &mut attempt).await?;
        admit::validate(server, &attempt).await
    };
    let done = done.await;
    let warnings = attempt.warnings.take();
    let after = attempt.object.unwrap_or_default();
    let done = done.and_then(|()| {
        if after == asked {
            Ok(())
        } else {
            change(&kind, &after, r)
        }
    });
    match done {
        Ok(()) => Ok(warnings),
        Err(e) => Err((e, warnings)),
    }
}

/// The options object of a request, as upstream decodes it from the query.
fn options(kind: &str, r: &ConnectRequest) -> Value {
    let mut out = json!({"kind": kind, "apiVersion": "v1"});
    match kind {
        "PodExecOptions" | "PodAttachOptions" => {
            let o = PodExecOptions::parse(&r.query);
            for (name, on) in [
                ("stdin", o.stdin),
                ("stdout", o.stdout),
                ("stderr", o.stderr),
                ("tty", o.tty),
            ] {
                if on {
                    out[name] = json!(true);
                }
            }
            if !o.container.is_empty() {
                out["container"] = json!(o.container);
            }
            if kind == "PodExecOptions" {
                out["command"] = json!(o.command);
            }
        }
        "PodPortForwardOptions" => {
            let ports: Vec<i32> = r
                .query
                .all("ports")
                .filter_map(|p| p.parse().ok())
                .collect();
            if !ports.is_empty() {
                out["ports"] = json!(ports);
            }
        }
        _ => {
            let mut path = match r.rest.as_str() {
                "" => String::new(),
                rest => format!("/{rest}"),
            };
            if r.path.ends_with('/') && !path.ends_with('/') {
                path.push('/');
            }
            if !path.is_empty() {
                out["path"] = json!(path);
            }
        }
    }
    out
}

/// Puts changed options into a request.
fn change(kind: &str, options: &Value, r: &mut ConnectRequest) -> Result<(), ApiError> {
    let mut text = QueryText::default();
    match kind {
        "PodExecOptions" | "PodAttachOptions" => {
            for name in ["stdin", "stdout", "stderr", "tty"] {
                let on = options[name] == true;
                text.pair(name, if on { "true" } else { "false" });
            }
            if let Some(container) = options["container"].as_str() {
                text.pair("container", container);
            }
            let command = options["command"].as_array().into_iter().flatten();
            for word in command.filter_map(Value::as_str) {
                text.pair("command", word);
            }
        }
        "PodPortForwardOptions" => {
            for port in options["ports"].as_array().into_iter().flatten() {
                text.pair("ports", &port.to_string());
            }
        }
        other => {
            return Err(ApiError::internal(format!(
                "admission changed the {other} of a request, which this server does not support"
            )));
        }
    }
    r.query = Query::parse(&text.0);
    r.raw_query = text.0;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use machinery::request::User;

    fn request(query: &str, path: &str, rest: &str) -> ConnectRequest {
        ConnectRequest {
            user: User::default(),
            namespace: "n".into(),
            name: "p".into(),
            subresource: "x".into(),
            rest: rest.into(),
            path: path.into(),
            method: http::Method::GET,
            query: Query::parse(query),
            raw_query: query.into(),
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::new(),
            upgrade: None,
        }
    }

    #[test]
    fn options_go_from_the_query_and_back() {
        let mut r = request("command=ls&command=-l&stdin=1&stdout=0", "/x", "");
        let mut o = options("PodExecOptions", &r);
        let expected = json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdin": true,
            "stderr": true, "command": ["ls", "-l"]});
        assert_eq!(o, expected);
        o["container"] = json!("c");
        assert!(change("PodExecOptions", &o, &mut r).is_ok());
        assert_eq!(options("PodExecOptions", &r), o);
        let r = request("", "/p/proxy/a/", "a");
        assert_eq!(options("PodProxyOptions", &r)["path"], "/a/");
        let mut r = request("ports=80&ports=81", "/x", "");
        let o = options("PodPortForwardOptions", &r);
        assert_eq!(o["ports"], json!([80, 81]));
        assert!(change("NodeProxyOptions", &o, &mut r).is_err());
    }
}
