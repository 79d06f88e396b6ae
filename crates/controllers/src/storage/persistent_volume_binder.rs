//! Claims find their volumes. Upstream: pkg/controller/volume/persistentvolume. One worker looks at
//! claims and volumes in turn. There are no in-tree provisioners, deleters or recyclers: dynamic
//! volumes come from CSI drivers.

mod claim;
mod matching;
mod volume;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use api::storage::v1::StorageClass;
use async_trait::async_trait;
use client::recorder::reference;
use client::{Client, EventType, Recorder};
use reconciler::{During, Error, Event, Key, Next, Reconcile, Reconciler, Trigger, Wake};

use crate::common::act;
use crate::common::object::Object;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "persistentvolume-binder-controller",
    account: "persistent-volume-binder",
    component: "persistentvolume-controller",
    needs: &[
        ("", "persistentvolumes"),
        ("", "persistentvolumeclaims"),
        ("storage.k8s.io", "storageclasses"),
    ],
    build: |setup| Ok(build(setup)),
};

/// The claim is bound, and both sides know.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// This controller chose the other side.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// The node that the scheduler chose for the first consumer.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Who is to provision the claim's volume.
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const PROVISIONER_BETA: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// Who provisioned the volume.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

fn build(setup: &Setup) -> Reconciler {
    let this = Binder {
        client: setup.client.clone(),
        recorder: setup.recorder.clone(),
    };
    let (volumes, classes) = (setup.client.clone(), setup.client.clone());
    Reconciler::new("persistentvolume-binder-controller", 1, this)
        .on(Trigger::map("", "persistentvolumeclaims", |e| {
            let mut wakes = vec![Key::of(e.entry).into()];
            let claim = e.typed::<PersistentVolumeClaim>();
            let volume = claim.and_then(|c| c.spec.as_ref()?.volume_name.clone());
            wakes.extend(volume.map(|v| Key::new("", &v).into()));
            wakes
        }))
        .on(Trigger::map("", "persistentvolumes", move |e| {
            volume_changed(&volumes, e)
        }))
        .on(Trigger::map(
            "storage.k8s.io",
            "storageclasses",
            move |_| waiting_claims(&classes),
        ))
}

fn volume_changed(client: &Client, e: &Event<'_>) -> Vec<Wake> {
    let mut wakes: Vec<Wake> = vec![Key::of(e.entry).into()];
    let volume = e.typed::<PersistentVolume>();
    let claim = volume
        .as_ref()
        .and_then(|v| v.spec.as_ref()?.claim_ref.clone());
    match claim {
        Some(c) => {
            let namespace = c.namespace.unwrap_or_default();
            wakes.push(Key::new(&namespace, &c.name.unwrap_or_default()).into());
        }
        // A free volume may be what a claim waits for.
        None if !e.deleted() => wakes.extend(waiting_claims(client)),
        None => {}
    }
    wakes
}

fn waiting_claims(client: &Client) -> Vec<Wake> {
    let Ok(claims) = client.lister::<PersistentVolumeClaim>() else {
        return Vec::new();
    };
    let all = claims.list(None);
    let waiting = all
        .iter()
        .filter(|c| !c.annotations().contains_key(BIND_COMPLETED));
    waiting
        .map(|c| Key::new(c.namespace(), c.name()).into())
        .collect()
}

pub(super) struct Binder {
    client: Client,
    recorder: Recorder,
}

#[async_trait]
impl Reconcile for Binder {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        if key.namespace.is_empty() {
            if let Some(volume) = self.volume(&key.name)? {
                self.sync_volume(&volume).await?;
            }
        } else {
            let claims = self.client.lister::<PersistentVolumeClaim>()?;
            if let Some(claim) = claims.get(&key.namespace, &key.name) {
                self.sync_claim(&claim).await?;
            }
        }
        Ok(Next::Done)
    }
}

impl Binder {
    fn volume(&self, name: &str) -> Result<Option<Arc<PersistentVolume>>, Error> {
        Ok(self.client.lister::<PersistentVolume>()?.get("", name))
    }

    fn class(&self, name: &str) -> Result<Option<Arc<StorageClass>>, Error> {
        Ok(self.client.lister::<StorageClass>()?.get("", name))
    }

    /// The default class: the youngest of those marked so.
    fn default_class(&self) -> Result<Option<Arc<StorageClass>>, Error> {
        const MARK: &str = "storageclass.kubernetes.io/is-default-class";
        const BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";
        let all = self.client.lister::<StorageClass>()?.list(None);
        let marked = all
            .into_iter()
            .filter(|c| c.annotation(MARK) == "true" || c.annotation(BETA) == "true");
        Ok(marked.max_by(|a, b| {
            let age = a.created().cmp(&b.created());
            age.then_with(|| b.name().cmp(a.name()))
        }))
    }

    fn tell_claim(&self, c: &PersistentVolumeClaim, kind: EventType, reason: &str, message: &str) {
        self.recorder.event(reference(c), kind, reason, message);
    }

    fn tell_volume(&self, v: &PersistentVolume, kind: EventType, reason: &str, message: &str) {
        self.recorder.event(reference(v), kind, reason, message);
    }

    async fn write_volume(&self, new: &PersistentVolume) -> Result<PersistentVolume, Error> {
        let api = self.client.all::<PersistentVolume>();
        let written = api.replace(new.name(), &act::post_params(), new).await;
        let written = written.during("update a volume")?;
        act::seen::<PersistentVolume>(&self.client, &written.metadata).await;
        Ok(written)
    }

    /// Sets a volume's phase, where it is another.
    async fn set_phase(
        &self,
        volume: &PersistentVolume,
        phase: &str,
        message: &str,
    ) -> Result<PersistentVolume, Error> {
        let status = volume.status.clone().unwrap_or_default();
        let same = status.phase.as_deref() == Some(phase)
            && status.message.as_deref().unwrap_or("") == message;
        if same {
            return Ok(volume.clone());
        }
        let mut new = volume.clone();
        let status = new.status.get_or_insert_default();
        status.phase = Some(phase.into());
        status.message = Some(message.to_string()).filter(|m| !m.is_empty());
        let api = self.client.all::<PersistentVolume>();
        let written = api
            .replace_status(new.name(), &act::post_params(), &new)
            .await;
        let written = written.during("update a volume's phase")?;
        act::seen::<PersistentVolume>(&self.client, &written.metadata).await;
        Ok(written)
    }
}

/// Sets an annotation; tells whether that changed anything.
fn annotate(map: &mut Option<BTreeMap<String, String>>, key: &str, value: &str) -> bool {
    let map = map.get_or_insert_default();
    map.insert(key.into(), value.into()).as_deref() != Some(value)
}
