//! Claims of pods: made from templates, told in the pods' status, reserved for pods that run without the
//! scheduler, and let go when no pod needs them. Upstream: pkg/controller/resourceclaim.
//! PodGroups have no claims here: the gate DRAWorkloadResourceClaims is off.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::v1::{Pod, PodResourceClaim};
use api::resource::v1::{ResourceClaim, ResourceClaimTemplate};
use async_trait::async_trait;
use client::api::{DeleteParams, Patch, PatchParams};
use client::recorder::reference;
use client::{Client, EventType, Recorder};
use reconciler::{During, Error, Event, Key, Next, Reconcile, Reconciler, Trigger, Wake};
use serde_json::json;

use self::plan::{ByName, FINALIZER, Standing};
use crate::common::act;
use crate::common::object::Object;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "resourceclaim-controller",
    account: "resource-claim-controller",
    component: "resource_claim",
    needs: &[
        ("", "pods"),
        ("resource.k8s.io", "resourceclaims"),
        ("resource.k8s.io", "resourceclaimtemplates"),
    ],
    build: |setup| Ok(build(setup)),
};

/// Who owns the statuses of claims in pods.
const MANAGER: &str = "ResourceClaimController";
/// One queue holds pods and claims: their keys begin with what they are of.
const POD: &str = "pod:";
const CLAIM: &str = "claim:";

fn build(setup: &Setup) -> Reconciler {
    let this = Claims {
        client: setup.client.clone(),
        recorder: setup.recorder.clone(),
    };
    let (claims, templates) = (setup.client.clone(), setup.client.clone());
    Reconciler::new("resourceclaim-controller", 10, this)
        .on(Trigger::map("", "pods", of_pod))
        .on(Trigger::map(
            "resource.k8s.io",
            "resourceclaims",
            move |e| {
                let name = &e.entry.name;
                let mut keys = pods_that(&claims, &e.entry.namespace, |p| {
                    plan::claim_names(p).iter().any(|n| n == &**name)
                });
                if e.deleted() {
                    // A claim that was made for a pod is made again.
                    let owner = e.entry.controller.as_ref().filter(|c| &*c.kind == "Pod");
                    keys.extend(owner.map(|c| key(POD, &e.entry.namespace, &c.name)));
                } else {
                    keys.push(key(CLAIM, &e.entry.namespace, name));
                }
                keys
            },
        ))
        .on(Trigger::map(
            "resource.k8s.io",
            "resourceclaimtemplates",
            move |e| {
                if e.deleted() {
                    return Vec::new();
                }
                let name = Some(e.entry.name.to_string());
                pods_that(&templates, &e.entry.namespace, |p| {
                    let mut claims = plan::claims(p).iter();
                    claims.any(|c| c.resource_claim_template_name == name)
                })
            },
        ))
}

fn key(of: &str, namespace: &str, name: &str) -> Wake {
    Key::new(namespace, &format!("{of}{name}")).into()
}

fn pods_that(client: &Client, namespace: &str, wanted: impl Fn(&Pod) -> bool) -> Vec<Wake> {
    let Ok(pods) = client.lister::<Pod>() else {
        return Vec::new();
    };
    let mut all = pods.list(Some(namespace));
    all.retain(|p| !plan::claims(p).is_empty() && wanted(p));
    all.iter().map(|p| key(POD, namespace, p.name())).collect()
}

fn of_pod(e: &Event<'_>) -> Vec<Wake> {
    let Some(pod) = e.typed::<Pod>() else {
        return Vec::new();
    };
    let namespace = &e.entry.namespace;
    let mut keys = Vec::new();
    if e.deleted() || plan::is_done(&pod) {
        let names = plan::claim_names(&pod);
        keys.extend(names.iter().map(|n| key(CLAIM, namespace, n)));
    }
    if !e.deleted() && !pod.deleting() && !plan::claims(&pod).is_empty() {
        keys.push(key(POD, namespace, pod.name()));
    }
    keys
}

struct Claims {
    client: Client,
    recorder: Recorder,
}

#[async_trait]
impl Reconcile for Claims {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let namespace = &key.namespace;
        if let Some(name) = key.name.strip_prefix(POD) {
            if let Some(pod) = self.client.lister::<Pod>()?.get(namespace, name) {
                self.pod(&pod).await?;
            }
        } else if let Some(name) = key.name.strip_prefix(CLAIM)
            && let Some(claim) = self.client.lister::<ResourceClaim>()?.get(namespace, name)
        {
            self.claim(&claim).await?;
        }
        Ok(Next::Done)
    }
}

// === Pods ===

impl Claims {
    async fn pod(&self, pod: &Pod) -> Result<(), Error> {
        if pod.deleting() {
            return Ok(());
        }
        let mut made = BTreeMap::new();
        for claim in plan::claims(pod) {
            match self.provide(pod, claim).await {
                Ok(None) => {}
                Ok(Some(name)) => {
                    made.insert(claim.name.clone(), name);
                }
                Err(error) => {
                    let message = format!("PodResourceClaim {}: {error}", claim.name);
                    let reason = "FailedResourceClaimCreation";
                    self.recorder
                        .event(reference(pod), EventType::Warning, reason, &message);
                    let (namespace, name) = (pod.namespace(), pod.name());
                    return Err(Error::Other(format!("pod {namespace}/{name}, {message}")));
                }
            }
        }
        if !made.is_empty() {
            self.tell(pod, made).await?;
        }
        // The scheduler reserves for pods that it places.
        match plan::node(pod) {
            "" => Ok(()),
            _ => self.reserve(pod).await,
        }
    }

