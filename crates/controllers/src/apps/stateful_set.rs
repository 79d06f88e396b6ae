//! StatefulSets: pods with a name, a place in an order and volumes of their own.
//! Upstream: pkg/controller/statefulset. (Strategy Recreate is alpha in 1.37 and off.)

mod claims;
mod identity;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use api::core::v1::{Pod, PodTemplateSpec};
use async_trait::async_trait;
use client::api::DeleteParams;
use client::recorder::reference;
use client::{Client, Entry, EventType, Recorder};
use reconciler::{
    Clock, During, Error, Event, Key, Next, Reconcile, Reconciler, Trigger, Wake, owners,
};

use self::plan::{Seen, Step};
use crate::common::claim::Claim;
use crate::common::object::Object;
use crate::common::{act, hash, revisions, selector};
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "statefulset-controller",
    account: "statefulset-controller",
    component: "statefulset-controller",
    needs: &[
        ("apps", "statefulsets"),
        ("apps", "controllerrevisions"),
        ("", "pods"),
    ],
    build: |setup| Ok(build(setup)),
};

/// The label of a revision's hash.
const HASH: &str = "controller.kubernetes.io/hash";
/// The label of pods that names their revision.
pub const REVISION: &str = "controller-revision-hash";

fn build(setup: &Setup) -> Reconciler {
    let this = StatefulSets {
        client: setup.client.clone(),
        recorder: setup.recorder.clone(),
        clock: setup.clock.clone(),
    };
    let pods = setup.client.clone();
    Reconciler::new("statefulset-controller", 5, this)
        .on(Trigger::own("apps", "statefulsets"))
        .on(Trigger::map("", "pods", move |e| {
            let mut wakes = owners(e, "StatefulSet");
            wakes.extend(orphan_matches(&pods, e));
            wakes
        }))
}

fn orphan_matches(client: &Client, e: &Event<'_>) -> Vec<Wake> {
    if e.entry.controller.is_some() || e.deleted() {
        return Vec::new();
    }
    let Ok(sets) = client.lister::<StatefulSet>() else {
        return Vec::new();
    };
    let all = sets.list(Some(&e.entry.namespace));
    let matching = all.iter().filter(|s| {
        let parsed = selector::parse(&s.spec.selector);
        parsed.is_some_and(|s| !s.is_empty() && selector::matches_entry(&s, e.entry))
    });
    matching
        .map(|s| Key::new(s.namespace(), s.name()).into())
        .collect()
}

pub(super) struct StatefulSets {
    client: Client,
    recorder: Recorder,
    clock: Clock,
}

/// The revisions a set has to do with.
struct Revisions {
    current: ControllerRevision,
    update: ControllerRevision,
    all: Vec<ControllerRevision>,
    collisions: Option<i32>,
}

#[async_trait]
impl Reconcile for StatefulSets {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let sets = self.client.lister::<StatefulSet>()?;
        let entry = sets.cache().get(&key.namespace, &key.name);
        let set = entry
            .as_ref()
            .and_then(|e| client::lister::typed::<StatefulSet>(e));
        let (Some(entry), Some(set)) = (entry, set) else {
            return Ok(Next::Done);
        };
        let Some(selector) = selector::parse(&set.spec.selector) else {
            return Err(Error::Other("the set's selector is malformed".into()));
        };
        let claim = Claim {
            client: &self.client,
            owner: &*set,
            selector: &selector,
            finalizer: None,
        };
        let revisions = self.revisions(&set, &entry, &claim).await?;
        let member = |p: &Pod| identity::ordinal(set.name(), p.name()).is_some();
        let pods: Vec<Arc<Pod>> = claim.all(|_| true, member).await?;
        let (current, update) = (revisions.current.name(), revisions.update.name());
        let seen = Seen::new(&set, &pods, current, update, self.clock.now());
        let acted = if set.deleting() {
            Ok(())
        } else {
            self.act(&set, &revisions, &pods, seen.steps()).await
        };
        let now_pods = self.owned(&set)?;
        let after = Seen::new(&set, &now_pods, current, update, self.clock.now());
        let mut status = after.status();
        status.collision_count = revisions.collisions;
        self.write_status(&set, status).await?;
        acted?;
        self.trim(&set, &revisions, &now_pods).await?;
        let next: Option<Duration> = after.next_available();
        Ok(next.into())
    }
}

impl StatefulSets {
    fn owned(&self, set: &StatefulSet) -> Result<Vec<Arc<Pod>>, Error> {
        let lister = self.client.lister::<Pod>()?;
        let uid = set.uid();
        Ok(lister.select(Some(set.namespace()), |e| {
            e.controller.as_ref().is_some_and(|c| &*c.uid == uid)
        }))
    }

    async fn revisions(
        &self,
        set: &StatefulSet,
        entry: &Entry,
        claim: &Claim<'_, StatefulSet>,
    ) -> Result<Revisions, Error> {
        let data = revisions::data(entry)?;
        let claimed: Vec<Arc<ControllerRevision>> = claim.all(|_| true, |_| true).await?;
        let mut all: Vec<ControllerRevision> = claimed.iter().map(|r| (**r).clone()).collect();
        all.sort_by_key(|r| (revisions::number(r), r.created()));
        let next = all.last().map_or(0, revisions::number) + 1;
        let status = set.status.as_ref();
        let mut collisions = status.and_then(|s| s.collision_count);
        let same = |r: &ControllerRevision| {
            r.data.0 == data || revisions::template(r).as_ref() == Some(&set.spec.template)
        };
        let update = match all.iter().rposition(same) {
            Some(i) if i + 1 == all.len() => all[i].clone(),
            Some(i) => revisions::renumber(&self.client, &all[i], next).await?,
            None => loop {
                let revision = new_revision(set, &data, next, collisions);
                match revisions::create(&self.client, &revision).await? {
                    Some(made) => break made,
                    None => collisions = Some(collisions.unwrap_or(0) + 1),
                }
            },
        };
        let named = status.and_then(|s| s.current_revision.as_deref());
        let current = all.iter().find(|r| Some(r.name()) == named);
        Ok(Revisions {
            current: current.unwrap_or(&update).clone(),
            update,
            all,
            collisions,
        })
    }

