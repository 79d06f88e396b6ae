//! `kubectl describe`: one form for every kind, made of the object's own fields, with its events.
//! Upstream's is written by hand for each kind; the labels of fields are the same, their order is ours.

use clap::Args;
use serde_json::Value;

use super::{Command, Run};
use crate::builder::{self, Files, Info, Narrow};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::object;
use crate::rest::Call;
use crate::tabwriter::TabWriter;

pub const COMMAND: Command = Command::of::<Flags>(
    "describe",
    &[],
    "Show details of a specific resource or group of resources",
);

/// Flags of `describe`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// If present, list the requested object(s) across all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
    /// If true, display events related to the described object
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", action = clap::ArgAction::Set)]
    show_events: bool,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let narrow = Narrow {
            labels: self.selector.clone(),
            all_namespaces: self.all_namespaces,
            all: true,
            ..Narrow::default()
        };
        let (infos, errors) = builder::existing(&cx, &self.words, &self.files, &narrow).await?;
        if infos.is_empty() && errors.is_empty() {
            eprintln!("No resources found in {} namespace.", cx.namespace()?);
        }
        for (i, info) in infos.iter().enumerate() {
            if i > 0 {
                println!("\n");
            }
            let events = if self.show_events {
                events(&cx, info).await?
            } else {
                Vec::new()
            };
            let mut text = head(info);
            let secret = info.resource.kind == "Secret";
            for (key, value) in info.object.as_object().into_iter().flatten() {
                match key.as_str() {
                    "apiVersion" | "kind" | "metadata" => {}
                    "data" if secret => sizes(value, &mut text),
                    _ => field(key, value, 0, &mut text),
                }
            }
            if self.show_events {
                text.push_str(&events_text(&events));
            }
            print!("{}", TabWriter::describe().layout(&text));
        }
        Error::collect(errors)
    }
}

/// The text of a pod template.
pub fn template(template: &Value) -> String {
    let mut text = String::new();
    text.push_str(&format!(
        "  Labels:\t{}\n",
        object::selector(&template["metadata"]["labels"])
    ));
    for (key, value) in template["spec"].as_object().into_iter().flatten() {
        field(key, value, 1, &mut text);
    }
    TabWriter::describe().layout(&text)
}

fn head(info: &Info) -> String {
    let o = &info.object;
    let mut text = format!("Name:\t{}\n", info.name);
    if let Some(ns) = &info.namespace {
        text.push_str(&format!("Namespace:\t{ns}\n"));
    }
    for (title, map, joint) in [
        ("Labels", "labels", "="),
        ("Annotations", "annotations", ": "),
    ] {
        let pairs = object::pairs(&o["metadata"][map]);
        let shown = pairs
            .iter()
            .filter(|(k, _)| k != crate::three_way::LAST_APPLIED);
        let lines: Vec<String> = shown
            .map(|(k, v)| format!("{k}{joint}{}", v.replace('\n', " ")))
            .collect();
        let body = if lines.is_empty() {
            "<none>".into()
        } else {
            lines.join("\n\t")
        };
        text.push_str(&format!("{title}:\t{body}\n"));
    }
    text.push_str(&format!(
        "API Version:\t{}\nKind:\t{}\n",
        info.resource.api_version(),
        info.resource.kind
    ));
    text.push_str(&format!(
        "Creation Timestamp:\t{}\n",
        object::text(o, "/metadata/creationTimestamp")
    ));
    if let Some(owner) = object::items(o, "/metadata/ownerReferences")
        .iter()
        .find(|r| r["controller"] == true)
    {
        text.push_str(&format!(
            "Controlled By:\t{}/{}\n",
            object::text(owner, "/kind"),
            object::text(owner, "/name")
        ));
    }
    text
}

/// A secret is told by its sizes.
fn sizes(data: &Value, text: &mut String) {
    use base64::Engine;
    text.push_str("\nData\n====\n");
    for (key, value) in object::pairs(data) {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(value)
            .map_or(0, |b| b.len());
        text.push_str(&format!("{key}:\t{bytes} bytes\n"));
    }
}

