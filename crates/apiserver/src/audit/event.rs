//! Audit events as JSON. Upstream: pkg/apis/audit/v1 Event, fields in its order.

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::HeaderMap;
use jiff::Timestamp;
use machinery::request::User;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::policy::{Level, Stage};
use crate::request_info::RequestInfo;

/// Bytes of a user agent that are kept.
const AGENT_BYTES: usize = 1_024;

/// How an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A line of JSON.
    Json,
    /// A line of words, upstream's `legacy`.
    Legacy,
    /// JSON as it stands in a list.
    Item,
}

/// What a line of JSON says besides, that an item of a list does not.
const HEAD: &[u8] = br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1""#;

/// All that is known of a request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    #[serde(serialize_with = "named")]
    pub level: Level,
    #[serde(rename = "auditID")]
    pub id: String,
    #[serde(serialize_with = "named")]
    pub stage: Stage,
    #[serde(rename = "requestURI")]
    pub uri: String,
    pub verb: String,
    pub user: Who,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impersonated_user: Option<Who>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication_metadata: Option<Metadata>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<ObjectRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_object: Option<Value>,
    #[serde(serialize_with = "micros")]
    pub request_received_timestamp: Timestamp,
    #[serde(serialize_with = "micros")]
    pub stage_timestamp: Timestamp,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// How the request was authenticated.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The verb by which its sender may act as another, where that was constrained.
    pub impersonation_constraint: &'static str,
}

/// A user.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Who {
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<String, Vec<String>>,
}

/// The object a request is about.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

fn named<T: std::fmt::Debug, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&format_args!("{value:?}"))
}

fn micros<S: Serializer>(value: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&format_args!("{value:.6}"))
}

impl Who {
    /// As events show a user.
    pub fn of(user: &User) -> Self {
        Self {
            username: user.name.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
        }
    }
}

impl Event {
    /// What a request says of itself.
    pub fn of(level: Level, info: &RequestInfo, user: Option<&User>) -> Self {
        let object = || ObjectRef {
            resource: info.resource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            api_group: info.group.clone(),
            api_version: info.version.clone(),
            subresource: info.subresource.clone(),
            ..ObjectRef::default()
        };
        let now = Timestamp::now();
        Self {
            level,
            id: String::new(),
            stage: Stage::RequestReceived,
            uri: String::new(),
            verb: info.verb.clone(),
            user: user.map(Who::of).unwrap_or_default(),
            impersonated_user: None,
            authentication_metadata: None,
            sources: Vec::new(),
            user_agent: String::new(),
            object_ref: info.is_resource.then(object),
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: now,
            stage_timestamp: now,
            annotations: BTreeMap::new(),
        }
    }

    /// Takes over what the request's headers say.
    pub fn headers(&mut self, headers: &HeaderMap, remote: Option<IpAddr>) {
        let text = |name: &str| {
            headers
                .get(name)
                .and_then(|v| v.to_str().ok())
                .unwrap_or("")
        };
        self.id = text("audit-id").to_string();
        self.user_agent = agent(text("user-agent"));
        self.sources = sources(text("x-forwarded-for"), text("x-real-ip"), remote);
    }

    /// The event as a backend takes it.
    pub fn encoded(&self, form: Form) -> Vec<u8> {
        let mut out = Vec::with_capacity(1_024);
        // Maps have text keys and writing to memory cannot fail.
        match form {
            Form::Item => {
                let _ = serde_json::to_writer(&mut out, self);
                return out;
            }
            Form::Json => {
                out.extend_from_slice(HEAD);
                let _ = serde_json::to_writer(&mut out, self);
                // Two objects become one.
                out[HEAD.len()] = b',';
            }
            Form::Legacy => out.extend(self.words().into_bytes()),
        }
        out.push(b'\n');
        out
    }

