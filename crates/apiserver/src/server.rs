//! The server: its registries, what it was given, and the way of a request through it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use client::{Cache, Reads};
use http::{HeaderMap, Method, Request};
use machinery::gates::Gates;
use machinery::request::{Admission, Authenticator, Authorizer, User};
use machinery::{ApiError, Descriptor, descriptor::Creator};
use parking_lot::Mutex;
use store::Store;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

use crate::cache::{Follower, WatchCache};
use crate::connect::Connector;
use crate::limits;
use crate::registry::Registry;

/// Group, plural and subresource (`""` for the kind itself).
pub type Target = (String, String, String);

/// What the server is given once the parts that need its caches exist.
#[derive(Default)]
pub struct Plugins {
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    pub authorizers: Vec<Arc<dyn Authorizer>>,
    pub admission: Vec<Arc<dyn Admission>>,
    pub creators: HashMap<Target, Arc<dyn Creator>>,
    pub connectors: HashMap<Target, Arc<dyn Connector>>,
    /// Documents under fixed paths that need no more than authentication:
    /// `/.well-known/openid-configuration`, `/openid/v1/jwks`.
    pub documents: HashMap<String, serde_json::Value>,
    /// What is done after the start, by upstream's names of its hooks; `Server::finish_hook` tells when.
    pub hooks: Vec<&'static str>,
    /// Records who asked for what.
    pub audit: Option<Arc<crate::audit::Audit>>,
    /// How the store's values are sealed, where they are.
    pub encryption: Option<crate::encryption::Encryption>,
    /// Begins spans, where requests are traced.
    pub tracer: Option<crate::trace::Tracer>,
    /// What `/flagz` shows: how the server was told to be.
    pub flags: BTreeMap<String, String>,
    /// The parts that `componentstatuses` tells of, besides the store.
    pub components: Vec<Component>,
    /// Feature gates; those that are not set have their defaults.
    pub gates: Gates,
    /// How long events live; an hour where nothing is said, forever where it is 0.
    pub event_ttl: Option<Duration>,
    /// Metrics of the plugins, told with the server's own.
    pub metrics: Option<Arc<machinery::series::Registry>>,
}

/// A part of the process and how it is.
pub struct Component {
    /// As upstream names it: `scheduler`.
    pub name: &'static str,
    /// Says why it is not well.
    pub check: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// What the server says about itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `v1.37.0+k0s`.
    pub git_version: String,
    pub git_commit: String,
    pub build_date: String,
}

/// The API server. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    pub(crate) inner: Arc<Inner>,
}

/// The server's state, shared by all requests.
pub struct Inner {
    pub store: Store,
    pub registry: Registry,
    pub identity: Identity,
    pub(crate) plugins: OnceLock<Plugins>,
    pub(crate) shutdown: watch::Sender<bool>,
    /// Whether the server is about to shut down: it is not ready, and answers still.
    pub(crate) leaving: AtomicBool,
    pub(crate) connections: TaskTracker,
    pub(crate) hooks: crate::health::Hooks,
    pub(crate) fairness: crate::fairness::Fairness,
    /// Places of watches that are served from the store's history.
    pub(crate) histories: Semaphore,
    /// Turns of requests with large bodies.
    pub(crate) large: Semaphore,
    pub(crate) metrics: crate::metrics::Metrics,
    admission_times: OnceLock<crate::metrics::admission::Admission>,
    pub(crate) streams: crate::metrics::streams::Streams,
    pub(crate) counts: crate::metrics::Counts,
    /// What the filters count.
    pub(crate) access: machinery::series::Registry,
    pub(crate) kept: crate::counts::Kept,
    pub(crate) impersonation: crate::impersonate::Modes,
    pub(crate) openapi: crate::openapi::Documents,
    pub(crate) discovery: crate::discovery::Memory,
    pub(crate) aggregator: crate::aggregate::Aggregator,
    /// What conversion webhooks made of stored objects.
    pub(crate) conversions: crate::conversion::Memory,
    /// Calls conversion webhooks.
    pub(crate) webhooks: OnceLock<webhook::Caller>,
    event_lease: crate::event_lease::EventLease,
    /// The definitions that were served before the first request, until the loop behind them takes them over.
    pub(crate) established: Mutex<BTreeMap<String, crate::crd::Known>>,
}

