//! Certificates of pods: for each `podCertificate` source a key, a PodCertificateRequest, and what its signer
//! answered, refreshed in time. Upstream: pkg/kubelet/podcertificate. Its queue is here the pod's own sync:
//! a request that changes wakes the pod. Nothing is kept over a restart, then all are asked for anew.

mod state;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::certificates::v1::{PodCertificateRequest, PodCertificateRequestSpec};
use api::core::v1::{Pod, PodCertificateProjection, ServiceAccount};
use api::k8s_openapi::ByteString;
use api::meta::{ObjectMeta, OwnerReference};
use client::{EventType, Lister};
use jiff::Timestamp;
use kube::api::PostParams;
use parking_lot::Mutex;

use crate::kubelet::Kubelet;
use crate::limits;
use crate::pod;
use state::{Pending, State, Told};

/// A pod's uid, a volume and the place of a source in it.
type Key = (String, String, usize);

/// What a source gives: a private key and its certificates, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    pub key: String,
    pub chain: String,
}

/// One source of one volume of a pod.
pub struct Source<'a> {
    pub pod: &'a Pod,
    pub volume: &'a str,
    pub index: usize,
    pub projection: &'a PodCertificateProjection,
}

/// The certificates of all pods of the node.
#[derive(Default)]
pub struct PodCertificates {
    states: Mutex<HashMap<Key, State>>,
}

// === PodCertificates ===

impl PodCertificates {
    /// The bundle of a source as it is now. Asks for one where there is none or it is due.
    pub(crate) async fn get(
        &self,
        kubelet: &Kubelet,
        source: &Source<'_>,
    ) -> Result<Bundle, String> {
        let uid = pod::uid(source.pod).to_string();
        let key = (uid, source.volume.to_string(), source.index);
        let mut state = self.states.lock().remove(&key).unwrap_or_default();
        let failed = advance(kubelet, source, &mut state).await.err();
        let bundle = state.bundle();
        self.states.lock().insert(key, state);
        match (bundle, failed) {
            (Ok(bundle), failed) => {
                if let Some(error) = failed {
                    let pod = pod::format(source.pod);
                    tracing::warn!(
                        pod,
                        volume = source.volume,
                        error,
                        "pod certificate not refreshed"
                    );
                }
                Ok(bundle)
            }
            (Err(_), Some(error)) => Err(error),
            (Err(text), None) => Err(text),
        }
    }

    /// When something of a pod is due.
    pub fn next_due(&self, uid: &str, now: Timestamp) -> Option<Duration> {
        let states = self.states.lock();
        let own = states.iter().filter(|((u, _, _), _)| u == uid);
        let dues = own.filter_map(|(_, s)| s.due());
        let left = dues.map(|at| at.duration_since(now)).min()?;
        let left = Duration::try_from(left).unwrap_or_default();
        Some(left.max(limits::POD_CERTIFICATE_MIN_WAIT))
    }

    /// Forgets pods that are gone.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.states.lock().retain(|(uid, _, _), _| keep(uid));
    }

    /// How many sources of each signer are in which state; `signer` names that of a source.
    pub fn counts(
        &self,
        signer: impl Fn(&str, &str, usize) -> Option<String>,
        now: Timestamp,
    ) -> BTreeMap<(String, &'static str), usize> {
        let mut counts = BTreeMap::new();
        for ((uid, volume, index), state) in self.states.lock().iter() {
            if let Some(signer) = signer(uid, volume, *index) {
                *counts.entry((signer, state.name(now))).or_default() += 1;
            }
        }
        counts
    }
}

/// Takes a source as far as it goes now.
async fn advance(kubelet: &Kubelet, source: &Source<'_>, state: &mut State) -> Result<(), String> {
    if state.wants_request(Timestamp::now()) {
        let pending = request(kubelet, source, state.is_refresh()).await?;
        state.asked(pending);
    }
    // The answer may have come before this knew of the question.
    let Some(name) = state.request() else {
        return Ok(());
    };
    let namespace = pod::namespace(source.pod);
    let lister: Lister<PodCertificateRequest> =
        kubelet.client.lister().map_err(|e| e.to_string())?;
    let found = lister.get(namespace, name);
    let (now, jitter) = (Timestamp::now(), rand::random::<f64>());
    for told in state.see(namespace, found.as_deref(), now, jitter)? {
        let (reason, text) = match &told {
            Told::Overdue => (
                "CertificateOverdueForRefresh",
                "PodCertificate refresh overdue",
            ),
            Told::Expired => ("CertificateExpired", "PodCertificate expired"),
            Told::Denied(text) => ("Denied", text.as_str()),
            Told::Failed(text) => ("Failed", text.as_str()),
        };
        kubelet.event(source.pod, EventType::Warning, reason, text);
    }
    Ok(())
}