    async fn act(
        &self,
        set: &StatefulSet,
        revisions: &Revisions,
        pods: &[Arc<Pod>],
        steps: Vec<Step>,
    ) -> Result<(), Error> {
        self.keep_claims(set, pods).await?;
        let (creates, rest): (Vec<Step>, Vec<Step>) = steps
            .into_iter()
            .partition(|s| matches!(s, Step::Create { .. }));
        for step in rest {
            match step {
                Step::Delete(pod) => self.delete(set, &pod).await?,
                Step::Update(pod) => self.update(set, &pod).await?,
                Step::Create { .. } => {}
            }
        }
        let (_, error) = act::slow_start(creates.len(), |i| {
            let step = &creates[i];
            async move {
                match step {
                    Step::Create { ordinal, update } => {
                        self.create(set, revisions, *ordinal, *update).await
                    }
                    Step::Delete(_) | Step::Update(_) => Ok(()),
                }
            }
        })
        .await;
        error.map_or(Ok(()), Err)
    }

    fn tell(&self, set: &StatefulSet, verb: &str, pod: &str, error: Option<&client::Error>) {
        let capital = format!("{}{}", verb[..1].to_uppercase(), &verb[1..]);
        let name = set.name();
        let (kind, reason, message) = match error {
            None => (
                EventType::Normal,
                format!("Successful{capital}"),
                format!("{verb} Pod {pod} in StatefulSet {name} successful"),
            ),
            Some(e) => (
                EventType::Warning,
                format!("Failed{capital}"),
                format!(
                    "{verb} Pod {pod} in StatefulSet {name} failed error: {}",
                    client::message(e)
                ),
            ),
        };
        self.recorder.event(reference(set), kind, &reason, &message);
    }

    async fn create(
        &self,
        set: &StatefulSet,
        revisions: &Revisions,
        ordinal: i32,
        update: bool,
    ) -> Result<(), Error> {
        let revision = if update {
            &revisions.update
        } else {
            &revisions.current
        };
        let template: PodTemplateSpec =
            revisions::template(revision).unwrap_or_else(|| set.spec.template.clone());
        let pod = identity::pod(set, &template, revision.name(), ordinal);
        self.make_claims(set, &pod, ordinal).await?;
        match act::create(&self.client, &pod).await {
            Ok(_) => {
                self.tell(set, "create", pod.name(), None);
                Ok(())
            }
            Err(e) if client::is_already_exists(&e) || client::is_namespace_terminating(&e) => {
                Err(e).during("create a pod")
            }
            Err(e) => {
                self.tell(set, "create", pod.name(), Some(&e));
                Err(e).during("create a pod")
            }
        }
    }

    async fn delete(&self, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        let params = DeleteParams::default();
        let done = act::delete::<Pod>(&self.client, pod.namespace(), pod.name(), &params).await;
        self.tell(set, "delete", pod.name(), done.as_ref().err());
        done.during("delete a pod")
    }

    async fn update(&self, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        let done = act::update(&self.client, pod).await;
        self.tell(set, "update", pod.name(), done.as_ref().err());
        done.map(|_| ()).during("update a pod")
    }

    async fn write_status(&self, set: &StatefulSet, s: StatefulSetStatus) -> Result<(), Error> {
        if set
            .status
            .as_ref()
            .is_some_and(|b| plan::same_status(b, &s))
        {
            return Ok(());
        }
        let new = StatefulSet {
            status: Some(s),
            ..set.clone()
        };
        act::update_status(&self.client, &new)
            .await
            .during("update the status")?;
        Ok(())
    }

    async fn trim(&self, set: &StatefulSet, r: &Revisions, pods: &[Arc<Pod>]) -> Result<(), Error> {
        let live = |name: &str| {
            let named = |p: &Arc<Pod>| p.labels().get(REVISION).is_some_and(|l| l == name);
            name == r.current.name() || name == r.update.name() || pods.iter().any(named)
        };
        let unused = r.all.iter().filter(|r| !live(r.name())).cloned().collect();
        let limit = set.spec.revision_history_limit.unwrap_or(10);
        revisions::trim(&self.client, unused, limit).await
    }
}

fn new_revision(
    set: &StatefulSet,
    data: &serde_json::Value,
    number: i64,
    collisions: Option<i32>,
) -> ControllerRevision {
    let bytes = data.to_string().into_bytes();
    let tail = collisions.map(|n| n.to_string()).unwrap_or_default();
    let hash = hash::encode(&hash::fnv1(&[&bytes, tail.as_bytes()]).to_string());
    let meta = set.spec.template.metadata.as_ref();
    let mut labels = meta.and_then(|m| m.labels.clone()).unwrap_or_default();
    labels.insert(HASH.into(), hash.clone());
    let base: String = set.name().chars().take(223).collect();
    revisions::new(set, format!("{base}-{hash}"), labels, data, number)
}
