//! ReplicationControllers: the ReplicaSet controller in older words.
//! Upstream: pkg/controller/replication.

use api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition,
    ReplicationControllerStatus,
};
use api::selector::LabelSelector;

use crate::Controller;
use crate::apps::replica_set::{self, Replicas};
use crate::common::selector;

pub static CONTROLLER: Controller = Controller {
    name: "replicationcontroller-controller",
    account: "replication-controller",
    component: "replication-controller",
    needs: &[("", "replicationcontrollers"), ("", "pods")],
    build: |setup| {
        let name = "replicationcontroller-controller";
        Ok(replica_set::reconciler::<ReplicationController>(
            name, setup,
        ))
    },
};

impl Replicas for ReplicationController {
    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        let spec = self.spec.as_ref();
        spec.and_then(|s| s.min_ready_seconds).unwrap_or(0)
    }

    fn selector(&self) -> Option<LabelSelector> {
        let labels = self.spec.as_ref()?.selector.as_ref()?;
        Some(selector::of_map(labels))
    }

    fn template(&self) -> PodTemplateSpec {
        let spec = self.spec.as_ref();
        spec.and_then(|s| s.template.clone()).unwrap_or_default()
    }

    fn status(&self) -> ReplicaSetStatus {
        let s = self.status.clone().unwrap_or_default();
        let condition = |c: ReplicationControllerCondition| ReplicaSetCondition {
            type_: Some(c.type_),
            status: Some(c.status),
            reason: c.reason,
            message: c.message,
            last_transition_time: c.last_transition_time,
        };
        ReplicaSetStatus {
            replicas: s.replicas,
            fully_labeled_replicas: s.fully_labeled_replicas,
            ready_replicas: s.ready_replicas,
            available_replicas: s.available_replicas,
            terminating_replicas: None,
            observed_generation: s.observed_generation,
            conditions: s.conditions.map(|c| c.into_iter().map(condition).collect()),
        }
    }

    fn with_status(&self, s: ReplicaSetStatus) -> Self {
        let condition = |c: ReplicaSetCondition| ReplicationControllerCondition {
            type_: c.type_.unwrap_or_default(),
            status: c.status.unwrap_or_default(),
            reason: c.reason,
            message: c.message,
            last_transition_time: c.last_transition_time,
        };
        let status = ReplicationControllerStatus {
            replicas: s.replicas,
            fully_labeled_replicas: s.fully_labeled_replicas,
            ready_replicas: s.ready_replicas,
            available_replicas: s.available_replicas,
            observed_generation: s.observed_generation,
            conditions: s.conditions.map(|c| c.into_iter().map(condition).collect()),
        };
        Self {
            status: Some(status),
            ..self.clone()
        }
    }

    const TERMINATING: bool = false;
}