/// Makes a key and asks for a certificate of it.
async fn request(kubelet: &Kubelet, source: &Source<'_>, refresh: bool) -> Result<Pending, String> {
    let what = if refresh { "refresh" } else { "initial" };
    let (p, wanted) = (source.pod, source.projection);
    let namespace = pod::namespace(p);
    let account = pod::spec(p)
        .service_account_name
        .clone()
        .unwrap_or_default();
    let accounts = kubelet.client.namespaced::<ServiceAccount>(namespace);
    let found = accounts.get(&account).await;
    let found =
        found.map_err(|e| format!("while fetching service account: {}", client::message(&e)))?;
    let node = kubelet.node().ok_or_else(|| {
        let name = &kubelet.config.node_name;
        format!("while getting node object from local cache: node {name:?} not found")
    })?;
    let wrap = |e: String| format!("while creating {what} PodCertificateRequest: {e}");
    let key_type = wanted.key_type.clone();
    let stub = tokio::task::spawn_blocking(move || pki::Stub::generate(&key_type));
    let stub = stub.await.map_err(|e| wrap(e.to_string()))?;
    let stub = stub.map_err(|e| wrap(format!("while generating keypair: {e}")))?;
    let body = PodCertificateRequest {
        metadata: ObjectMeta {
            namespace: p.metadata.namespace.clone(),
            generate_name: Some("req-".into()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Pod".into(),
                name: pod::name(p).into(),
                uid: pod::uid(p).into(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: PodCertificateRequestSpec {
            signer_name: wanted.signer_name.clone(),
            pod_name: pod::name(p).into(),
            pod_uid: pod::uid(p).into(),
            service_account_name: account,
            service_account_uid: found.metadata.uid.unwrap_or_default(),
            node_name: kubelet.config.node_name.clone(),
            node_uid: node.metadata.uid.clone().unwrap_or_default(),
            max_expiration_seconds: wanted.max_expiration_seconds,
            stub_pkc_s10_request: ByteString(stub.request),
            unverified_user_annotations: wanted.user_annotations.clone(),
        },
        status: None,
    };
    let api = kubelet
        .client
        .namespaced::<PodCertificateRequest>(namespace);
    let made = api.create(&PostParams::default(), &body).await;
    let made = made.map_err(|e| wrap(format!("while creating on API: {}", client::message(&e))))?;
    let name = made.metadata.name.unwrap_or_default();
    tracing::debug!(
        pod = pod::format(p),
        volume = source.volume,
        request = name,
        "pod certificate asked for"
    );
    let created = made
        .metadata
        .creation_timestamp
        .map_or_else(Timestamp::now, |t| t.0);
    Ok(Pending::new(stub.key, name, created, rand::random()))
}

/// Whether a pod has a source of this kind.
pub fn wants(p: &Pod) -> bool {
    let volumes = pod::spec(p).volumes.iter().flatten();
    let sources = volumes.filter_map(|v| v.projected.as_ref()?.sources.as_ref());
    sources.flatten().any(|s| s.pod_certificate.is_some())
}

/// The signer of a source.
pub fn signer(p: &Pod, volume: &str, index: usize) -> Option<String> {
    let mut volumes = pod::spec(p).volumes.iter().flatten();
    let found = volumes.find(|v| v.name == volume)?;
    let source = found.projected.as_ref()?.sources.as_ref()?.get(index)?;
    Some(source.pod_certificate.as_ref()?.signer_name.clone())
}

/// Wakes pods whose requests changed, for ever.
pub(crate) async fn follow(kubelet: &Arc<Kubelet>) {
    let Ok(lister): Result<Lister<PodCertificateRequest>, _> = kubelet.client.lister() else {
        return;
    };
    loop {
        let mut sub = lister.subscribe();
        while let Some(change) = sub.changes.recv().await {
            let request = client::lister::typed::<PodCertificateRequest>(&change.entry);
            if let Some(worker) = request.and_then(|r| kubelet.worker(&r.spec.pod_uid)) {
                worker.wake();
            }
        }
        tokio::time::sleep(limits::RESUBSCRIBE).await;
        let workers = kubelet.workers.read();
        workers
            .values()
            .filter(|w| wants(&w.pod()))
            .for_each(|w| w.wake());
    }
}
