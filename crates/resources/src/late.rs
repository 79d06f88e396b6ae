//! The shared caches, for allocators and creators that are made before the server that has the caches.

use std::sync::{Arc, OnceLock};

use client::Reads;

/// Empty until the server exists. Cheap to clone; all clones see the same.
#[derive(Clone, Default)]
pub struct LateReads(Arc<OnceLock<Arc<dyn Reads>>>);

impl LateReads {
    /// Gives the caches; the first call counts.
    pub fn set(&self, reads: Arc<dyn Reads>) {
        if self.0.set(reads).is_err() {
            tracing::warn!("the caches are known already");
        }
    }

    /// The caches, once they are known.
    pub fn get(&self) -> Option<&Arc<dyn Reads>> {
        self.0.get()
    }
}
