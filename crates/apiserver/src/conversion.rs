//! Objects from version to version: by their strategy, or by a conversion webhook, whose work on what is stored is
//! remembered and shared by all readers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use client::Entry;
use machinery::object::{set, str_at};
use machinery::{ApiError, Converter, Descriptor};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::limits;
use crate::server::Inner;

/// Converter, uid, revision, version.
type Key = (u64, Box<str>, u64, String);

/// Stored objects as other versions show them; the oldest go first.
#[derive(Default)]
pub struct Memory(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    entries: HashMap<Key, Arc<Entry>>,
    order: VecDeque<Key>,
    bytes: usize,
}

impl Memory {
    fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.0.lock().entries.get(key).cloned()
    }

    fn put(&self, key: Key, entry: Arc<Entry>) {
        let mut r = self.0.lock();
        r.bytes += entry.bytes.len();
        if let Some(old) = r.entries.insert(key.clone(), entry) {
            r.bytes -= old.bytes.len();
        } else {
            r.order.push_back(key);
        }
        while r.bytes > limits::CONVERTED_BYTES {
            let Some(oldest) = r.order.pop_front() else {
                return;
            };
            if let Some(gone) = r.entries.remove(&oldest) {
                r.bytes -= gone.bytes.len();
            }
        }
    }
}

/// Whether entries must be `shown` before a selector looks at them.
pub fn selects_shown(d: &Descriptor) -> bool {
    d.strategy.selects_shown() || d.strategy.converter().is_some()
}

/// An entry as a version shows it.
pub async fn entry(
    server: &Inner,
    d: &Descriptor,
    entry: &Arc<Entry>,
) -> Result<Arc<Entry>, ApiError> {
    let mut all = entries(server, d, vec![entry.clone()]).await?;
    all.pop()
        .ok_or_else(|| ApiError::internal("an object was lost in its conversion"))
}

/// Entries as a version shows them: bytes, labels and selectable fields.
pub async fn entries(
    server: &Inner,
    d: &Descriptor,
    mut all: Vec<Arc<Entry>>,
) -> Result<Vec<Arc<Entry>>, ApiError> {
    let Some(converter) = d.strategy.converter() else {
        for e in &mut all {
            let mut value = e.value().map_err(ApiError::internal)?;
            d.strategy.from_stored(&mut value);
            *e = made(d, &value, e.revision)?;
        }
        return Ok(all);
    };
    let key = |e: &Entry| (converter.id(), e.uid.clone(), e.revision, d.api_version());
    let mut missing = Vec::new();
    for (i, e) in all.iter_mut().enumerate() {
        match server.conversions.get(&key(e)) {
            Some(known) => *e = known,
            None => missing.push(i),
        }
    }
    let mut values = Vec::with_capacity(missing.len());
    for i in &missing {
        values.push(all[*i].value().map_err(ApiError::internal)?);
    }
    let shown = converted(&**converter, values, &d.api_version()).await?;
    for (i, mut value) in missing.into_iter().zip(shown) {
        d.strategy.from_stored(&mut value);
        let e = made(d, &value, all[i].revision)?;
        server.conversions.put(key(&all[i]), e.clone());
        all[i] = e;
    }
    Ok(all)
}

fn made(d: &Descriptor, value: &Value, revision: u64) -> Result<Arc<Entry>, ApiError> {
    let fields = d.strategy.selectable_fields(value).into_iter();
    let fields = fields.map(|(k, v)| (k, v.into_boxed_str())).collect();
    let bytes = Bytes::from(value.to_string());
    let entry = Entry::new(bytes, revision, fields).map_err(ApiError::internal)?;
    Ok(Arc::new(entry))
}

/// Objects in a version; those that are in it already are not sent. Large lists go in several calls.
async fn converted(
    converter: &dyn Converter,
    mut all: Vec<Value>,
    api_version: &str,
) -> Result<Vec<Value>, ApiError> {
    let others = |v: &Value| str_at(v, "apiVersion") != api_version;
    let wanted: Vec<usize> = (0..all.len()).filter(|i| others(&all[*i])).collect();
    for part in wanted.chunks(limits::CONVERSION_OBJECTS) {
        let objects: Vec<Value> = part.iter().map(|i| all[*i].take()).collect();
        let done = converter.convert(objects, api_version).await?;
        for (i, object) in part.iter().zip(done) {
            all[*i] = object;
        }
    }
    Ok(all)
}

/// An object of a version as another version has it.
pub async fn between(
    mut object: Value,
    from: &Descriptor,
    to: &Descriptor,
) -> Result<Value, ApiError> {
    match from.strategy.converter() {
        // Upstream's strategy None changes no more than this where nothing is stored.
        None if to.strategy.stored_version().is_some() => {
            set(&mut object, "apiVersion", json!(to.api_version()));
            Ok(object)
        }
        None => {
            from.strategy.to_stored(&mut object);
            to.strategy.from_stored(&mut object);
            Ok(object)
        }
        Some(converter) => {
            let mut object = one(&**converter, object, &to.api_version()).await?;
            to.strategy.from_stored(&mut object);
            Ok(object)
        }
    }
}

/// An object of a version as it is stored, where that may be another.
pub async fn stored(d: &Descriptor, object: &Value) -> Result<Option<Value>, ApiError> {
    if !d.strategy.converts() && d.strategy.converter().is_none() {
        return Ok(None);
    }
    let mut object = object.clone();
    if let Some(converter) = d.strategy.converter() {
        object = one(&**converter, object, converter.stored()).await?;
    }
    d.strategy.to_stored(&mut object);
    Ok(Some(object))
}

/// An object as the version that it was written in shows it from now on: as it is read from what is stored, whose
/// version may have less, and has defaults of its own.
pub fn reread(d: &Descriptor, object: &mut Value) {
    if d.strategy.stored_version().is_some()
        && d.strategy.converts()
        && d.strategy.converter().is_none()
    {
        d.strategy.to_stored(object);
        d.strategy.from_stored(object);
    } else {
        d.strategy.set_defaults(object);
    }
}

async fn one(
    converter: &dyn Converter,
    object: Value,
    api_version: &str,
) -> Result<Value, ApiError> {
    let mut all = converted(converter, vec![object], api_version).await?;
    all.pop()
        .ok_or_else(|| ApiError::internal("an object was lost in its conversion"))
}