/// `restartPolicy` as `Restart Policy`.
fn title(key: &str) -> String {
    if key.contains(['.', '/', '-', '_']) {
        return key.to_string();
    }
    let mut out = String::new();
    let chars: Vec<char> = key.chars().collect();
    for (i, &c) in chars.iter().enumerate() {
        let starts = c.is_uppercase()
            && i > 0
            && (chars[i - 1].is_lowercase() || chars.get(i + 1).is_some_and(|n| n.is_lowercase()));
        if starts {
            out.push(' ');
        }
        if i == 0 {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
    }
    for (from, to) in [("Ip", "IP"), ("Uid", "UID"), ("Id", "ID")] {
        if out == from {
            out = to.into();
        }
    }
    out
}

fn field(key: &str, value: &Value, level: usize, text: &mut String) {
    let indent = "  ".repeat(level);
    let title = title(key);
    match value {
        Value::Object(m) => {
            text.push_str(&format!("{indent}{title}:\n"));
            m.iter().for_each(|(k, v)| field(k, v, level + 1, text));
        }
        Value::Array(l) if l.iter().any(Value::is_object) => {
            text.push_str(&format!("{indent}{title}:\n"));
            for (i, item) in l.iter().enumerate() {
                if i > 0 {
                    text.push_str(&format!("{indent}  ---\n"));
                }
                for (k, v) in item.as_object().into_iter().flatten() {
                    field(k, v, level + 1, text);
                }
            }
        }
        Value::Array(l) => {
            let all: Vec<String> = l.iter().map(object::plain).collect();
            text.push_str(&format!("{indent}{title}:\t{}\n", all.join("\n\t")));
        }
        scalar => {
            let shown = object::plain(scalar);
            let lines: Vec<&str> = shown.trim_end().split('\n').collect();
            text.push_str(&format!("{indent}{title}:\t{}\n", lines.join("\n\t")));
        }
    }
}

async fn events(cx: &Context, info: &Info) -> Result<Vec<Value>> {
    let mut fields = format!(
        "involvedObject.name={},involvedObject.kind={}",
        info.name, info.resource.kind
    );
    // Events of nodes carry the node's name as its uid.
    if info.resource.kind != "Node" {
        fields.push_str(&format!(
            ",involvedObject.uid={}",
            object::text(&info.object, "/metadata/uid")
        ));
    }
    let path = match &info.namespace {
        Some(ns) => format!("/api/v1/namespaces/{ns}/events"),
        None => "/api/v1/events".into(),
    };
    let list = cx
        .rest()
        .await?
        .json(&Call::get(path).query("fieldSelector", fields))
        .await?;
    let mut all = object::items(&list, "/items").to_vec();
    all.sort_by_key(|e| last_seen(e).map(ToString::to_string));
    Ok(all)
}

fn last_seen(event: &Value) -> Option<&str> {
    ["lastTimestamp", "eventTime", "firstTimestamp"]
        .iter()
        .find_map(|f| event[*f].as_str())
}

fn events_text(events: &[Value]) -> String {
    if events.is_empty() {
        return "Events:\t<none>\n".into();
    }
    let mut text = String::from(
        "Events:\n  Type\tReason\tAge\tFrom\tMessage\n  ----\t------\t----\t----\t-------\n",
    );
    for e in events {
        let mut age = last_seen(e).map_or_else(|| "<unknown>".into(), age);
        let count = e["count"]
            .as_i64()
            .or(e["series"]["count"].as_i64())
            .unwrap_or(1);
        if count > 1 {
            let first = e["firstTimestamp"].as_str().or(e["eventTime"].as_str());
            age = format!(
                "{age} (x{count} over {})",
                first.map_or_else(|| "<unknown>".into(), self::age)
            );
        }
        let from = [
            object::text(e, "/source/component"),
            object::text(e, "/reportingComponent"),
        ];
        let from = from.into_iter().find(|f| !f.is_empty()).unwrap_or_default();
        text.push_str(&format!(
            "  {}\t{}\t{age}\t{from}\t{}\n",
            object::text(e, "/type"),
            object::text(e, "/reason"),
            object::text(e, "/message").trim().replace('\n', " ")
        ));
    }
    text
}

/// How long ago, as `5m3s`. Upstream: apimachinery/pkg/util/duration.HumanDuration.
fn age(time: &str) -> String {
    let Ok(then) = time.parse::<jiff::Timestamp>() else {
        return "<unknown>".into();
    };
    machinery::strategy::human_duration(jiff::Timestamp::now().as_second() - then.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_and_ages_read_as_upstreams() {
        for (key, expected) in [
            ("restartPolicy", "Restart Policy"),
            ("hostIP", "Host IP"),
            ("app.k8s.io/x", "app.k8s.io/x"),
        ] {
            assert_eq!(title(key), expected);
        }
        for (seconds, expected) in [
            (5, "5s"),
            (119, "119s"),
            (123, "2m3s"),
            (700, "11m"),
            (3 * 3600 + 60, "3h1m"),
            (90_000, "25h"),
            (200_000, "2d7h"),
        ] {
            assert_eq!(machinery::strategy::human_duration(seconds), expected);
        }
    }
}
