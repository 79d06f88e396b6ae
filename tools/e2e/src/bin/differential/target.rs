//! A server under comparison, and what a sequence remembers of its answers.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use http::Request;
use http_body_util::BodyStream;
use kube::client::Body;
use serde_json::{Value, json};

use crate::normal::Normal;
use crate::step::Ask;

/// Headers that clients act upon.
const HEADERS: &[&str] = &[
    "allow",
    "cache-control",
    "content-encoding",
    "content-type",
    "location",
    "retry-after",
    "vary",
    "x-content-type-options",
];
/// A watch without an event for so long is quiet.
const QUIET: Duration = Duration::from_millis(400);
/// Between two tries of what must come to fit.
const TRY: Duration = Duration::from_millis(20);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(15);
/// How long events are waited for that the other server has sent.
const PATIENCE: Duration = Duration::from_secs(8);

/// One server, as one sequence sees it.
pub struct Target {
    client: kube::Client,
    normal: Normal,
    objects: HashMap<String, Seen>,
    list: String,
    token: String,
    watching: Option<Frames>,
}

#[derive(Default)]
struct Seen {
    uid: String,
    first: String,
    last: String,
}

/// An answer, normal.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub code: u16,
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

/// The frames of a watch that goes on.
struct Frames {
    answer: Answer,
    chunks: Option<BodyStream<Body>>,
    left: Vec<u8>,
    protobuf: bool,
}

// === Target ===

impl Target {
    /// A sequence's view of a server.
    pub fn new(client: kube::Client) -> Self {
        Self {
            client,
            normal: Normal::default(),
            objects: HashMap::new(),
            list: String::new(),
            token: String::new(),
            watching: None,
        }
    }

    async fn open(&self, ask: &Ask) -> Result<http::Response<Body>> {
        let path = self.filled(&ask.path);
        let mut request = Request::builder().method(ask.method).uri(&path);
        let has_agent = ask.headers.iter().any(|(k, _)| k == "user-agent");
        if !has_agent {
            request = request.header("user-agent", "tester/1");
        }
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        let body = match std::str::from_utf8(&ask.body) {
            Ok(text) if text.contains('«') => self.filled(text).into_bytes(),
            _ => ask.body.clone(),
        };
        let request = request.body(Body::from(body)).context(path.clone())?;
        let sent = tokio::time::timeout(ANSWER, self.client.send(request)).await;
        sent.context("no answer")?
            .with_context(|| format!("{} {path}", ask.method))
    }

    /// Sends a request; the answer, normal. Where none comes its code is 0.
    pub async fn send(&mut self, ask: &Ask) -> Result<Answer> {
        let answer = match self.open(ask).await {
            Ok(answer) => answer,
            Err(error) => return Ok(Answer::none(&error)),
        };
        let (parts, body) = answer.into_parts();
        let mut out = head(&parts);
        out.body = match tokio::time::timeout(ANSWER, body.collect_bytes()).await {
            Ok(data) => self.body(&parts, &data?),
            Err(_) => json!("ENDLESS"),
        };
        Ok(out)
    }

    /// Sends a request until its answer fits.
    pub async fn until(&mut self, ask: &Ask, fits: fn(&Answer) -> bool) -> Result<()> {
        let end = tokio::time::Instant::now() + ANSWER;
        loop {
            // What comes between is not counted as seen.
            let known = self.normal.clone();
            let answer = self.send(ask).await?;
            if fits(&answer) {
                return Ok(());
            }
            self.normal = known;
            if tokio::time::Instant::now() > end {
                anyhow::bail!("{} never fits: {} {}", ask.line(), answer.code, answer.body);
            }
            tokio::time::sleep(TRY).await;
        }
    }