    /// Makes a pod's claim where it is wanted and missing; gives the name of one that the pod does not tell yet.
    async fn provide(
        &self,
        pod: &Pod,
        wanted: &PodResourceClaim,
    ) -> Result<Option<String>, String> {
        let error = |e: client::NotServed| e.to_string();
        let claims = self.client.lister::<ResourceClaim>().map_err(error)?;
        match plan::name(pod, wanted) {
            ByName::NotNeeded => return Ok(None),
            ByName::Unknown => {}
            ByName::Of { name, made } => {
                let there = claims.get(pod.namespace(), name);
                if there.is_some_and(|c| !made || c.controlled_by(pod.uid())) {
                    return Ok(None);
                }
            }
        }
        let Some(template) = &wanted.resource_claim_template_name else {
            return Ok(None);
        };
        let all = claims.list(Some(pod.namespace()));
        if let Some(known) = all.iter().find(|c| plan::is_made_for(c, pod, &wanted.name)) {
            return Ok(Some(known.name().to_string()));
        }
        let templates = self.client.lister::<ResourceClaimTemplate>();
        let templates = templates.map_err(error)?;
        let found = templates.get(pod.namespace(), template).ok_or_else(|| {
            format!("resource claim template {template:?}: resourceclaimtemplate.resource.k8s.io {template:?} not found")
        })?;
        let claim = plan::claim_of(pod, wanted, &found);
        match act::create(&self.client, &claim).await {
            Ok(made) => Ok(Some(made.name().to_string())),
            Err(e) => Err(format!("create ResourceClaim : {}", client::message(&e))),
        }
    }

    /// Tells a pod the names of claims that were made for it.
    async fn tell(&self, pod: &Pod, made: BTreeMap<String, String>) -> Result<(), Error> {
        let statuses = plan::statuses(pod, made);
        let patch = Patch::Apply(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod.name(), "namespace": pod.namespace()},
            "status": {"resourceClaimStatuses": statuses}}));
        let params = PatchParams::apply(MANAGER).force();
        let api = self.client.namespaced::<Pod>(pod.namespace());
        let done = api.patch_status(pod.name(), &params, &patch).await;
        let written = done.during("update a pod's ResourceClaimStatuses")?;
        act::seen::<Pod>(&self.client, &written.metadata).await;
        Ok(())
    }

    /// Reserves the allocated claims of a pod that was bound without the scheduler.
    async fn reserve(&self, pod: &Pod) -> Result<(), Error> {
        let claims = self.client.lister::<ResourceClaim>()?;
        for wanted in plan::claims(pod) {
            let ByName::Of { name, made } = plan::name(pod, wanted) else {
                continue;
            };
            let Some(claim) = claims.get(pod.namespace(), name) else {
                return Ok(());
            };
            if made && !claim.controlled_by(pod.uid()) {
                return Err(Error::Other(plan::not_owner(pod, &claim)));
            }
            if let Some(claim) = plan::reserved(&claim, pod) {
                act::update_status(&self.client, &claim)
                    .await
                    .during("reserve a claim")?;
            }
        }
        Ok(())
    }
}

// === Claims ===

impl Claims {
    async fn claim(&self, claim: &ResourceClaim) -> Result<(), Error> {
        let mut standings = Vec::new();
        for consumer in plan::consumers(claim) {
            standings.push(match plan::is_pod(consumer) {
                true => self.standing(claim, &consumer.name, &consumer.uid).await?,
                false => Standing::Needs,
            });
        }
        let Some(next) = plan::released(claim, &standings) else {
            return self.delete_unused(claim, &standings).await;
        };
        let mut claim = claim.clone();
        if next.status != claim.status {
            claim = act::update_status(&self.client, &next)
                .await
                .during("remove a claim's consumers")?;
        }
        if plan::may_lose_finalizer(&claim) {
            let finalizers = claim.metadata.finalizers.get_or_insert_default();
            finalizers.retain(|f| f != FINALIZER);
            claim = act::update(&self.client, &claim)
                .await
                .during("remove a claim's finalizer")?;
        }
        self.delete_unused(&claim, &standings).await
    }

    /// Whether a pod that a claim is reserved for still needs it.
    async fn standing(
        &self,
        claim: &ResourceClaim,
        name: &str,
        uid: &str,
    ) -> Result<Standing, Error> {
        let namespace = claim.namespace();
        if let Some(pod) = self.client.lister::<Pod>()?.get(namespace, name) {
            return Ok(plan::standing(&pod, uid));
        }
        // The cache may be behind.
        let live = self.client.namespaced::<Pod>(namespace).get_opt(name).await;
        let live = live.during("get a claim's consumer")?;
        let there = live.is_some_and(|p| p.uid() == uid);
        Ok(if there {
            Standing::Needs
        } else {
            Standing::Gone
        })
    }

    /// Deletes a claim that was made for a pod which needs it no more. (If the pod is gone, so will be its claim.)
    async fn delete_unused(
        &self,
        claim: &ResourceClaim,
        standings: &[Standing],
    ) -> Result<(), Error> {
        if standings.contains(&Standing::Needs) {
            return Ok(());
        }
        let Some(owner) = plan::owning_pod(claim) else {
            return Ok(());
        };
        let pod: Option<Arc<Pod>> = self
            .client
            .lister::<Pod>()?
            .get(claim.namespace(), &owner.name);
        let unused = |p: &Pod| plan::standing(p, &owner.uid) == Standing::Gone;
        if !pod.is_some_and(|p| unused(&p)) {
            return Ok(());
        }
        let (namespace, name) = (claim.namespace(), claim.name());
        let params = DeleteParams::default();
        act::delete::<ResourceClaim>(&self.client, namespace, name, &params)
            .await
            .during("delete an unused generated claim")
    }
}
