//! DefaultPreemption: less important pods make room. This decides who has to go; `act::preempt` does
//! it. Upstream: plugins/defaultpreemption and framework/preemption.

use std::cmp::Reverse;
use std::sync::Arc;

use api::k8s_openapi::api::policy::v1::PodDisruptionBudget;
use api::selector::LabelSelector;
use jiff::Timestamp;

use crate::cycle::Filters;
use crate::diagnosis::histogram;
use crate::event::{self, Actions, ClusterEvent, Watched};
use crate::framework::{Attempt, Code, Hint, Plugin, PostFilter, Preemption, Rejection};
use crate::labels;
use crate::limits;
use crate::node::NodeInfo;
use crate::pod::Pod;
use crate::world::World;

pub struct DefaultPreemption;

/// What would have to go on one node.
#[derive(Debug)]
struct Candidate {
    node: Arc<str>,
    /// Most important first.
    victims: Vec<Arc<Pod>>,
    violations: usize,
}

/// A disruption budget with what is left of it.
struct Budget {
    namespace: String,
    selector: LabelSelector,
    allowed: i32,
    disrupted: Vec<String>,
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn wakes_on(&self) -> &'static [(Watched, Actions)] {
        // Registered so that a pod whose victims are being removed listens to deletions at all.
        &[(Watched::AssignedPod, event::DELETE)]
    }

    fn hint(&self, _world: &World, _pod: &Pod, _event: &ClusterEvent<'_>) -> Hint {
        Hint::Skip
    }

    fn pre_enqueue(&self, world: &World, pod: &Pod) -> Result<(), Rejection> {
        if !world.preempting.lock().contains(&pod.uid) {
            return Ok(());
        }
        let text = "waiting for the preemption for this pod to be finished";
        Err(Rejection::unresolvable(text))
    }

    fn post_filter(&self, attempt: &Attempt<'_>) -> PostFilter {
        if let Some(why) = not_eligible(attempt) {
            return rejected(why, false);
        }
        let budgets = attempt.cycle.world.budgets.list(None);
        let budgets: Vec<Budget> = budgets.iter().filter_map(|b| budget(b)).collect();
        match candidates(attempt, &budgets) {
            Ok(found) => match pick(found) {
                Some(best) => PostFilter::Nominated(Preemption {
                    node: best.node,
                    victims: best.victims,
                }),
                None => rejected("no candidate node for preemption.", true),
            },
            Err(message) => rejected(&message, true),
        }
    }
}

fn rejected(why: &str, clear_nomination: bool) -> PostFilter {
    PostFilter::Rejected {
        reason: format!("preemption: {why}"),
        clear_nomination,
    }
}

