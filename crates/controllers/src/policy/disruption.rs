//! PodDisruptionBudgets: how many pods may be evicted now. Upstream: pkg/controller/disruption.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use api::core::v1::{Pod, ReplicationController};
use api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use async_trait::async_trait;
use client::api::Patch;
use client::recorder::reference;
use client::{Client, EventType, Recorder};
use reconciler::{Clock, During, Error, Event, Key, Next, Reconcile, Reconciler, Trigger, Wake};
use serde_json::{Value, json};

use crate::common::object::Object;
use crate::common::{act, selector};
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "disruption-controller",
    account: "disruption-controller",
    component: "controllermanager",
    needs: &[("policy", "poddisruptionbudgets"), ("", "pods")],
    build: |setup| Ok(build(setup)),
};

/// Prefix of keys that mean a pod which may not be disrupted after all.
const POD: &str = "pod/";

fn build(setup: &Setup) -> Reconciler {
    let this = Disruption {
        client: setup.client.clone(),
        recorder: setup.recorder.clone(),
        clock: setup.clock.clone(),
    };
    let (pods, scaled) = (setup.client.clone(), setup.client.clone());
    let mut reconciler = Reconciler::new("disruption-controller", 1, this)
        .on(Trigger::own("policy", "poddisruptionbudgets"))
        .on(Trigger::map("", "pods", move |e| {
            let mut wakes = budgets_of(&pods, e);
            let target = |p: &Pod| plan::stale_target(p, jiff::Timestamp::MIN).is_some();
            if !e.deleted() && e.typed::<Pod>().is_some_and(|p| target(&p)) {
                let name = format!("{POD}{}", e.entry.name);
                wakes.push(Key::new(&e.entry.namespace, &name).into());
            }
            wakes
        }));
    let owners = [
        ("apps", "deployments"),
        ("apps", "replicasets"),
        ("apps", "statefulsets"),
        ("", "replicationcontrollers"),
    ];
    for (group, resource) in owners {
        let client = scaled.clone();
        reconciler = reconciler.on(Trigger::map(group, resource, move |e| {
            // A change of scale changes what is expected of the namespace's budgets.
            let generation = |e: &Arc<client::Entry>| {
                e.value()
                    .ok()
                    .and_then(|v| v["metadata"]["generation"].as_i64())
            };
            if e.before
                .is_some_and(|b| generation(b) == generation(e.entry))
            {
                return Vec::new();
            }
            all_budgets(&client, &e.entry.namespace)
        }));
    }
    reconciler
}

fn all_budgets(client: &Client, namespace: &str) -> Vec<Wake> {
    let Ok(budgets) = client.lister::<PodDisruptionBudget>() else {
        return Vec::new();
    };
    let all = budgets.cache().list(Some(namespace));
    all.iter().map(|b| Key::of(b).into()).collect()
}

fn budgets_of(client: &Client, e: &Event<'_>) -> Vec<Wake> {
    let Ok(budgets) = client.lister::<PodDisruptionBudget>() else {
        return Vec::new();
    };
    let all = budgets.list(Some(&e.entry.namespace));
    let states = [Some(e.entry), e.before];
    let concerned = all.iter().filter(|b| {
        let typed = b.spec.as_ref().and_then(|s| s.selector.as_ref());
        let parsed = typed.and_then(selector::parse);
        parsed.is_some_and(|s| {
            states
                .iter()
                .flatten()
                .any(|p| selector::matches_entry(&s, p))
        })
    });
    concerned
        .map(|b| Key::new(b.namespace(), b.name()).into())
        .collect()
}

struct Disruption {
    client: Client,
    recorder: Recorder,
    clock: Clock,
}

#[async_trait]
impl Reconcile for Disruption {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        if let Some(name) = key.name.strip_prefix(POD) {
            return self.clear_target(&key.namespace, name).await;
        }
        let budgets = self.client.lister::<PodDisruptionBudget>()?;
        let Some(budget) = budgets.get(&key.namespace, &key.name) else {
            return Ok(Next::Done);
        };
        let selected = self.selected(&budget)?;
        if selected.is_empty() {
            let message = "No matching pods found";
            let about = reference(&*budget);
            self.recorder
                .event(about, EventType::Normal, "NoPods", message);
        }
        let now = self.clock.now();
        match self.expected(&budget, &selected).await {
            Ok((expected, desired)) => {
                let (status, next) = plan::status(&budget, &selected, expected, desired, now);
                self.write(&budget, status).await?;
                Ok(next.into())
            }
            Err(why) => {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                let reason = "CalculateExpectedPodCountFailed";
                let about = reference(&*budget);
                self.recorder
                    .event(about, EventType::Warning, reason, &message);
                self.write(&budget, plan::failed(&budget, &why, now))
                    .await?;
                Err(Error::Other(why))
            }
        }
    }
}

impl Disruption {
    fn selected(&self, budget: &PodDisruptionBudget) -> Result<Vec<Arc<Pod>>, Error> {
        let typed = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
        let Some(wanted) = typed.and_then(selector::parse) else {
            return Ok(Vec::new());
        };
        let lister = self.client.lister::<Pod>()?;
        Ok(lister.select(Some(budget.namespace()), |e| {
            selector::matches_entry(&wanted, e)
        }))
    }

