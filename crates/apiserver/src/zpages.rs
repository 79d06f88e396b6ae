//! `/statusz` and `/flagz`: what the process is and how it was started, as text for people or as an object of
//! `config.k8s.io`. Upstream: apiserver/pkg/server/{statusz,flagz}, beta and on since 1.36.

use std::fmt::Write;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};
use machinery::ApiError;
use serde_json::{Value, json};

use crate::response::{self, Answer, PLAIN};
use crate::server::Inner;

const COMPONENT: &str = "apiserver";
/// Trees of paths that are no help to whoever looks for what is wrong.
const NOT_LISTED: [&str; 5] = ["/apis", "/api", "/openid", "/openapi", "/.well-known"];
const ACCEPTED: &str =
    "only the following media types are accepted: application/json, application/yaml, text/plain";

/// What a client takes.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Text,
    /// An object of this version, and whether as YAML.
    Object(&'static str, bool),
}

/// The first that is there of what a client accepts.
fn wanted(headers: &HeaderMap, kind: &str) -> Option<Wanted> {
    let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok());
    let accept = accept.unwrap_or_default().trim();
    if accept.is_empty() {
        return Some(Wanted::Text);
    }
    accept.split(',').find_map(|clause| {
        let mut parts = clause.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let of = |name: &str, parts: &[&str]| {
            let found = parts
                .iter()
                .find_map(|p| p.strip_prefix(name)?.strip_prefix('='));
            found.map(str::to_string)
        };
        let parts: Vec<&str> = parts.collect();
        let shape = (of("as", &parts), of("g", &parts), of("v", &parts));
        let version = match &shape {
            (None, None, None) => None,
            (Some(k), Some(g), Some(v)) if k == kind && g == "config.k8s.io" => {
                Some(["v1beta1", "v1alpha1"].into_iter().find(|x| x == v)?)
            }
            _ => return None,
        };
        match (media, version) {
            ("text/plain" | "text/*" | "*/*", None) => Some(Wanted::Text),
            ("application/json" | "application/*" | "*/*", Some(v)) => {
                Some(Wanted::Object(v, false))
            }
            ("application/yaml", Some(v)) => Some(Wanted::Object(v, true)),
            _ => None,
        }
    })
}

/// Answers `/statusz`.
pub fn status(server: &Inner, headers: &HeaderMap) -> Answer {
    let started = linux::host::usage().map_or(0.0, |u| u.started);
    let started =
        jiff::Timestamp::from_second(started as i64).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let up = (jiff::Timestamp::now().as_second() - started.as_second()).max(0);
    let paths = debugging(crate::paths::all(server));
    let facts = json!({
        "startTime": started.to_string(), "uptimeSeconds": up, "goVersion": "",
        "binaryVersion": "1.37", "emulationVersion": "1.37", "paths": paths,
    });
    let text = || {
        format!(
            "\nStarted: {}\nUp: {}\nGo version: \nBinary version: 1.37\nEmulation version: 1.37\nPaths: {}\n",
            started.strftime("%a %b %e %H:%M:%S UTC %Y"),
            elapsed(up),
            paths.join(" ")
        )
    };
    answer(headers, "Statusz", &facts, text)
}

/// Answers `/flagz`.
pub fn flags(server: &Inner, headers: &HeaderMap) -> Answer {
    let flags = server.plugins.get().map(|p| p.flags.clone());
    let flags = flags.unwrap_or_default();
    let text = || {
        let mut out = String::new();
        for (name, value) in &flags {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{name}={value}");
        }
        out
    };
    answer(headers, "Flagz", &json!({"flags": flags}), text)
}

fn answer(headers: &HeaderMap, kind: &str, facts: &Value, text: impl FnOnce() -> String) -> Answer {
    let Some(wanted) = wanted(headers, kind) else {
        return response::error(&ApiError::new(406, "NotAcceptable", ACCEPTED), &PLAIN);
    };
    let (version, yaml) = match wanted {
        Wanted::Object(version, yaml) => (version, yaml),
        Wanted::Text => {
            let page = kind.to_lowercase();
            let warning = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.";
            let said = format!("\n{COMPONENT} {page}\n{warning}\n{}", text());
            return response::bytes(200, "text/plain; charset=utf-8", said);
        }
    };
    let mut object = json!({
        "kind": kind, "apiVersion": format!("config.k8s.io/{version}"),
        "metadata": {"name": COMPONENT},
    });
    if let (Some(object), Some(facts)) = (object.as_object_mut(), facts.as_object()) {
        object.extend(facts.clone());
    }
    let mut answer = match yaml {
        false => response::json(200, &object),
        true => match serde_saphyr::to_string(&object) {
            Ok(text) => response::bytes(200, "application/yaml", text),
            Err(e) => response::error(&ApiError::internal(e), &PLAIN),
        },
    };
    if version == "v1alpha1" {
        let warning = match kind {
            "Flagz" => {
                "299 - \"This version of the flagz endpoint is deprecated. Please use a newer version.\""
            }
            _ => {
                "299 - \"This version of the statusz endpoint is deprecated. Please use a newer version.\""
            }
        };
        let headers = answer.headers_mut();
        headers.insert("warning", HeaderValue::from_static(warning));
    }
    answer
}

/// Paths for whoever looks for what is wrong: the first part of each, once.
fn debugging(all: Vec<String>) -> Vec<String> {
    let first = |path: String| {
        let part = path.trim_start_matches('/').split('/').next();
        format!("/{}", part.unwrap_or_default())
    };
    let mut out: Vec<String> = all.into_iter().map(first).collect();
    out.sort_unstable();
    out.dedup();
    out.retain(|p| p != "/" && !NOT_LISTED.contains(&p.as_str()));
    out
}

fn elapsed(seconds: i64) -> String {
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    format!("{hours} hr {minutes:02} min {:02} sec", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_for_everybody_and_objects_for_who_asks_for_them() {
        for (accept, expected) in [
            ("", Some(Wanted::Text)),
            ("application/json, */*", Some(Wanted::Text)),
            ("text/plain", Some(Wanted::Text)),
            ("application/json", None),
            (
                "application/json;as=Statusz;g=config.k8s.io;v=v1beta1",
                Some(Wanted::Object("v1beta1", false)),
            ),
            (
                "application/yaml;v=v1alpha1;g=config.k8s.io;as=Statusz",
                Some(Wanted::Object("v1alpha1", true)),
            ),
            ("application/json;as=Statusz;g=config.k8s.io;v=v1", None),
            ("application/json;as=Flagz;g=config.k8s.io;v=v1beta1", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(wanted(&headers, "Statusz"), expected, "{accept}");
        }
    }

    #[test]
    fn paths_are_shown_by_their_first_part() {
        let all = ["/apis/apps", "/livez/ping", "/livez", "/metrics/slis", "/"];
        let shown = debugging(all.map(str::to_string).to_vec());
        assert_eq!(shown, ["/livez", "/metrics"]);
    }
}
