//! What a pod asks for, from its specification and from what its kubelet says is allocated and in effect.

use super::{Container, ContainerStatus, View};
use crate::resource::{self, ContainerNeeds, Resource};

/// Which of a container's three descriptions of its requests is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Spec,
    Allocated,
    Actuated,
}

/// Requests (the largest of what is specified, allocated and in effect) and scoring's view of them.
pub(super) fn requests(view: &View) -> (Resource, (i64, i64)) {
    let spec = &view.spec;
    let level = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    let total = |side: Side, each: fn(&ContainerNeeds<'_>) -> Resource| {
        let main = needs(&spec.containers, &view.status.container_statuses, side);
        let init = needs(
            &spec.init_containers,
            &view.status.init_container_statuses,
            side,
        );
        resource::pod_requests(&main, &init, each)
    };
    let infeasible = view
        .status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "PodResizePending" && c.reason.as_deref() == Some("Infeasible"));
    let has_status = view.status.container_statuses.is_some() && spec.node_name.is_some();
    let mut sum = Resource::default();
    if !(infeasible && has_status) {
        sum = total(Side::Spec, resource::plain);
        resource::apply_pod_level(&mut sum, level);
    }
    if has_status {
        for (side, own) in [
            (Side::Allocated, view.status.allocated_resources.as_ref()),
            (
                Side::Actuated,
                view.status
                    .resources
                    .as_ref()
                    .and_then(|r| r.requests.as_ref()),
            ),
        ] {
            let mut other = total(side, resource::plain);
            let stand_in = level.filter(|_| !infeasible);
            resource::apply_pod_level(&mut other, own.or(stand_in));
            sum.max(&other);
        }
    }
    let mut scoring = total(Side::Spec, resource::non_zero);
    resource::apply_pod_level(&mut scoring, level);
    if let Some(overhead) = &spec.overhead {
        let overhead = Resource::of(overhead);
        sum.add(&overhead);
        scoring.add(&overhead);
    }
    let at_least = (
        scoring.milli_cpu.max(sum.milli_cpu),
        scoring.memory.max(sum.memory),
    );
    (sum, at_least)
}

fn needs<'a>(
    containers: &'a Option<Vec<Container>>,
    statuses: &'a Option<Vec<ContainerStatus>>,
    side: Side,
) -> Vec<ContainerNeeds<'a>> {
    let of_status = |c: &Container| {
        let status = statuses.iter().flatten().find(|s| s.name == c.name)?;
        let in_effect = status.resources.as_ref().and_then(|r| r.requests.as_ref());
        match side {
            Side::Spec => None,
            Side::Allocated => status.allocated_resources.as_ref(),
            Side::Actuated => in_effect.or(status.allocated_resources.as_ref()),
        }
    };
    let own = |c: &'a Container| c.resources.as_ref().and_then(|r| r.requests.as_ref());
    let all = containers.iter().flatten();
    all.map(|c| ContainerNeeds {
        requests: of_status(c).or_else(|| own(c)),
        sidecar: c.restart_policy.as_deref() == Some("Always"),
    })
    .collect()
}
