//! SchedulingGates: a pod with gates is not tried. The API server writes its condition.

use crate::event::{self, Actions, ClusterEvent, Watched};
use crate::framework::{Hint, Plugin, Rejection};
use crate::pod::Pod;
use crate::world::World;

pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn wakes_on(&self) -> &'static [(Watched, Actions)] {
        &[(
            Watched::UnschedulablePod,
            event::UPDATE_POD_GATES_ELIMINATED,
        )]
    }

    fn hint(&self, _world: &World, pod: &Pod, event: &ClusterEvent<'_>) -> Hint {
        match event.pod() {
            Some(p) if p.uid == pod.uid => Hint::Queue,
            _ => Hint::Skip,
        }
    }

    fn pre_enqueue(&self, _world: &World, pod: &Pod) -> Result<(), Rejection> {
        if pod.gates.is_empty() {
            return Ok(());
        }
        let gates: Vec<&str> = pod.gates.iter().map(|g| &**g).collect();
        let text = format!("waiting for scheduling gates: [{}]", gates.join(" "));
        Err(Rejection::unresolvable(text))
    }
}
