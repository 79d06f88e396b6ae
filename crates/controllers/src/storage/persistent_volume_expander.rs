//! Claims that ask for more than they have. All volumes are grown by others than this: the claim's events say so.
//! Upstream: pkg/controller/volume/expand, for volumes without an in-tree plugin.

use api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use api::quantity::Quantity;
use async_trait::async_trait;
use client::recorder::reference;
use client::{Client, EventType, Recorder};
use reconciler::{Error, Key, Next, Reconcile, Reconciler, Trigger};

use crate::common::object::Object;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "persistentvolume-expander-controller",
    account: "expand-controller",
    component: "volume_expand",
    needs: &[("", "persistentvolumeclaims"), ("", "persistentvolumes")],
    build: |setup| Ok(build(setup)),
};

fn build(setup: &Setup) -> Reconciler {
    let this = Expander {
        client: setup.client.clone(),
        recorder: setup.recorder.clone(),
    };
    Reconciler::new("persistentvolume-expander-controller", 10, this).on(Trigger::map(
        "",
        "persistentvolumeclaims",
        |e| {
            let (old, new) = (e.typed_before(), e.typed::<PersistentVolumeClaim>());
            let grown = match (old, new) {
                _ if e.deleted() => false,
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(old), Some(new)) => wanted(&new) != wanted(&old),
            };
            if grown {
                vec![Key::of(e.entry).into()]
            } else {
                Vec::new()
            }
        },
    ))
}

struct Expander {
    client: Client,
    recorder: Recorder,
}

/// What a claim asks for.
fn wanted(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    Quantity::parse(&requests.get("storage")?.0).ok()
}

/// Whether a bound claim asks for more than it has.
fn grows(claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    let bound = status.and_then(|s| s.phase.as_deref()) == Some("Bound");
    let has = status.and_then(|s| s.capacity.as_ref()?.get("storage"));
    let has = has.and_then(|q| Quantity::parse(&q.0).ok());
    match (wanted(claim), has) {
        (Some(wanted), Some(has)) => bound && wanted > has,
        _ => false,
    }
}

#[async_trait]
impl Reconcile for Expander {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let found = self.client.lister::<PersistentVolumeClaim>()?;
        let found = found.get(&key.namespace, &key.name);
        let Some(claim) = found.filter(|c| grows(c)) else {
            return Ok(Next::Done);
        };
        let volume = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
        let volume = self
            .client
            .lister::<PersistentVolume>()?
            .get("", volume.unwrap_or(""));
        let bound = volume.is_some_and(|v| {
            let owner = v.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
            owner.and_then(|r| r.uid.as_deref()) == Some(claim.uid())
        });
        if bound {
            let text = "waiting for an external controller to expand this PVC";
            let about = reference(&*claim);
            self.recorder
                .event(about, EventType::Normal, "ExternalExpanding", text);
        }
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_bound_claims_grow() {
        let claim = |phase: &str, wanted: &str, has: &str| -> PersistentVolumeClaim {
            serde_json::from_value(json!({"metadata": {"name": "c"},
                "spec": {"resources": {"requests": {"storage": wanted}}},
                "status": {"phase": phase, "capacity": {"storage": has}}}))
            .unwrap()
        };
        assert!(grows(&claim("Bound", "2Gi", "1Gi")));
        assert!(!grows(&claim("Bound", "1Gi", "1024Mi")));
        assert!(!grows(&claim("Pending", "2Gi", "1Gi")));
    }
}
