//! What all parts of the kubelet share, and its start.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use api::certificates::v1::ClusterTrustBundle;
use api::core::v1::{
    ConfigMap, Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service,
};
use api::node::v1::RuntimeClass;
use client::api::DeleteParams;
use client::{Client, EventType, Lister, Recorder};
use cri::{Images, Runtime};
use machinery::request::{Authenticator, Authorizer};
use parking_lot::{Mutex, RwLock};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::Config;
use crate::downward::Facts;
use crate::env::Objects;
use crate::error::Error;
use crate::images::ImageManager;
use crate::network_files::{self, ResolvConf};
use crate::node::facts::NodeFacts;
use crate::observed::Observed;
use crate::paths::{self, Paths};
use crate::pod::{self, PodContainer};
use crate::pod_certificates::PodCertificates;
use crate::server::Guard;
use crate::static_pods;
use crate::tokens::Tokens;
use crate::worker::PodWorker;

/// What a kubelet is joined with.
#[derive(Clone)]
pub struct Parts {
    /// Identity `system:node:<name>`.
    pub client: Client,
    pub runtime: Arc<dyn Runtime>,
    pub images: Arc<dyn Images>,
    /// Who may use the HTTPS server.
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    pub authorizers: Vec<Arc<dyn Authorizer>>,
}

/// One node's agent.
pub(crate) struct Kubelet {
    pub config: Config,
    pub client: Client,
    pub runtime: Arc<dyn Runtime>,
    pub runtime_name: String,
    pub images: ImageManager,
    pub recorder: Recorder,
    pub paths: Paths,
    pub tokens: Tokens,
    pub certificates: PodCertificates,
    pub statics: static_pods::Wanted,
    pub facts: NodeFacts,
    pub workers: RwLock<HashMap<String, Arc<PodWorker>>>,
    pub pods: Lister<Pod>,
    pub node_status: Mutex<crate::node::Pressure>,
    pub image_use: crate::image_gc::ImageUse,
    pub probe_counts: Mutex<crate::probes::Counts>,
    config_maps: Lister<ConfigMap>,
    secrets: Lister<Secret>,
    services: Lister<Service>,
    nodes: Lister<Node>,
    claims: Option<Lister<PersistentVolumeClaim>>,
    volumes: Option<Lister<PersistentVolume>>,
    runtime_classes: Option<Lister<RuntimeClass>>,
    trust_bundles: Option<Lister<ClusterTrustBundle>>,
}

/// Runs until `shutdown` becomes true. Containers go on; the next start adopts them.
pub async fn run(
    config: Config,
    parts: Parts,
    shutdown: watch::Receiver<bool>,
) -> Result<(), Error> {
    let kubelet = Arc::new(Kubelet::new(config, &parts).await?);
    let serving = listen(&kubelet).await?;
    let mut tasks = tokio::task::JoinSet::new();
    let until = |mut s: watch::Receiver<bool>| async move {
        // An ended sender is a shutdown too.
        let _ = s.wait_for(|down| *down).await;
    };
    kubelet.node_event(EventType::Normal, "Starting", "Starting kubelet.");
    tasks.spawn(crate::node::run(kubelet.clone()));
    tasks.spawn(crate::node::lease::run(kubelet.clone()));
    // Before those of the API, which say what is an orphan.
    static_pods::read(&kubelet);
    tasks.spawn(static_pods::run(kubelet.clone()));
    tasks.spawn(crate::pods::run(kubelet.clone()));
    tasks.spawn(crate::pods::follow_runtime(kubelet.clone()));
    tasks.spawn(crate::pods::follow_objects(kubelet.clone()));
    tasks.spawn(crate::log_rotation::run(kubelet.clone()));
    tasks.spawn(crate::eviction::run(kubelet.clone()));
    tasks.spawn(crate::image_gc::run(kubelet.clone()));
    if let Some((listener, tls)) = serving {
        let guard = Arc::new(Guard {
            authenticators: parts.authenticators,
            authorizers: parts.authorizers,
        });
        tasks.spawn(crate::server::run(kubelet.clone(), guard, listener, tls));
    }
    let ended = until(shutdown);
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => break,
            done = tasks.join_next() => match done {
                Some(Err(e)) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
                Some(_) => {}
                None => break,
            },
        }
    }
    tasks.shutdown().await;
    kubelet.stop_workers();
    Ok(())
}

type Listening = (TcpListener, Arc<rustls::ServerConfig>);

async fn listen(kubelet: &Kubelet) -> Result<Option<Listening>, Error> {
    let (Some(port), Some(tls)) = (kubelet.config.port, kubelet.config.tls.clone()) else {
        return Ok(None);
    };
    // On all addresses: the API server comes to the node's, probes of the host to localhost.
    let fail = |source| Error::Listen { port, source };
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await;
    Ok(Some((listener.map_err(fail)?, tls)))
}

// === Kubelet ===

