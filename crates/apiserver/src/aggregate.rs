//! Groups and versions that other API servers serve behind this one: APIServices with a Service. Their requests are
//! carried there under the user's name, their discovery and OpenAPI are merged with our own in the background.
//! Upstream: kube-aggregator; KEP none, api-semantics §20. An APIService without a Service only tells of what is
//! served here.

mod availability;
mod discover;
mod documents;
mod fetch;
mod forward;
mod headers;
pub mod priorities;
mod register;
mod remote;
mod run;
pub mod schemas;
mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

pub use documents::Schema;
pub use forward::serve;
pub use remote::Remote;
pub use run::run;

const GROUP: &str = "apiregistration.k8s.io";
const RESOURCE: &str = "apiservices";
const BASE: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

/// Who this server is towards the servers behind it: the front proxy's client certificate.
pub struct Aggregation {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// What is known of the servers behind this one.
pub struct Aggregator {
    identity: OnceLock<Aggregation>,
    names: webhook::Names,
    /// By group and version.
    remotes: RwLock<Arc<Table>>,
    /// Counts changes of what discovery and OpenAPI tell.
    changed: watch::Sender<u64>,
    counts: Mutex<Counts>,
}

type Table = BTreeMap<(String, String), Arc<Remote>>;

/// Upstream's metrics of availability.
#[derive(Clone, Default)]
pub struct Counts {
    /// Whether each APIService is available.
    pub available: BTreeMap<String, bool>,
    /// How often an APIService became unavailable, by its name and the reason.
    pub unavailable: BTreeMap<(String, String), u64>,
}

// === Aggregator ===

impl Default for Aggregator {
    fn default() -> Self {
        Self {
            identity: OnceLock::new(),
            names: webhook::Names::default(),
            remotes: RwLock::default(),
            changed: watch::channel(0).0,
            counts: Mutex::default(),
        }
    }
}

impl Aggregator {
    /// Says who this server is; the first call counts.
    pub fn identify(&self, identity: Aggregation) {
        self.identity.get_or_init(|| identity);
    }

    /// The server of a group version, where it is not this one.
    pub fn find(&self, group: &str, version: &str) -> Option<Arc<Remote>> {
        let table = self.remotes.read().clone();
        if table.is_empty() {
            return None;
        }
        table.get(&(group.into(), version.into())).cloned()
    }

    /// The server behind a request's path: all that lies under its group version.
    pub fn route(&self, path: &str) -> Option<Arc<Remote>> {
        if self.remotes.read().is_empty() {
            return None;
        }
        let mut parts = path.strip_prefix('/')?.split('/');
        match parts.next()? {
            // The legacy group's server has all of /api.
            "api" => self.find("", "v1"),
            // APIServices are this server's own, and nobody can take them away from it.
            "apis" => match parts.next()? {
                GROUP => None,
                group => self.find(group, parts.next()?),
            },
            _ => None,
        }
    }

    /// All, in order of group and version.
    pub fn all(&self) -> Vec<Arc<Remote>> {
        self.remotes.read().values().cloned().collect()
    }

    fn named(&self, name: &str) -> Option<Arc<Remote>> {
        let table = self.remotes.read().clone();
        table.values().find(|r| r.name == name).cloned()
    }

    fn replace(&self, table: Table) {
        *self.remotes.write() = Arc::new(table);
    }

    /// Counts changes of what discovery and OpenAPI tell.
    pub fn generation(&self) -> u64 {
        *self.changed.borrow()
    }

    fn touch(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    /// The counters as they are now.
    pub fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }
}
