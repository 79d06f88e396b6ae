//! Volumes in use are not removed under their users.
//! Upstream: pkg/controller/volume/pvprotection.

use api::core::v1::PersistentVolume;
use async_trait::async_trait;
use client::Client;
use reconciler::{During, Error, Key, Next, Reconcile, Reconciler, Trigger};

use crate::common::act;
use crate::common::object::Object;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "persistentvolume-protection-controller",
    account: "pv-protection-controller",
    component: "pv-protection-controller",
    needs: &[("", "persistentvolumes")],
    build: |setup| Ok(build(setup)),
};

const FINALIZER: &str = "kubernetes.io/pv-protection";

fn build(setup: &Setup) -> Reconciler {
    let this = Protection {
        client: setup.client.clone(),
    };
    Reconciler::new("persistentvolume-protection-controller", 1, this)
        .on(Trigger::own("", "persistentvolumes"))
}

struct Protection {
    client: Client,
}

#[async_trait]
impl Reconcile for Protection {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(volume) = self.client.lister::<PersistentVolume>()?.get("", &key.name) else {
            return Ok(Next::Done);
        };
        let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
        let protected = volume.has_finalizer(FINALIZER);
        let mut new = (*volume).clone();
        let finalizers = new.metadata.finalizers.get_or_insert_default();
        match (volume.deleting(), protected) {
            (true, true) if phase != Some("Bound") => finalizers.retain(|f| f != FINALIZER),
            (false, false) => finalizers.push(FINALIZER.into()),
            _ => return Ok(Next::Done),
        }
        let api = self.client.all::<PersistentVolume>();
        match api.replace(&key.name, &act::post_params(), &new).await {
            Err(e) if client::is_not_found(&e) => {}
            done => {
                done.during("change the volume's finalizers")?;
            }
        }
        Ok(Next::Done)
    }
}