    /// Begins a watch.
    pub async fn begin(&mut self, ask: &Ask) -> Result<()> {
        let answer = match self.open(ask).await {
            Ok(answer) => answer,
            Err(error) => {
                self.watching = Some(Frames {
                    answer: Answer::none(&error),
                    chunks: None,
                    left: Vec::new(),
                    protobuf: false,
                });
                return Ok(());
            }
        };
        let (parts, body) = answer.into_parts();
        let mut out = head(&parts);
        let mut frames = Frames {
            protobuf: header(&parts, "content-type").contains("protobuf"),
            chunks: None,
            left: Vec::new(),
            answer: out.clone(),
        };
        if parts.status.is_success() {
            frames.chunks = Some(BodyStream::new(body));
        } else {
            let data = body.collect_bytes().await?;
            out.body = self.body(&parts, &data);
            frames.answer = out;
        }
        self.watching = Some(frames);
        Ok(())
    }

    /// Reads the frames of the watch that was begun: at least so many if they come, then until it is quiet.
    pub async fn end(&mut self, at_least: usize) -> Result<Answer> {
        let mut frames = self.watching.take().context("no watch was begun")?;
        if frames.chunks.is_none() {
            return Ok(frames.answer);
        }
        let mut all = Vec::new();
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let wait = if all.len() < at_least {
                end.saturating_duration_since(tokio::time::Instant::now())
            } else {
                QUIET
            };
            match tokio::time::timeout(wait, frames.next()).await {
                Ok(Some(frame)) if frame["type"] == "BOOKMARK" => {
                    let initial = "/object/metadata/annotations/k8s.io~1initial-events-end";
                    let row = "/object/rows/0/object/metadata/annotations";
                    // Others come when the server likes.
                    if frame.pointer(initial).or(frame.pointer(row)).is_some() {
                        all.push(self.bookmark(frame));
                    }
                }
                Ok(Some(frame)) => all.push(self.event(frame)),
                Ok(None) => {
                    all.push(json!("END"));
                    break;
                }
                Err(_) => break,
            }
        }
        frames.answer.body = json!(all);
        Ok(frames.answer)
    }

    fn event(&mut self, mut frame: Value) -> Value {
        self.remember(&frame["object"]);
        frame["object"] = self.normal.value(frame["object"].take());
        frame
    }

    fn bookmark(&mut self, mut frame: Value) -> Value {
        for at in ["/object/metadata", "/object/rows/0/object/metadata"] {
            if let Some(meta) = frame.pointer_mut(at).filter(|m| m.is_object()) {
                meta["resourceVersion"] = json!("LIST");
            }
        }
        frame["object"] = self.normal.value(frame["object"].take());
        frame
    }

    fn body(&mut self, parts: &http::response::Parts, data: &[u8]) -> Value {
        let content = header(parts, "content-type");
        if !header(parts, "content-encoding").is_empty() {
            return json!("PACKED");
        }
        if content.contains("protobuf") {
            return match api::protobuf::decode(data) {
                Ok(value) => self.json(value),
                Err(e) => json!(format!("no protobuf: {e}")),
            };
        }
        match serde_json::from_slice::<Value>(data) {
            Ok(value) if content.contains("json") => {
                let shape = json!({"pretty": data.contains(&b'\n') && data.windows(3).any(|w| w == b"\n  "),
                    "newline": data.ends_with(b"\n")});
                let mut out = self.json(value);
                if let Some(map) = out.as_object_mut() {
                    map.insert("~shape".into(), shape);
                }
                out
            }
            _ => json!(self.normal.text(&String::from_utf8_lossy(data))),
        }
    }

    fn json(&mut self, value: Value) -> Value {
        self.remember(&value);
        for item in value["items"].as_array().into_iter().flatten() {
            self.remember(item);
        }
        if value.get("items").is_some() || value["kind"] == "Table" {
            let text = |name: &str| value["metadata"][name].as_str().unwrap_or("").to_string();
            self.list = text("resourceVersion");
            self.token = text("continue");
        } else if value["kind"] == "Status" {
            let token = value["metadata"]["continue"].as_str();
            self.token = token.unwrap_or(&self.token).to_string();
        }
        self.normal.value(value)
    }

    fn remember(&mut self, object: &Value) {
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or("").to_string();
        let (name, version, uid) = (text("name"), text("resourceVersion"), text("uid"));
        if name.is_empty() || version.is_empty() || uid.is_empty() {
            return;
        }
        let seen = self.objects.entry(name).or_default();
        if seen.first.is_empty() {
            seen.first = version.clone();
        }
        seen.last = version;
        seen.uid = uid;
    }

    /// A text with its placeholders filled in.
    fn filled(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('«') {
            out.push_str(before);
            let (name, after) = after.split_once('»').unwrap_or((after, ""));
            let (what, of) = name.split_once(':').unwrap_or((name, ""));
            let seen = self.objects.get(of);
            out.push_str(match what {
                "list" => &self.list,
                "continue" => &self.token,
                "rv" => seen.map_or("1", |s| &s.last),
                "first" => seen.map_or("1", |s| &s.first),
                _ => seen.map_or("00000000-0000-0000-0000-000000000000", |s| &s.uid),
            });
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

// === Answer ===

impl Answer {
    fn none(error: &anyhow::Error) -> Self {
        Self {
            code: 0,
            headers: Vec::new(),
            body: json!(error.to_string()),
        }
    }
}

// === Frames ===

impl Frames {
    /// The next frame as JSON; nothing at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(frame) = self.taken() {
                return Some(frame);
            }
            let chunk = self.chunks.as_mut()?.next().await?.ok()?;
            if let Ok(data) = chunk.into_data() {
                self.left.extend_from_slice(&data);
            }
        }
    }

    fn taken(&mut self) -> Option<Value> {
        if self.protobuf {
            let length = self
                .left
                .first_chunk::<4>()
                .map(|b| u32::from_be_bytes(*b))?;
            let length = usize::try_from(length).ok()?;
            let data: Vec<u8> = self.left.get(4..4 + length)?.to_vec();
            self.left.drain(..4 + length);
            return Some(watch_event(&data));
        }
        let at = self.left.iter().position(|b| *b == b'\n')?;
        let line: Vec<u8> = self.left.drain(..=at).collect();
        serde_json::from_slice(&line)
            .ok()
            .or_else(|| Some(json!({"type": String::from_utf8_lossy(&line)})))
    }
}