impl Kubelet {
    /// Deletes a pod's object without grace, the one of this uid; one that is gone or another's now is no error.
    pub(crate) async fn delete_now(&self, p: &Pod, uid: Option<&str>) -> Result<(), client::Error> {
        let api = self.client.namespaced::<Pod>(pod::namespace(p));
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: uid.and_then(client::only_uid),
            ..DeleteParams::default()
        };
        match api.delete(pod::name(p), &params).await {
            Err(e) if !client::is_not_found(&e) && !client::is_conflict(&e) => Err(e),
            _ => Ok(()),
        }
    }

    async fn new(config: Config, parts: &Parts) -> Result<Self, Error> {
        let paths = Paths {
            root: config.root_dir.clone(),
            pod_logs: config.pod_log_dir.clone(),
            container_logs: config.container_log_dir.clone(),
        };
        let dirs = [
            (paths.root.clone(), 0o750),
            (paths.pods(), 0o750),
            (paths.pod_logs.clone(), 0o750),
            (paths.container_logs.clone(), 0o755),
        ];
        for (dir, mode) in dirs {
            paths::make(&dir, mode).map_err(|source| Error::Directories {
                path: dir.display().to_string(),
                source,
            })?;
        }
        let client = parts.client.clone();
        let status = parts.runtime.status().await.map_err(Error::Runtime)?;
        let recorder = Recorder::new(client.clone(), "kubelet", &config.node_name);
        let facts = NodeFacts::read(&config, &status);
        Ok(Self {
            runtime_name: status.name,
            images: ImageManager::new(parts.images.clone(), recorder.clone()),
            runtime: parts.runtime.clone(),
            pods: client.lister()?,
            config_maps: client.lister()?,
            secrets: client.lister()?,
            services: client.lister()?,
            nodes: client.lister()?,
            claims: client.lister().ok(),
            volumes: client.lister().ok(),
            runtime_classes: client.lister().ok(),
            trust_bundles: client.lister().ok(),
            tokens: Tokens::default(),
            certificates: PodCertificates::default(),
            statics: static_pods::Wanted::default(),
            workers: RwLock::default(),
            node_status: Mutex::default(),
            image_use: crate::image_gc::ImageUse::default(),
            probe_counts: Mutex::default(),
            recorder,
            paths,
            facts,
            client,
            config,
        })
    }

    /// The node's own object.
    pub fn node(&self) -> Option<Arc<Node>> {
        self.nodes.get("", &self.config.node_name)
    }

    /// A PersistentVolumeClaim.
    pub fn claim(&self, namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        self.claims.as_ref()?.get(namespace, name)
    }

    /// A PersistentVolume.
    pub fn persistent_volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        self.volumes.as_ref()?.get("", name)
    }

    /// A RuntimeClass.
    pub fn runtime_class(&self, name: &str) -> Option<Arc<RuntimeClass>> {
        self.runtime_classes.as_ref()?.get("", name)
    }

    /// All ClusterTrustBundles.
    pub fn trust_bundles(&self) -> Vec<Arc<ClusterTrustBundle>> {
        let lister = self.trust_bundles.as_ref();
        lister.map(|l| l.list(None)).unwrap_or_default()
    }

    /// The node's addresses as texts.
    pub fn host_ips(&self) -> Vec<String> {
        self.config
            .node_ips
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// What the downward API knows beyond the pod.
    pub fn downward_facts(&self, p: &Pod, pod_ips: &[String]) -> Facts {
        let host_ips = self.host_ips();
        let pod_ips = if crate::pod::is_host_network(p) {
            host_ips.clone()
        } else {
            pod_ips.to_vec()
        };
        Facts {
            host_ips,
            pod_ips,
            allocatable: self.facts.allocatable.clone(),
        }
    }

    /// The node's resolv.conf as it is now.
    pub fn resolv_conf(&self) -> ResolvConf {
        match std::fs::read_to_string(&self.config.resolv_conf) {
            Ok(text) => network_files::parse_resolv_conf(&text),
            Err(error) => {
                tracing::warn!(%error, path = %self.config.resolv_conf.display(), "resolv.conf not read");
                ResolvConf::default()
            }
        }
    }

    /// What the runtime has of a pod.
    pub async fn observe(&self, uid: &str) -> Result<Observed, cri::Error> {
        let sandboxes = self.runtime.list_pod_sandboxes().await?;
        let containers = self.runtime.list_containers().await?;
        Ok(Observed::of(uid, &sandboxes, &containers))
    }

    /// The worker of a pod.
    pub fn worker(&self, uid: &str) -> Option<Arc<PodWorker>> {
        self.workers.read().get(uid).cloned()
    }

    /// An event about a pod.
    pub fn event(&self, p: &Pod, kind: EventType, reason: &str, message: &str) {
        let about = client::recorder::reference(p);
        self.recorder.event(about, kind, reason, message);
    }

    /// What events about a container are about.
    pub fn about(&self, p: &Pod, c: &PodContainer<'_>) -> ObjectReference {
        ObjectReference {
            field_path: Some(c.field_path()),
            ..client::recorder::reference(p)
        }
    }

    /// An event about a container.
    pub fn container_event(
        &self,
        p: &Pod,
        c: &PodContainer<'_>,
        kind: EventType,
        reason: &str,
        message: &str,
    ) {
        self.recorder.event(self.about(p, c), kind, reason, message);
    }

    /// An event about the node.
    pub fn node_event(&self, kind: EventType, reason: &str, message: &str) {
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(self.config.node_name.clone()),
            ..ObjectReference::default()
        };
        self.recorder.event(about, kind, reason, message);
    }

    fn stop_workers(&self) {
        for worker in self.workers.write().drain().map(|(_, w)| w) {
            worker.abandon();
        }
    }
}

impl Objects for Kubelet {
    fn config_map(&self, namespace: &str, name: &str) -> Option<Arc<ConfigMap>> {
        self.config_maps.get(namespace, name)
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>> {
        self.secrets.get(namespace, name)
    }

    fn services(&self, namespace: &str) -> Vec<Arc<Service>> {
        self.services.list(Some(namespace))
    }
}