/// A request after TLS: who is at the other end.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Where the connection comes from.
    pub address: Option<std::net::IpAddr>,
    /// Client certificates in DER, leaf first, that the client CAs vouch for.
    pub certificates: Arc<Vec<Vec<u8>>>,
    /// The same, where the front proxies' CAs vouch for them.
    pub proxy_certificates: Arc<Vec<Vec<u8>>>,
    /// It showed certificates that nobody vouches for.
    pub foreign: bool,
    /// An in-process part's identity; such requests skip authentication and nothing else.
    pub part: Option<Arc<User>>,
}

// === Server ===

impl Server {
    /// A server over a store, serving these resources. Requests are answered with 503 until `install`.
    pub async fn new(
        store: Store,
        descriptors: Vec<Descriptor>,
        identity: Identity,
    ) -> Result<Self, String> {
        let follower = Follower::start(store.clone())
            .await
            .map_err(|e| e.to_string())?;
        let registry = Registry::new(follower);
        for d in descriptors {
            registry.add(d).await?;
        }
        registry.add(crate::crd::kind::resource()).await?;
        let inner = Inner {
            store,
            registry,
            identity,
            plugins: OnceLock::new(),
            shutdown: watch::channel(false).0,
            leaving: AtomicBool::new(false),
            connections: TaskTracker::new(),
            hooks: crate::health::Hooks::default(),
            fairness: crate::fairness::Fairness::new(limits::SEATS),
            histories: Semaphore::new(limits::HISTORIES),
            large: Semaphore::new(limits::LARGE_BODIES),
            metrics: crate::metrics::Metrics::default(),
            admission_times: OnceLock::new(),
            streams: crate::metrics::streams::Streams::default(),
            counts: crate::metrics::Counts::default(),
            access: machinery::series::Registry::default(),
            kept: crate::counts::Kept::default(),
            impersonation: crate::impersonate::Modes::default(),
            openapi: crate::openapi::Documents::default(),
            discovery: crate::discovery::Memory::default(),
            aggregator: crate::aggregate::Aggregator::default(),
            conversions: crate::conversion::Memory::default(),
            webhooks: OnceLock::new(),
            event_lease: crate::event_lease::EventLease::default(),
            established: Mutex::default(),
        };
        let inner = Arc::new(inner);
        let reads = Arc::new(OwnReads(Arc::downgrade(&inner)));
        let caller = webhook::Caller::new(reads, "kube-apiserver");
        inner.webhooks.get_or_init(|| caller);
        crate::crd::serve_established(&inner).await;
        Ok(Self { inner })
    }

    /// Gives the server its plugins and begins to serve new custom resources; the first call counts.
    pub fn install(&self, plugins: Plugins) {
        self.inner.hooks.add(&plugins.hooks);
        let names: Vec<&'static str> = plugins.admission.iter().map(|p| p.name()).collect();
        let times = || crate::metrics::admission::Admission::new(names);
        self.inner.admission_times.get_or_init(times);
        if self.inner.plugins.set(plugins).is_err() {
            tracing::warn!("the server has its plugins already");
            return;
        }
        crate::fairness::load(&self.inner);
        tokio::spawn(crate::crd::run(self.clone()));
        tokio::spawn(crate::fairness::run(self.clone()));
        if let Some(encryption) = self.inner.encryption() {
            let told = encryption.recovered();
            tokio::spawn(read_again(Arc::downgrade(&self.inner), told));
        }
    }

    /// Begins to serve what other servers serve behind this one, and to keep APIServices; after `install`.
    pub fn aggregate(&self, identity: crate::aggregate::Aggregation) {
        self.inner.aggregator.identify(identity);
        tokio::spawn(crate::aggregate::run(self.clone()));
    }

    /// The shared caches.
    pub fn reads(&self) -> Arc<dyn Reads> {
        Arc::new(RegistryReads(self.inner.clone()))
    }

    /// Which resources are served; for the parts that add and remove some.
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// A client of an in-process part: its requests pass the same filters, under this identity.
    pub fn client_for(&self, user: User) -> client::Client {
        let service = crate::transport::InProcess::new(self.inner.clone(), user.clone());
        client::Client::new(kube::Client::new(service, "default"), self.reads(), user)
    }

    /// A hook has done its work: health checks of it succeed from now on.
    pub fn finish_hook(&self, name: &str) {
        self.inner.hooks.finish(name);
    }

