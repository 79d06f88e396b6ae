//! `metadata.managedFields` read, bounded and written.
//! Upstream: apimachinery/pkg/util/managedfields/internal.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::fields::FieldSet;
use crate::object::str_at;

/// Update entries that are kept apart; the oldest beyond that become one per version.
const MAX_UPDATERS: usize = 10;
/// The manager of updates that were merged.
const ANCIENT: &str = "ancient-changes";

/// Who wrote, how and through what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    pub manager: String,
    /// `Apply` or `Update`.
    pub apply: bool,
    /// Only of updates: an applier is the same in every version.
    version: String,
    pub subresource: String,
}

/// One manager's fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub version: String,
    pub set: FieldSet,
    pub time: Option<String>,
}

/// All managers of an object.
pub type Managers = BTreeMap<Id, Entry>;

// === Id ===

impl Id {
    /// The identity of an applier.
    pub fn applier(manager: &str, subresource: &str) -> Self {
        Self {
            manager: manager.into(),
            apply: true,
            version: String::new(),
            subresource: subresource.into(),
        }
    }

    /// The identity of a writer in one version.
    pub fn updater(manager: &str, version: &str, subresource: &str) -> Self {
        Self {
            manager: manager.into(),
            apply: false,
            version: version.into(),
            subresource: subresource.into(),
        }
    }

    /// As conflicts name it: `"m" with subresource "status" using apps/v1`.
    pub fn text(&self) -> String {
        let mut out = format!("\"{}\"", self.manager);
        if !self.subresource.is_empty() {
            out.push_str(&format!(" with subresource \"{}\"", self.subresource));
        }
        if !self.apply {
            out.push_str(&format!(" using {}", self.version));
        }
        out
    }
}

/// Reads `managedFields`; an error where any entry does not decode.
pub fn decode(list: &[Value]) -> Result<Managers, String> {
    let mut out = Managers::new();
    for entry in list {
        let operation = str_at(entry, "operation");
        let apply = match operation {
            "Apply" => true,
            "Update" => false,
            other => return Err(format!("unknown operation {other:?}")),
        };
        if str_at(entry, "fieldsType") != "FieldsV1" {
            return Err("unsupported fieldsType".into());
        }
        let set = match entry.get("fieldsV1") {
            Some(fields) if !fields.is_null() => FieldSet::parse(fields)?,
            _ => FieldSet::default(),
        };
        let version = str_at(entry, "apiVersion").to_string();
        let (manager, sub) = (str_at(entry, "manager"), str_at(entry, "subresource"));
        let id = if apply {
            Id::applier(manager, sub)
        } else {
            Id::updater(manager, &version, sub)
        };
        let time = entry.get("time").and_then(Value::as_str);
        let entry = Entry {
            version,
            set,
            time: time.map(str::to_string),
        };
        out.insert(id, entry);
    }
    Ok(out)
}

/// Writes `managedFields`: appliers first, then by time, manager, version and subresource.
pub fn encode(managers: &Managers) -> Vec<Value> {
    let mut all: Vec<(&Id, &Entry)> = managers.iter().collect();
    all.sort_by(|(a, x), (b, y)| {
        fn key<'k>(i: &'k Id, e: &'k Entry) -> impl Ord + use<'k> {
            (!i.apply, &e.time, &i.manager, &e.version, &i.subresource)
        }
        key(a, x).cmp(&key(b, y))
    });
    all.into_iter().map(|(id, e)| encoded(id, e)).collect()
}

fn encoded(id: &Id, e: &Entry) -> Value {
    let mut out = Map::new();
    let operation = if id.apply { "Apply" } else { "Update" };
    out.insert("manager".into(), json!(id.manager));
    out.insert("operation".into(), json!(operation));
    out.insert("apiVersion".into(), json!(e.version));
    if let Some(time) = &e.time {
        out.insert("time".into(), json!(time));
    }
    out.insert("fieldsType".into(), json!("FieldsV1"));
    out.insert("fieldsV1".into(), e.set.to_value());
    if !id.subresource.is_empty() {
        out.insert("subresource".into(), json!(id.subresource));
    }
    Value::Object(out)
}

/// Merges the oldest update entries, version by version, until few enough are left.
pub fn cap(managers: &mut Managers) {
    let mut left = managers.keys().filter(|i| !i.apply).count();
    if left <= MAX_UPDATERS {
        return;
    }
    let mut updaters: Vec<Id> = managers.keys().filter(|i| !i.apply).cloned().collect();
    updaters.sort_by_key(|i| (managers.get(i).and_then(|e| e.time.clone()), i.clone()));
    let mut first: BTreeMap<String, Id> = BTreeMap::new();
    for id in updaters {
        if left <= MAX_UPDATERS {
            return;
        }
        let Some(entry) = managers.get(&id).cloned() else {
            continue;
        };
        let Some(seen) = first.get(&entry.version) else {
            first.insert(entry.version, id);
            continue;
        };
        let bucket = Id::updater(ANCIENT, &entry.version, "");
        if !managers.contains_key(&bucket)
            && let Some(old) = managers.remove(seen)
        {
            managers.insert(bucket.clone(), old);
        }
        managers.remove(&id);
        left -= 1;
        if let Some(b) = managers.get_mut(&bucket) {
            b.set.add(entry.set);
            b.time = entry.time;
        }
    }
}

/// Whether two lists of managed fields differ in their times and nothing else, entry by entry: as they are sorted by
/// time, one whose new time moves it behind another is a change.
pub fn times_only(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a != b && a.iter().zip(b).all(|(a, b)| timeless_eq(a, b))
}

fn timeless_eq(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else {
        return a == b;
    };
    let timeless = |m: &'_ Map<String, Value>| m.len() - usize::from(m.contains_key("time"));
    timeless(a) == timeless(b) && a.iter().all(|(k, v)| k == "time" || b.get(k) == Some(v))
}
