//! A server under comparison, and what a sequence remembers of its answers.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use http::{Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};

use crate::frames::Frames;
use crate::normal::Normal;
use crate::step::{Ask, LAST, ONLY, Till};

/// Headers that clients act upon.
const HEADERS: &[&str] = &[
    "allow",
    "cache-control",
    "content-encoding",
    "content-type",
    "location",
    "retry-after",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "vary",
    "x-content-type-options",
];
/// A watch without an event for so long is quiet.
const QUIET: Duration = Duration::from_millis(400);
/// Between two tries of what must come to fit.
const TRY: Duration = Duration::from_millis(20);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(15);
/// How long it may take until an answer fits: definitions take their time where many come at once.
const SETTLED: Duration = Duration::from_secs(90);
/// How long an event or the end of a watch may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// One server, as one sequence sees it.
pub struct Target {
    client: kube::Client,
    normal: Normal,
    objects: HashMap<String, Seen>,
    list: String,
    token: String,
    watching: Option<(Answer, Option<Frames>)>,
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
        let only = ask.headers.iter().find(|(k, _)| k == ONLY);
        if let (Some((_, only)), Some(Value::Object(all))) = (only, out.body.get_mut("published")) {
            all.retain(|name, _| name.starts_with(only.as_str()));
        }
        Ok(out)
    }

    /// Sends a request until its answer fits.
    pub async fn until(&mut self, ask: &Ask, fits: fn(&Answer) -> bool) -> Result<()> {
        let end = tokio::time::Instant::now() + SETTLED;
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
                self.watching = Some((Answer::none(&error), None));
                return Ok(());
            }
        };
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (parts, body) = answer.into_parts();
            let out = head(&parts);
            let answer = Response::from_parts(parts, body);
            let frames = Frames::of_socket(answer).await?;
            self.watching = Some((out, Some(frames)));
            return Ok(());
        }
        let (parts, body) = answer.into_parts();
        let mut out = head(&parts);
        let frames = match parts.status.is_success() {
            true => Some(Frames::of_body(&parts, body)),
            false => {
                let data = body.collect_bytes().await?;
                out.body = self.body(&parts, &data);
                None
            }
        };
        self.watching = Some((out, frames));
        Ok(())
    }

    /// Reads the frames of the watch that was begun, till they are all there.
    pub async fn end(&mut self, till: &Till) -> Result<Answer> {
        let (mut answer, frames) = self.watching.take().context("no watch was begun")?;
        let Some(mut frames) = frames else {
            return Ok(answer);
        };
        let wait = match till {
            Till::Seen(change) => {
                self.send(change).await?;
                PATIENCE
            }
            Till::Closed => PATIENCE,
            Till::Quiet => QUIET,
        };
        let mut all = Vec::new();
        loop {
            match tokio::time::timeout(wait, frames.next()).await {
                Ok(Some(frame)) if frame["type"] == "BOOKMARK" => {
                    let initial = "/object/metadata/annotations/k8s.io~1initial-events-end";
                    let row = "/object/rows/0/object/metadata/annotations";
                    // Others come when the server likes.
                    if frame.pointer(initial).or(frame.pointer(row)).is_some() {
                        all.push(self.bookmark(frame));
                    }
                }
                Ok(Some(frame)) => {
                    let is_last = is_last(&frame, till);
                    all.push(self.event(frame));
                    if is_last {
                        break;
                    }
                }
                Ok(None) => {
                    all.push(json!("END"));
                    break;
                }
                Err(_) if matches!(till, Till::Quiet) => break,
                Err(_) => {
                    all.push(json!("NOTHING MORE"));
                    break;
                }
            }
        }
        answer.body = json!(all);
        Ok(answer)
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
        if content.contains("yaml") {
            return self.yaml(&String::from_utf8_lossy(data));
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

    /// YAML as its value, and its text where that is not laid out as ours is.
    fn yaml(&mut self, text: &str) -> Value {
        let Ok(value) = serde_saphyr::from_str::<Value>(text) else {
            return json!(self.normal.text(text));
        };
        let layout = api::yaml::to_string(&value);
        let odd = (layout != text).then_some(text);
        let mut out = self.json(value);
        if let (Some(map), Some(odd)) = (out.as_object_mut(), odd) {
            map.insert("~layout".into(), json!(odd));
        }
        out
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

/// Whether an event is about the change that ends a watch.
fn is_last(frame: &Value, till: &Till) -> bool {
    let Till::Seen(change) = till else {
        return false;
    };
    let mark = |v: &Value, at: &str| {
        v.pointer(&format!("{at}/metadata/annotations/{LAST}"))
            .cloned()
    };
    let body: Value = serde_json::from_slice(&change.body).unwrap_or_default();
    let wanted = mark(&body, "");
    let seen = mark(frame, "/object").or_else(|| mark(frame, "/object/rows/0/object"));
    wanted.is_some() && wanted == seen
}

/// A header's text, empty where there is none.
pub fn header(parts: &http::response::Parts, name: &str) -> String {
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
