//! Namespaces, with their quotas and limit ranges.

use std::collections::BTreeSet;

use serde_json::Value;

use super::lines::{Lines, time};
use super::{Describer, Seen};
use crate::builder::Info;
use crate::object;
use crate::rest::Call;

pub const NAMESPACE: Describer = Describer::of("", "Namespace", text)
    .with(more)
    .without_events();

fn more(info: &Info) -> Vec<(&'static str, Call)> {
    let of = |plural| Call::get(format!("/api/v1/namespaces/{}/{plural}", info.name));
    vec![
        ("quotas", of("resourcequotas")),
        ("limits", of("limitranges")),
    ]
}

fn text(seen: &Seen<'_>, w: &mut Lines) {
    let o = seen.object;
    w.put(0, format!("Name:\t{}", object::name(o)));
    seen.marks(w);
    w.put(0, format!("Status:\t{}", object::text(o, "/status/phase")));
    let conditions = object::items(o, "/status/conditions");
    if !conditions.is_empty() {
        w.put(0, "Conditions:");
        w.put(1, "Type\tStatus\tLastTransitionTime\tReason\tMessage");
        w.put(1, "----\t------\t------------------\t------\t-------");
    }
    for c in conditions {
        w.put(
            1,
            format!(
                "{}\t{}\t{}\t{}\t{}",
                object::text(c, "/type"),
                object::text(c, "/status"),
                time(&c["lastTransitionTime"]),
                object::text(c, "/reason"),
                object::text(c, "/message")
            ),
        );
    }
    w.put(0, "");
    quotas(seen.items("quotas"), w);
    w.put(0, "");
    limits(seen.items("limits"), w);
}

fn quotas(all: &[Value], w: &mut Lines) {
    if all.is_empty() {
        return w.put(0, "No resource quota.");
    }
    w.put(0, "Resource Quotas");
    for quota in all {
        w.put(1, format!("Name:\t{}", object::name(quota)));
        let mut scopes: Vec<String> = object::items(quota, "/spec/scopes")
            .iter()
            .map(object::plain)
            .collect();
        scopes.sort();
        w.some(1, "Scopes", &scopes.join(", ").into());
        w.put(1, "Resource\tUsed\tHard");
        w.put(1, "--------\t---\t---");
        quota_rows(quota, 1, w);
    }
}

/// What a quota allows and what is used of it.
pub fn quota_rows(quota: &Value, level: usize, w: &mut Lines) {
    for (name, hard) in object::pairs(&quota["status"]["hard"]) {
        let used = match object::plain(&quota["status"]["used"][&name]) {
            used if used.is_empty() => "0".into(),
            used => used,
        };
        w.put(level, format!("{name}\t{used}\t{hard}"));
    }
}

const COLUMNS: [&str; 5] = [
    "min",
    "max",
    "defaultRequest",
    "default",
    "maxLimitRequestRatio",
];

fn limits(all: &[Value], w: &mut Lines) {
    if all.is_empty() {
        return w.put(0, "No LimitRange resource.");
    }
    w.put(0, "Resource Limits");
    w.put(
        0,
        " Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio",
    );
    w.put(
        0,
        " ----\t--------\t---\t---\t---------------\t-------------\t-----------------------",
    );
    for item in all.iter().flat_map(|r| object::items(r, "/spec/limits")) {
        limit_rows(item, " ", w);
    }
}

/// The rows of one limit.
pub fn limit_rows(item: &Value, before: &str, w: &mut Lines) {
    let names: BTreeSet<String> = COLUMNS
        .iter()
        .flat_map(|c| object::pairs(&item[*c]))
        .map(|(name, _)| name)
        .collect();
    for name in names {
        let cells = COLUMNS.map(|c| match object::plain(&item[c][&name]) {
            cell if cell.is_empty() => "-".to_string(),
            cell => cell,
        });
        let kind = object::text(item, "/type");
        w.put(0, format!("{before}{kind}\t{name}\t{}", cells.join("\t")));
    }
}
