//! One object as the whole process shares it: its encoded bytes, and the typed view made at most once.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// An object at one revision.
pub struct Entry {
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
    pub revision: u64,
    /// JSON of the storage version, `metadata.resourceVersion` included.
    pub bytes: Bytes,
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// Values of the resource's selectable fields besides name and namespace.
    pub fields: Vec<(&'static str, Box<str>)>,
    /// The owner that controls the object, if one does.
    pub controller: Option<Box<Controller>>,
    typed: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// The owner reference with `controller: true`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    pub kind: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
}

/// The parts of `metadata` an entry keeps apart.
#[derive(serde::Deserialize)]
struct Envelope {
    metadata: EnvelopeMeta,
}

#[derive(serde::Deserialize)]
struct EnvelopeMeta {
    name: Box<str>,
    #[serde(default)]
    namespace: Option<Box<str>>,
    #[serde(default)]
    uid: Option<Box<str>>,
    #[serde(default)]
    labels: Option<BTreeMap<Box<str>, Box<str>>>,
    #[serde(default, rename = "ownerReferences")]
    owners: Option<Vec<Owner>>,
}

#[derive(serde::Deserialize)]
struct Owner {
    #[serde(default)]
    controller: Option<bool>,
    kind: Box<str>,
    name: Box<str>,
    uid: Box<str>,
}

// === Entry ===

impl Entry {
    /// An entry of an object's bytes, which must already hold their resourceVersion.
    pub fn new(
        bytes: Bytes,
        revision: u64,
        fields: Vec<(&'static str, Box<str>)>,
    ) -> Result<Self, serde_json::Error> {
        let Envelope { metadata: m } = serde_json::from_slice(&bytes)?;
        let mut owners = m.owners.unwrap_or_default().into_iter();
        let controller = owners.find(|o| o.controller == Some(true));
        Ok(Self {
            namespace: m.namespace.unwrap_or_default(),
            name: m.name,
            uid: m.uid.unwrap_or_default(),
            revision,
            bytes,
            labels: m.labels.unwrap_or_default(),
            fields,
            controller: controller.map(|o| {
                Box::new(Controller {
                    kind: o.kind,
                    name: o.name,
                    uid: o.uid,
                })
            }),
            typed: OnceLock::new(),
        })
    }

    /// The typed view; parsed on first use and shared afterwards. One type per entry is remembered,
    /// another type is parsed anew.
    pub fn typed<K: DeserializeOwned + Send + Sync + 'static>(
        &self,
    ) -> Result<Arc<K>, serde_json::Error> {
        if let Some(known) = self.typed.get()
            && let Ok(k) = known.clone().downcast::<K>()
        {
            return Ok(k);
        }
        let parsed: Arc<K> = Arc::new(serde_json::from_slice(&self.bytes)?);
        // Losing the race to another reader only means that this copy is not the shared one.
        self.typed.get_or_init(|| parsed.clone());
        Ok(parsed)
    }

    /// The object as a JSON value (parsed at each call).
    pub fn value(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_slice(&self.bytes)
    }

    /// `namespace/name`, or `name` for cluster-scoped objects.
    pub fn key(&self) -> String {
        if self.namespace.is_empty() {
            self.name.to_string()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.key(), self.revision)
    }
}
