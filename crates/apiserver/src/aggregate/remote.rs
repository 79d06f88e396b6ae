//! One APIService whose group version another server serves: where that is, and a pool of connections to it.

use std::sync::Arc;

use bytes::Bytes;
use client::Reads;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use machinery::object::{at, bool_at, i64_at, name, str_at};
use serde_json::{Value, json};
use webhook::{HttpClient, Verification};

use super::availability;
use super::documents::Documents;
use super::{Aggregation, Aggregator};

/// The port of a reference that names none.
const DEFAULT_PORT: u16 = 443;

/// `spec.service`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub namespace: String,
    pub name: String,
    pub port: u16,
}

/// A server behind this one, for one group version.
pub struct Remote {
    /// The APIService's.
    pub name: String,
    pub group: String,
    pub version: String,
    pub service: Reference,
    pub group_priority: i64,
    pub version_priority: i64,
    /// What its condition says.
    pub available: bool,
    pub documents: Arc<Documents>,
    /// Or why there can be none.
    pool: Result<HttpClient, String>,
    /// What pool and documents are of.
    dialled: Value,
}

/// Why a request came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// There is no pool of connections.
    Pool(String),
    /// The Service leads nowhere.
    Resolve(String),
    /// On the way to this URL.
    Way { url: String, why: String },
}

/// A request for a server behind this one.
pub struct Outgoing {
    pub method: Method,
    /// Escaped path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

// === Reference ===

impl Reference {
    /// The name that the server's certificate must hold.
    fn server_name(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }
}

// === Remote ===

impl Remote {
    /// From an APIService, `None` where it is local. Connections and documents are those of `before` where nothing
    /// changed about them.
    pub fn of(object: &Value, before: Option<&Remote>, aggregator: &Aggregator) -> Option<Self> {
        let spec = object.get("spec")?;
        let to = at(spec, "service")?;
        let port = i64_at(to, "port").and_then(|p| u16::try_from(p).ok());
        let service = Reference {
            namespace: str_at(to, "namespace").into(),
            name: str_at(to, "name").into(),
            port: port.unwrap_or(DEFAULT_PORT),
        };
        let insecure = bool_at(spec, "insecureSkipTLSVerify") == Some(true);
        let bundle = str_at(spec, "caBundle");
        let dialled = json!([
            service.namespace,
            service.name,
            service.port,
            insecure,
            bundle
        ]);
        let kept = before.filter(|b| b.dialled == dialled);
        let (pool, documents) = match kept {
            Some(b) => (b.pool.clone(), b.documents.clone()),
            None => (pool(&service, insecure, bundle, aggregator), Arc::default()),
        };
        Some(Self {
            name: name(object).into(),
            group: str_at(spec, "group").into(),
            version: str_at(spec, "version").into(),
            service,
            group_priority: i64_at(spec, "groupPriorityMinimum").unwrap_or(0),
            version_priority: i64_at(spec, "versionPriority").unwrap_or(0),
            available: availability::is_available(object),
            documents,
            pool,
            dialled,
        })
    }

    /// Whether discovery tells the same of both.
    pub fn ranks_as(&self, other: &Self) -> bool {
        let of = |r: &Self| (r.group_priority, r.version_priority);
        of(self) == of(other) && Arc::ptr_eq(&self.documents, &other.documents)
    }

    /// Its discovery document's path.
    pub fn path(&self) -> String {
        if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        }
    }

    /// The pool of connections.
    pub fn pool(&self) -> Result<&HttpClient, Failed> {
        self.pool.as_ref().map_err(|e| Failed::Pool(e.clone()))
    }

    /// An address of the server, `host:port`; each call may give another.
    pub fn resolve(&self, reads: &dyn Reads) -> Result<String, Failed> {
        let Reference {
            namespace,
            name,
            port,
        } = &self.service;
        let found = webhook::resolve(reads, namespace, name, *port).map_err(Failed::Resolve)?;
        let bare = found.host.trim_matches(['[', ']']);
        Ok(match bare.contains(':') {
            true => format!("[{bare}]:{}", found.port),
            false => format!("{bare}:{}", found.port),
        })
    }

    /// Sends a request to an address; gives the answer's head, its body still to come. The caller sets the time.
    pub async fn send(&self, address: &str, o: Outgoing) -> Result<Response<Incoming>, Failed> {
        let pool = self.pool()?;
        let url = format!("https://{address}{}", o.target);
        let failed = |why: String| Failed::Way {
            url: url.clone(),
            why,
        };
        let uri: Uri = url
            .parse()
            .map_err(|e: http::uri::InvalidUri| failed(e.to_string()))?;
        let mut request = Request::new(Full::new(o.body));
        *request.method_mut() = o.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = o.headers;
        let answer = pool.request(request).await;
        answer.map_err(|e| failed(webhook::cause(&e)))
    }
}

fn pool(
    service: &Reference,
    insecure: bool,
    bundle: &str,
    aggregator: &Aggregator,
) -> Result<HttpClient, String> {
    use base64::Engine;
    let pem = base64::prelude::BASE64_STANDARD.decode(bundle);
    let pem = pem.map_err(|e| format!("caBundle: {e}"))?;
    let verification = match insecure {
        true => Verification::Nobody,
        false => Verification::of_bundle(&pem),
    };
    let identity = aggregator.identity.get().map(Aggregation::identity);
    let tls = webhook::client_config(&verification, identity)?;
    webhook::pool(&aggregator.names, tls, &service.server_name())
}

impl Aggregation {
    fn identity(&self) -> webhook::Identity {
        (self.chain.clone(), self.key.clone_key())
    }
}