    /// How many pods there should be, and how many of them must be healthy.
    async fn expected(
        &self,
        budget: &PodDisruptionBudget,
        selected: &[Arc<Pod>],
    ) -> Result<(i32, i32), String> {
        let Some(spec) = &budget.spec else {
            return Ok((0, 0));
        };
        if let Some(counts) = plan::by_number(spec, selected.len()) {
            return Ok(counts);
        }
        let mut scales: BTreeMap<String, i32> = BTreeMap::new();
        let mut unmanaged = Vec::new();
        for pod in selected {
            match pod.controller() {
                None => unmanaged.push(pod.name().to_string()),
                Some(owner) if scales.contains_key(&owner.uid) => {}
                Some(_) => {
                    if let Some((uid, scale)) = self.scale_of(pod).await? {
                        scales.insert(uid, scale);
                    }
                }
            }
        }
        if !unmanaged.is_empty() {
            let shown = spec.selector.as_ref().map(|s| json!(s).to_string());
            let shown = shown.unwrap_or_default();
            let message = format!(
                "Pods selected by this PodDisruptionBudget (selector: {shown}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
            );
            let about = reference(budget);
            self.recorder
                .event(about, EventType::Warning, "UnmanagedPods", &message);
        }
        Ok(plan::by_scale(spec, scales.values().sum()))
    }

    /// The controller above a pod and its scale; `None` where it is gone.
    async fn scale_of(&self, pod: &Pod) -> Result<Option<(String, i32)>, String> {
        let Some(owner) = pod.controller() else {
            return Ok(None);
        };
        let namespace = pod.namespace();
        let group = owner.api_version.split_once('/').map_or("", |(g, _)| g);
        let gone = |e: client::NotServed| e.to_string();
        let found = match (group, owner.kind.as_str()) {
            ("apps", "ReplicaSet") => {
                let set = self.client.lister::<ReplicaSet>().map_err(gone)?;
                let Some(set) = set.get(namespace, &owner.name) else {
                    return Ok(None);
                };
                let above = set.controller().filter(|o| o.kind == "Deployment");
                let deployments = self.client.lister::<Deployment>().map_err(gone)?;
                let above = above.and_then(|o| deployments.get(namespace, &o.name));
                match above {
                    Some(d) => Some((d.uid().to_string(), d.spec.replicas.unwrap_or(1))),
                    None => Some((set.uid().to_string(), set.spec.replicas.unwrap_or(1))),
                }
            }
            ("apps", "StatefulSet") => {
                let lister = self.client.lister::<StatefulSet>().map_err(gone)?;
                let set = lister.get(namespace, &owner.name);
                set.map(|s| (s.uid().to_string(), s.spec.replicas.unwrap_or(1)))
            }
            ("", "ReplicationController") => {
                let lister = self
                    .client
                    .lister::<ReplicationController>()
                    .map_err(gone)?;
                let set = lister.get(namespace, &owner.name);
                set.map(|s| {
                    let replicas = s.spec.as_ref().and_then(|s| s.replicas);
                    (s.uid().to_string(), replicas.unwrap_or(1))
                })
            }
            _ => self.scale_subresource(namespace, group, owner).await?,
        };
        Ok(found)
    }

    /// The scale of a controller of any other kind.
    async fn scale_subresource(
        &self,
        namespace: &str,
        group: &str,
        owner: &api::meta::OwnerReference,
    ) -> Result<Option<(String, i32)>, String> {
        let all = self.client.reads().resources();
        let found = all
            .iter()
            .find(|d| d.group == group && d.kind == *owner.kind);
        let none = || format!("{} does not implement the scale subresource", owner.kind);
        let d = found.ok_or_else(none)?;
        if !d.subresources.iter().any(|s| s.name == "scale") {
            return Err(none());
        }
        let root = if group.is_empty() { "/api" } else { "/apis" };
        let path = format!(
            "{root}/{}/namespaces/{namespace}/{}/{}/scale",
            d.api_version(),
            d.resource,
            owner.name
        );
        let request = http::Request::get(path).body(Vec::new());
        let request = request.map_err(|e| e.to_string())?;
        match self.client.kube().request::<Value>(request).await {
            Ok(scale) => {
                let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
                let replicas = i32::try_from(replicas).unwrap_or(i32::MAX);
                Ok(Some((owner.uid.clone(), replicas)))
            }
            Err(e) if client::is_not_found(&e) => Ok(None),
            Err(e) => Err(client::message(&e)),
        }
    }

    async fn write(
        &self,
        budget: &PodDisruptionBudget,
        status: PodDisruptionBudgetStatus,
    ) -> Result<(), Error> {
        if budget
            .status
            .as_ref()
            .is_some_and(|s| plan::same_status(s, &status))
        {
            return Ok(());
        }
        let new = PodDisruptionBudget {
            status: Some(status),
            ..budget.clone()
        };
        act::update_status(&self.client, &new)
            .await
            .during("update the status")?;
        Ok(())
    }

    /// A pod that was to be disrupted and was not is no target any more.
    async fn clear_target(&self, namespace: &str, name: &str) -> Result<Next, Error> {
        let Some(pod) = self.client.lister::<Pod>()?.get(namespace, name) else {
            return Ok(Next::Done);
        };
        let Some(left) = plan::stale_target(&pod, self.clock.now()) else {
            return Ok(Next::Done);
        };
        if !left.is_zero() {
            return Ok(Next::After(left));
        }
        let now = self.clock.seconds().to_string();
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [{
            "type": "DisruptionTarget", "status": "False", "reason": "", "message": "",
            "lastTransitionTime": now}]}});
        let api = self.client.namespaced::<Pod>(namespace);
        let params = act::patch_params();
        match api
            .patch_status(name, &params, &Patch::Strategic(&patch))
            .await
        {
            Err(e) if client::is_not_found(&e) => {}
            done => {
                done.during("clear a disruption target")?;
            }
        }

        Ok(Next::Done)
    }
}