    /// Lets `/readyz` fail, so that nobody new comes, while everything is answered still.
    pub fn leave(&self) {
        self.inner.leaving.store(true, Ordering::Relaxed);
    }

    /// Ends watches and refuses new requests.
    pub fn shutdown(&self) {
        self.leave();
        self.inner.shutdown.send_replace(true);
    }

    /// Shuts down and waits until what was begun is answered, and recorded, or a limit has passed.
    pub async fn drain(&self) {
        self.shutdown();
        self.inner.connections.close();
        let ended = tokio::time::timeout(limits::DRAIN, self.inner.connections.wait()).await;
        if ended.is_err() {
            tracing::warn!("some connections did not end in time");
        }
        if let Some(audit) = self.inner.plugins.get().and_then(|p| p.audit.as_ref()) {
            audit.flush().await;
        }
    }
}

/// Reads everything anew whenever values that could not be opened may be so now.
async fn read_again(server: std::sync::Weak<Inner>, mut told: watch::Receiver<u64>) {
    while told.changed().await.is_ok() {
        let Some(server) = server.upgrade() else {
            return;
        };
        tracing::info!("stored values that could not be opened are tried again");
        server.registry.follower().reload().await;
    }
}

/// The caches as the server's own resources use them: they do not keep the server.
struct OwnReads(std::sync::Weak<Inner>);

impl Reads for OwnReads {
    fn cache(&self, resource: &machinery::GroupResource) -> Option<Arc<dyn Cache>> {
        self.0.upgrade()?.registry.cache(resource)
    }

    fn resources(&self) -> Vec<Arc<Descriptor>> {
        let server = self.0.upgrade();
        server.map(|s| s.registry.resources()).unwrap_or_default()
    }

    fn resources_changed(&self) -> watch::Receiver<u64> {
        match self.0.upgrade() {
            Some(server) => server.registry.resources_changed(),
            None => watch::channel(0).1,
        }
    }
}

struct RegistryReads(Arc<Inner>);

impl Reads for RegistryReads {
    fn cache(&self, resource: &machinery::GroupResource) -> Option<Arc<dyn Cache>> {
        self.0.registry.cache(resource)
    }

    fn resources(&self) -> Vec<Arc<Descriptor>> {
        self.0.registry.resources()
    }

    fn resources_changed(&self) -> watch::Receiver<u64> {
        self.0.registry.resources_changed()
    }
}

// === Inner ===

impl Inner {
    /// Whether a feature gate is on.
    pub(crate) fn enables(&self, gate: &str) -> bool {
        self.plugins.get().is_some_and(|p| p.gates.enabled(gate))
    }

    /// Whether CBOR is spoken.
    pub(crate) fn serves_cbor(&self) -> bool {
        self.enables("CBORServingAndStorage")
    }

    pub(crate) fn admission(&self) -> &[Arc<dyn Admission>] {
        self.plugins
            .get()
            .map(|p| p.admission.as_slice())
            .unwrap_or(&[])
    }

    /// Counts how long admission plugins take.
    pub(crate) fn admission_times(&self) -> Option<&crate::metrics::admission::Admission> {
        self.admission_times.get()
    }

    pub(crate) fn tracer(&self) -> Option<&crate::trace::Tracer> {
        self.plugins.get()?.tracer.as_ref()
    }

    pub(crate) fn encryption(&self) -> Option<&crate::encryption::Encryption> {
        self.plugins.get()?.encryption.as_ref()
    }

    pub(crate) fn creator(&self, d: &Descriptor, sub: &str) -> Option<Arc<dyn Creator>> {
        let key = (d.group.to_string(), d.resource.to_string(), sub.to_string());
        self.plugins.get()?.creators.get(&key).cloned()
    }

    pub(crate) fn connector(&self, d: &Descriptor, sub: &str) -> Option<Arc<dyn Connector>> {
        let key = (d.group.to_string(), d.resource.to_string(), sub.to_string());
        self.plugins.get()?.connectors.get(&key).cloned()
    }

