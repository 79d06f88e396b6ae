//! What an aggregated server tells of itself: its resources and its schemas, as they were got last. Kept as bytes.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use serde_json::Value;

/// Of one APIService.
#[derive(Default)]
pub struct Documents {
    state: RwLock<Arc<State>>,
    /// Held while documents are being got, so that nobody gets them twice.
    pub busy: tokio::sync::Mutex<()>,
}

/// What was got last.
#[derive(Clone, Default)]
pub struct State {
    /// Resources of the group version, as aggregated discovery tells them.
    pub resources: Arc<Vec<Value>>,
    /// Of the whole discovery document; empty where there was no aggregated one.
    pub etag: String,
    /// Whether the last try to get them succeeded.
    pub fresh: bool,
    pub v3: Option<Arc<Schema>>,
    pub v2: Option<Arc<Schema>>,
}

/// An OpenAPI document.
pub struct Schema {
    pub bytes: Bytes,
    /// Upper-case SHA-512 of the bytes.
    pub hash: String,
    /// What the other server knows this state by: an ETag, or a URL with a hash.
    pub mark: String,
}

// === Documents ===

impl Documents {
    /// What is known now.
    pub fn state(&self) -> Arc<State> {
        self.state.read().clone()
    }

    pub fn set(&self, state: State) {
        *self.state.write() = Arc::new(state);
    }
}
