//! Volume attributes classes in use by volumes or claims are not removed under their users.
//! Upstream: pkg/controller/volume/vacprotection.

use std::sync::Arc;

use api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use api::storage::v1::VolumeAttributesClass;
use async_trait::async_trait;
use client::{Client, Kind};
use reconciler::{During, Error, Event, Key, Next, Reconcile, Reconciler, Trigger, Wake};

use crate::common::act;
use crate::common::object::Object;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "volumeattributesclass-protection-controller",
    account: "volumeattributesclass-protection-controller",
    component: "volumeattributesclass-protection-controller",
    needs: &[
        ("storage.k8s.io", "volumeattributesclasses"),
        ("", "persistentvolumes"),
        ("", "persistentvolumeclaims"),
    ],
    build: |setup| Ok(build(setup)),
};

const FINALIZER: &str = "kubernetes.io/vac-protection";

fn build(setup: &Setup) -> Reconciler {
    let this = Protection {
        client: setup.client.clone(),
    };
    Reconciler::new("volumeattributesclass-protection-controller", 1, this)
        .on(Trigger::own("storage.k8s.io", "volumeattributesclasses"))
        .on(Trigger::map("", "persistentvolumes", |e| {
            freed(e, of_volume)
        }))
        .on(Trigger::map("", "persistentvolumeclaims", |e| {
            freed(e, of_claim)
        }))
}

/// Wakes the classes that a change of an object lets go.
fn freed<K: Kind>(e: &Event<'_>, names: fn(&K) -> Vec<String>) -> Vec<Wake> {
    let (before, now) = (e.typed_before::<K>(), e.typed::<K>());
    let all = |o: Option<Arc<K>>| o.map_or_else(Vec::new, |o| names(&o));
    let gone = if e.deleted() {
        all(now.or(before))
    } else {
        let_go(all(before), &all(now))
    };
    gone.iter().map(|name| Key::new("", name).into()).collect()
}

fn let_go(mut before: Vec<String>, now: &[String]) -> Vec<String> {
    before.retain(|name| !now.contains(name));
    before
}

fn named(names: [Option<&String>; 3]) -> Vec<String> {
    let set = names.into_iter().flatten().filter(|n| !n.is_empty());
    set.cloned().collect()
}

fn of_volume(volume: &PersistentVolume) -> Vec<String> {
    let spec = volume.spec.as_ref();
    let name = spec.and_then(|s| s.volume_attributes_class_name.as_ref());
    named([name, None, None])
}

/// The classes that a claim wants, has, and is on its way to.
fn of_claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    let spec = claim.spec.as_ref();
    let status = claim.status.as_ref();
    let modify = status.and_then(|s| s.modify_volume_status.as_ref());
    named([
        spec.and_then(|s| s.volume_attributes_class_name.as_ref()),
        status.and_then(|s| s.current_volume_attributes_class_name.as_ref()),
        modify.and_then(|m| m.target_volume_attributes_class_name.as_ref()),
    ])
}

struct Protection {
    client: Client,
}

impl Protection {
    fn in_use(&self, class: &str) -> Result<bool, Error> {
        let volumes = self.client.lister::<PersistentVolume>()?.list(None);
        let claims = self.client.lister::<PersistentVolumeClaim>()?.list(None);
        Ok(volumes
            .iter()
            .any(|v| of_volume(v).iter().any(|n| n == class))
            || claims
                .iter()
                .any(|c| of_claim(c).iter().any(|n| n == class)))
    }
}

#[async_trait]
impl Reconcile for Protection {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let lister = self.client.lister::<VolumeAttributesClass>()?;
        let Some(class) = lister.get("", &key.name) else {
            return Ok(Next::Done);
        };
        let mut new = (*class).clone();
        let finalizers = new.metadata.finalizers.get_or_insert_default();
        match (class.deleting(), class.has_finalizer(FINALIZER)) {
            (true, true) if !self.in_use(&key.name)? => finalizers.retain(|f| f != FINALIZER),
            (false, false) => finalizers.push(FINALIZER.into()),
            _ => return Ok(Next::Done),
        }
        let api = self.client.all::<VolumeAttributesClass>();
        match api.replace(&key.name, &act::post_params(), &new).await {
            Err(e) if client::is_not_found(&e) => {}
            done => {
                done.during("change the class's finalizers")?;
            }
        }
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn claims_hold_the_classes_they_want_have_and_move_to() {
        let claim = |v: Value| -> PersistentVolumeClaim { serde_json::from_value(v).unwrap() };
        let all = claim(json!({"spec": {"volumeAttributesClassName": "a"},
            "status": {"currentVolumeAttributesClassName": "b",
                "modifyVolumeStatus": {"status": "Pending", "targetVolumeAttributesClassName": "c"}}}));
        assert_eq!(of_claim(&all), ["a", "b", "c"]);
        let empty = claim(json!({"spec": {"volumeAttributesClassName": ""}}));
        assert!(of_claim(&empty).is_empty());
    }

    #[test]
    fn a_change_wakes_the_classes_it_lets_go() {
        let names = |all: &[&str]| all.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        assert_eq!(let_go(names(&["a", "b"]), &names(&["b", "c"])), ["a"]);
        assert!(let_go(names(&[]), &names(&["a"])).is_empty());
    }
}