    /// Waits until a cache is as fresh as a read asks: `None` or `""` is the newest write, `0` anything.
    pub(crate) async fn wait_fresh(
        &self,
        cache: &WatchCache,
        version: Option<&str>,
    ) -> Result<(), ApiError> {
        let wanted = match version {
            None | Some("") => self.store.revision().await.map_err(ApiError::internal)?,
            Some("0") => return Ok(()),
            Some(text) => parse_version(text)?,
        };
        if cache.revision() >= wanted {
            return Ok(());
        }
        let waited = tokio::time::timeout(limits::FRESH_WAIT, self.caught_up(cache, wanted)).await;
        waited.map_err(|_| too_large(wanted, cache.revision(), 1))?
    }

    /// Waits until a cache is at a revision. Where others write to the same etcd, or this server's own write
    /// was elsewhere, no event says so: the store is asked.
    async fn caught_up(&self, cache: &WatchCache, wanted: u64) -> Result<(), ApiError> {
        loop {
            let seen = tokio::time::timeout(limits::PROGRESS_EVERY, cache.wait_for(wanted)).await;
            if seen.is_ok() {
                return Ok(());
            }
            let asked = self.store.request_progress().await;
            asked.map_err(ApiError::internal)?;
        }
    }

    /// The lease of an event that is written now.
    pub(crate) async fn event_lease(&self) -> Result<i64, ApiError> {
        let ttl = self.plugins.get().and_then(|p| p.event_ttl);
        let ttl = ttl.unwrap_or(limits::EVENT_TTL);
        let taken = self.event_lease.take(&self.store, ttl).await;
        taken.map_err(ApiError::internal)
    }
}

/// A resourceVersion as a number; upstream's answer where it is none: a plain 500.
pub fn parse_version(text: &str) -> Result<u64, ApiError> {
    crate::list_options::parse_version(text).map_err(|why| ApiError::new(500, "", why))
}

/// Upstream's answer to a revision that is not there yet.
pub fn too_large(asked: u64, current: u64, retry_seconds: i32) -> ApiError {
    let mut e = ApiError::timeout(
        format!("Timeout: Too large resource version: {asked}, current: {current}"),
        retry_seconds,
    );
    if let Some(d) = e.details.as_mut() {
        d.causes.push(machinery::error::StatusCause {
            reason: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".into(),
            field: String::new(),
        });
    }
    e
}

/// A request with its body read.
pub struct Incoming {
    pub method: Method,
    pub path: String,
    pub raw_query: String,
    /// The path as it was sent.
    pub raw_path: String,
    pub headers: HeaderMap,
    /// Empty until the request is authorized.
    pub body: Bytes,
    pub(crate) upload: Option<crate::body::Upload>,
    pub peer: Peer,
    /// For connects: the request whose connection can be upgraded.
    pub upgrade: Option<hyper::upgrade::OnUpgrade>,
    /// When it came.
    pub begun: std::time::Instant,
    /// When the request is answered with a timeout, if it ever is.
    pub deadline: Option<std::time::Instant>,
    /// What it takes up of its priority level.
    pub(crate) seat: Option<crate::fairness::Seat>,
    /// Its audit event, where one is wanted.
    pub(crate) trail: Option<Arc<crate::audit::Trail>>,
}

impl Incoming {
    /// What was asked for, as it was sent.
    pub(crate) fn uri(&self) -> String {
        match self.raw_query.as_str() {
            "" => self.raw_path.clone(),
            query => format!("{}?{query}", self.raw_path),
        }
    }

    /// Reads the body.
    pub(crate) async fn read(&mut self) -> Result<(), ApiError> {
        let Some(upload) = self.upload.take() else {
            return Ok(());
        };
        let read = tokio::time::timeout(limits::REQUEST_TIMEOUT, upload.read());
        self.body = read.await.unwrap_or_else(|_| {
            let text = "the request's body did not come in time";
            Err(ApiError::timeout(text, 0))
        })?;
        Ok(())
    }

    /// The parts of a request, without its body.
    pub fn of<B>(request: &mut Request<B>, peer: Peer) -> Self {
        let upgrade = request
            .extensions_mut()
            .remove::<hyper::upgrade::OnUpgrade>();
        Self {
            method: request.method().clone(),
            path: crate::query::decode(request.uri().path(), false),
            raw_path: request.uri().path().to_string(),
            raw_query: request.uri().query().unwrap_or("").to_string(),
            headers: std::mem::take(request.headers_mut()),
            body: Bytes::new(),
            upload: None,
            peer,
            upgrade,
            begun: std::time::Instant::now(),
            deadline: None,
            seat: None,
            trail: None,
        }
    }
}