/// Why the pod must not preempt, if so.
fn not_eligible(attempt: &Attempt<'_>) -> Option<&'static str> {
    let pod = attempt.cycle.pod;
    if pod.never_preempts {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let known = attempt.nominator.node_of(&pod.key);
    let node = attempt
        .cycle
        .snapshot
        .get(known.unwrap_or(&pod.nominated_node))?;
    let verdict = attempt.diagnosis.rejected.get(node.name());
    if verdict.is_some_and(|(_, r)| r.code == Code::Unresolvable) {
        return None;
    }
    let leaving = |p: &Arc<Pod>| p.priority < pod.priority && p.deleting && p.preempted;
    node.pods
        .iter()
        .any(leaving)
        .then_some("not eligible due to a terminating pod on the nominated node.")
}

fn budget(b: &PodDisruptionBudget) -> Option<Budget> {
    let selector = labels::selector(b.spec.as_ref()?.selector.as_ref()?)?;
    if selector.is_empty() {
        return None;
    }
    let status = b.status.clone().unwrap_or_default();
    Some(Budget {
        namespace: b.metadata.namespace.clone().unwrap_or_default(),
        selector,
        allowed: status.disruptions_allowed.unwrap_or(0),
        disrupted: status
            .disrupted_pods
            .into_iter()
            .flatten()
            .map(|(n, _)| n)
            .collect(),
    })
}

/// Nodes on which removing pods helps, or the message why there is none.
fn candidates(attempt: &Attempt<'_>, budgets: &[Budget]) -> Result<Vec<Candidate>, String> {
    let all = attempt.cycle.snapshot.nodes();
    let helpful: Vec<&NodeInfo> = all
        .iter()
        .filter(|n| attempt.diagnosis.may_help(n.name()))
        .collect();
    let mut refused: Vec<Rejection> = Vec::new();
    let mut found: Vec<Candidate> = Vec::new();
    if let Some(filters) = attempt.filters
        && !helpful.is_empty()
    {
        let wanted = (helpful.len() * limits::CANDIDATES_PERCENT_MIN / 100)
            .max(limits::CANDIDATES_MIN)
            .min(helpful.len());
        let start = rand::random_range(0..helpful.len());
        for node in helpful[start..].iter().chain(&helpful[..start]) {
            match dry_run(attempt, filters, node, budgets) {
                Ok(candidate) => found.push(candidate),
                Err(r) => refused.push(r),
            }
            if found.len() >= wanted && found.iter().any(|c| c.violations == 0) {
                break;
            }
        }
    }
    if found.is_empty() {
        let rest = Rejection::unresolvable("Preemption is not helpful for scheduling");
        let untried = all.len() - refused.len();
        let each = refused.iter().map(|r| (r, 1)).chain([(&rest, untried)]);
        let text = histogram(each);
        return Err(format!("0/{} nodes are available:{text}", all.len()));
    }
    Ok(found)
}

/// The fewest pods of a node that have to go so that the pod fits.
fn dry_run(
    attempt: &Attempt<'_>,
    filters: &Filters<'_>,
    node: &NodeInfo,
    budgets: &[Budget],
) -> Result<Candidate, Rejection> {
    let pod = attempt.cycle.pod;
    let mut filters = filters.fork();
    let mut info = node.clone();
    let less = node.pods.iter().filter(|p| p.priority < pod.priority);
    let mut potential: Vec<Arc<Pod>> = less.cloned().collect();
    if potential.is_empty() {
        let text = "No preemption victims found for incoming pod";
        return Err(Rejection::unresolvable(text));
    }
    for p in &potential {
        info.remove_pod(p);
        filters.remove_pod(p, &info);
    }
    let fits = |filters: &Filters<'_>, info: &NodeInfo| {
        let verdict = filters.run_with_nominated(pod, info, attempt.nominator);
        verdict.map_err(|(_, r)| r)
    };
    fits(&filters, &info)?;
    let now = Timestamp::now();
    potential.sort_by_key(|p| (Reverse(p.priority), p.start.unwrap_or(now)));
    let (violating, rest) = by_budget(potential, budgets);
    let mut victims = Vec::new();
    let mut violations = 0;
    let counted = violating.into_iter().map(|p| (p, true));
    for (p, violates) in counted.chain(rest.into_iter().map(|p| (p, false))) {
        info.add_pod(&p);
        filters.add_pod(&p, &info);
        if fits(&filters, &info).is_err() {
            info.remove_pod(&p);
            filters.remove_pod(&p, &info);
            violations += usize::from(violates);
            victims.push(p);
        }
    }
    victims.sort_by_key(|p| (Reverse(p.priority), p.start.unwrap_or(now)));
    Ok(Candidate {
        node: node.node.name.clone(),
        victims,
        violations,
    })
}

/// Pods whose eviction would break a budget, and the others; order is kept.
fn by_budget(pods: Vec<Arc<Pod>>, budgets: &[Budget]) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    let mut allowed: Vec<i32> = budgets.iter().map(|b| b.allowed).collect();
    pods.into_iter().partition(|pod| {
        let mut violates = false;
        for (budget, left) in budgets.iter().zip(&mut allowed) {
            let concerned = budget.namespace == *pod.key.namespace
                && pod.labels.satisfy(&budget.selector)
                && !budget.disrupted.iter().any(|n| **n == *pod.key.name);
            if concerned {
                *left -= 1;
                violates |= *left < 0;
            }
        }
        violates
    })
}

/// The node whose victims hurt least.
fn pick(candidates: Vec<Candidate>) -> Option<Candidate> {
    candidates.into_iter().min_by_key(|c| {
        let highest = c.victims.first().map_or(i32::MIN, |v| v.priority);
        let weight = |v: &Arc<Pod>| i64::from(v.priority) + (1 << 31);
        let sum: i64 = c.victims.iter().map(weight).sum();
        let top = c.victims.iter().filter(|v| v.priority == highest);
        let earliest = top.map(|v| v.start.unwrap_or(Timestamp::MAX)).min();
        (
            c.violations,
            highest,
            sum,
            c.victims.len(),
            Reverse(earliest),
        )
    })
}

#[cfg(test)]
mod tests;
