//! Generic ephemeral volumes: a claim for each, owned by its pod.
//! Upstream: pkg/controller/volume/ephemeral.

use api::core::v1::{PersistentVolumeClaim, Pod};
use api::meta::ObjectMeta;
use async_trait::async_trait;
use client::recorder::reference;
use client::{Client, EventType, Recorder};
use reconciler::{During, Error, Key, Next, Reconcile, Reconciler, Trigger, owners};

use crate::common::object::{self, Object};
use crate::common::{act, pods};
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "ephemeral-volume-controller",
    account: "ephemeral-volume-controller",
    component: "ephemeral_volume",
    needs: &[("", "persistentvolumeclaims"), ("", "pods")],
    build: |setup| Ok(build(setup)),
};

fn build(setup: &Setup) -> Reconciler {
    let this = Ephemeral {
        client: setup.client.clone(),
        recorder: setup.recorder.clone(),
    };
    Reconciler::new("ephemeral-volume-controller", 5, this)
        .on(Trigger::map("", "pods", |e| {
            let added = e.before.is_none() && !e.deleted();
            let wants = |p: &Pod| {
                let mut volumes = p.spec.iter().flat_map(|s| s.volumes.iter().flatten());
                volumes.any(|v| v.ephemeral.is_some())
            };
            if added && e.typed::<Pod>().is_some_and(|p| wants(&p)) {
                vec![Key::of(e.entry).into()]
            } else {
                Vec::new()
            }
        }))
        .on(Trigger::map("", "persistentvolumeclaims", |e| {
            if e.deleted() {
                owners(e, "Pod")
            } else {
                Vec::new()
            }
        }))
}

struct Ephemeral {
    client: Client,
    recorder: Recorder,
}

#[async_trait]
impl Reconcile for Ephemeral {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let found = self.client.lister::<Pod>()?.get(&key.namespace, &key.name);
        let Some(pod) = found.filter(|p| !p.deleting() && !pods::terminal(p)) else {
            return Ok(Next::Done);
        };
        let claims = self.client.lister::<PersistentVolumeClaim>()?;
        let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        for volume in volumes {
            let template = volume
                .ephemeral
                .as_ref()
                .and_then(|e| e.volume_claim_template.as_ref());
            let Some(template) = template else { continue };
            let name = format!("{}-{}", pod.name(), volume.name);
            if let Some(known) = claims.get(&key.namespace, &name) {
                if known.controlled_by(pod.uid()) {
                    continue;
                }
                let (namespace, owner) = (&key.namespace, pod.name());
                let message = format!(
                    "ephemeral volume {}: PVC {namespace}/{name} was not created for pod {namespace}/{owner} (pod is not owner)",
                    volume.name
                );
                let about = reference(&*pod);
                self.recorder
                    .event(about, EventType::Warning, "FailedBinding", &message);
                return Err(Error::Other(message));
            }
            let meta = template.metadata.clone().unwrap_or_default();
            let claim = PersistentVolumeClaim {
                metadata: ObjectMeta {
                    name: Some(name),
                    namespace: pod.metadata.namespace.clone(),
                    labels: meta.labels,
                    annotations: meta.annotations,
                    owner_references: Some(vec![object::controller_ref(&*pod)]),
                    ..ObjectMeta::default()
                },
                spec: Some(template.spec.clone()),
                status: None,
            };
            match act::create(&self.client, &claim).await {
                Err(e) if client::is_namespace_terminating(&e) => {}
                done => {
                    done.during("create an ephemeral volume's claim")?;
                }
            }
        }
        Ok(Next::Done)
    }
}