/// A WatchEvent of protobuf: field 1 the type, field 2 a RawExtension whose field 1 is the object.
fn watch_event(data: &[u8]) -> Value {
    let part = |data: &[u8], field: u8| -> Option<Vec<u8>> {
        let mut rest = data;
        loop {
            let tag = *rest.first()?;
            rest = rest.get(1..)?;
            let (mut length, mut shift) = (0usize, 0);
            loop {
                let b = *rest.first()?;
                rest = rest.get(1..)?;
                length |= usize::from(b & 0x7f) << shift;
                shift += 7;
                if b < 0x80 {
                    break;
                }
            }
            let value = rest.get(..length)?;
            if tag == field << 3 | 2 {
                return Some(value.to_vec());
            }
            rest = rest.get(length..)?;
        }
    };
    let kind = part(data, 1).unwrap_or_default();
    let object = part(data, 2).and_then(|raw| part(&raw, 1));
    let object = api::protobuf::decode(&object.unwrap_or_default());
    json!({"type": String::from_utf8_lossy(&kind),
        "object": object.unwrap_or_else(|e| json!(e.to_string()))})
}

fn header(parts: &http::response::Parts, name: &str) -> String {
    let value = parts.headers.get(name).and_then(|v| v.to_str().ok());
    value.unwrap_or("").to_string()
}

fn head(parts: &http::response::Parts) -> Answer {
    let mut headers = Vec::new();
    for name in HEADERS {
        for value in parts.headers.get_all(*name) {
            headers.push((
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into(),
            ));
        }
    }
    let warnings = parts.headers.get_all("warning").iter();
    let mut warnings: Vec<(String, String)> = warnings
        .map(|v| {
            (
                "warning".into(),
                String::from_utf8_lossy(v.as_bytes()).into(),
            )
        })
        .collect();
    // Those that Go finds in a map come in any order.
    warnings.sort_unstable();
    headers.extend(warnings);
    Answer {
        code: parts.status.as_u16(),
        headers,
        body: Value::Null,
    }
}