    /// Upstream: audit.EventString.
    fn words(&self) -> String {
        use machinery::causes::go_quote as q;
        let list = |all: &[String]| {
            let quoted: Vec<String> = all.iter().map(|g| q(g)).collect();
            quoted.join(",")
        };
        let or = |text: &str, none: &str| match text {
            "" => none.to_string(),
            text => text.to_string(),
        };
        let user = or(&self.user.username, "<none>");
        let groups = match self.user.username.is_empty() || self.user.groups.is_empty() {
            true => "<none>".to_string(),
            false => list(&self.user.groups),
        };
        let (acts_as, as_groups) = match &self.impersonated_user {
            None => ("<self>".to_string(), "<lookup>".to_string()),
            Some(other) if other.groups.is_empty() => (other.username.clone(), "<lookup>".into()),
            Some(other) => (other.username.clone(), list(&other.groups)),
        };
        let namespace = self.object_ref.as_ref().map_or("", |o| &o.namespace);
        let code = self.response_status.as_ref();
        let code = code.map(|s| s["code"].as_u64().unwrap_or(0).to_string());
        format!(
            "{} AUDIT: id={} stage={} ip={} method={} user={} groups={} as={} asgroups={} user-agent={} namespace={} uri={} response=\"{}\"",
            self.request_received_timestamp,
            q(&self.id),
            q(&format!("{:?}", self.stage)),
            q(self.sources.first().map_or("<unknown>", String::as_str)),
            q(&self.verb),
            q(&user),
            q(&groups),
            q(&acts_as),
            q(&as_groups),
            q(&self.user_agent),
            q(&or(namespace, "<none>")),
            q(&self.uri),
            code.unwrap_or_else(|| "<deferred>".into())
        )
    }

    /// The event without the objects of request and answer.
    pub fn truncated(&self) -> Self {
        let mut out = Self {
            request_object: None,
            response_object: None,
            ..self.clone()
        };
        let (key, value) = ("audit.k8s.io/truncated", "true");
        out.annotations.insert(key.into(), value.into());
        out
    }
}

fn agent(text: &str) -> String {
    if text.len() <= AGENT_BYTES {
        return text.to_string();
    }
    let end = (0..=AGENT_BYTES).rev().find(|i| text.is_char_boundary(*i));
    format!("{}...TRUNCATED", &text[..end.unwrap_or(0)])
}

/// Whom a request came through, farthest first.
fn sources(forwarded: &str, real: &str, remote: Option<IpAddr>) -> Vec<String> {
    let parse = |t: &str| t.trim().parse::<IpAddr>().ok();
    let mut all: Vec<IpAddr> = forwarded.split(',').filter_map(parse).collect();
    if let Some(real) = parse(real)
        && !all.contains(&real)
    {
        all.push(real);
    }
    if let Some(remote) = remote
        && all.last() != Some(&remote)
    {
        all.push(remote);
    }
    all.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_look_like_upstreams() {
        let info = RequestInfo {
            is_resource: true,
            verb: "get".into(),
            version: "v1".into(),
            namespace: "n".into(),
            resource: "pods".into(),
            name: "p".into(),
            ..RequestInfo::default()
        };
        let user = User::new("u", &["g"]);
        let mut event = Event::of(Level::Metadata, &info, Some(&user));
        let mut headers = HeaderMap::new();
        headers.insert("audit-id", "i".parse().unwrap());
        headers.insert("user-agent", "a".repeat(2_000).parse().unwrap());
        headers.insert("x-forwarded-for", "10.0.0.1, x".parse().unwrap());
        event.headers(&headers, "10.0.0.2".parse().ok());
        event.stage = Stage::ResponseComplete;
        event.request_received_timestamp = "2026-11-26T03:04:05Z".parse().unwrap();
        let line = String::from_utf8(event.encoded(Form::Json)).unwrap();
        for part in [
            r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"i","stage":"ResponseComplete","#,
            r#""user":{"username":"u","groups":["g"]},"sourceIPs":["10.0.0.1","10.0.0.2"],"#,
            r#""objectRef":{"resource":"pods","namespace":"n","name":"p","apiVersion":"v1"},"#,
            r#""requestReceivedTimestamp":"2026-11-26T03:04:05.000000Z","#,
            "aaa...TRUNCATED\"",
        ] {
            assert!(line.contains(part), "{part} not in {line}");
        }
        let item = String::from_utf8(event.encoded(Form::Item)).unwrap();
        assert!(
            item.starts_with(r#"{"level":"Metadata","auditID":"i","#),
            "{item}"
        );
        event.user_agent = "kubectl".into();
        let words = String::from_utf8(event.encoded(Form::Legacy)).unwrap();
        assert_eq!(
            words,
            "2026-11-26T03:04:05Z AUDIT: id=\"i\" stage=\"ResponseComplete\" ip=\"10.0.0.1\" method=\"get\" user=\"u\" groups=\"\\\"g\\\"\" as=\"<self>\" asgroups=\"<lookup>\" user-agent=\"kubectl\" namespace=\"n\" uri=\"\" response=\"<deferred>\"\n"
        );
    }
}
