//! How many replicas each ReplicaSet should have, decided without side effects.
//! Upstream: pkg/controller/deployment/{rolling,sync}.go and util.

use std::cmp::Reverse;
use std::sync::LazyLock;

use api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetStatus};
use api::core::v1::PodTemplateSpec;

use super::annotations::{self, DESIRED, MAX};
use crate::common::numbers::{Round, scaled};
use crate::common::object::Object;

/// The label that tells pods of one ReplicaSet from those of another.
pub const HASH_LABEL: &str = "pod-template-hash";

static NO_STATUS: LazyLock<ReplicaSetStatus> = LazyLock::new(ReplicaSetStatus::default);

/// `spec`.
pub fn spec(d: &Deployment) -> &DeploymentSpec {
    &d.spec
}

/// A ReplicaSet's status.
pub fn status_of(set: &ReplicaSet) -> &ReplicaSetStatus {
    set.status.as_ref().unwrap_or(&NO_STATUS)
}

/// `spec.replicas` of a deployment.
pub fn replicas(d: &Deployment) -> i32 {
    spec(d).replicas.unwrap_or(1)
}

/// `spec.replicas` of a ReplicaSet.
pub fn size(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// `status.availableReplicas` of a ReplicaSet.
pub fn available(set: &ReplicaSet) -> i32 {
    status_of(set).available_replicas.unwrap_or(0)
}

/// Whether the strategy is Recreate.
pub fn recreates(d: &Deployment) -> bool {
    let strategy = spec(d).strategy.as_ref();
    strategy.is_some_and(|s| s.type_.as_deref() == Some("Recreate"))
}

/// Surge and unavailability in pods. Percentages of the surge round up, of the other down; both cannot
/// be nothing.
fn fenceposts(d: &Deployment) -> (i32, i32) {
    let rolling = spec(d).strategy.as_ref();
    let rolling = rolling
        .and_then(|s| s.rolling_update.clone())
        .unwrap_or_default();
    let wanted = replicas(d);
    let surge = scaled(rolling.max_surge.as_ref(), wanted, Round::Up);
    let unavailable = scaled(rolling.max_unavailable.as_ref(), wanted, Round::Down);
    if surge == 0 && unavailable == 0 {
        (0, 1)
    } else {
        (surge, unavailable)
    }
}

/// Pods above `spec.replicas` that a rolling update may have.
pub fn max_surge(d: &Deployment) -> i32 {
    if recreates(d) { 0 } else { fenceposts(d).0 }
}

/// Pods below `spec.replicas` that may be unavailable.
pub fn max_unavailable(d: &Deployment) -> i32 {
    if recreates(d) || replicas(d) == 0 {
        return 0;
    }
    fenceposts(d).1.min(replicas(d))
}

/// Whether two templates are the same but for the hash label.
pub fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let plain = |t: &PodTemplateSpec| {
        let mut t = t.clone();
        let meta = t.metadata.get_or_insert_default();
        if let Some(labels) = &mut meta.labels {
            labels.remove(HASH_LABEL);
        }
        meta.labels = meta.labels.take().filter(|l| !l.is_empty());
        meta.creation_timestamp = None;
        t
    };
    plain(a) == plain(b)
}

/// The template of a ReplicaSet.
pub fn template_of(set: &ReplicaSet) -> PodTemplateSpec {
    set.spec.template.clone().unwrap_or_default()
}

/// The ReplicaSet of the current template: the oldest, if there are several.
pub fn find_new<'a>(d: &Deployment, sets: &'a [ReplicaSet]) -> Option<&'a ReplicaSet> {
    let mut same: Vec<&ReplicaSet> = sets
        .iter()
        .filter(|s| same_template(&template_of(s), &spec(d).template))
        .collect();
    same.sort_by(|a, b| oldest_first(a, b));
    same.first().copied()
}

/// Order by age, then name.
pub fn oldest_first(a: &ReplicaSet, b: &ReplicaSet) -> std::cmp::Ordering {
    (a.created(), a.name()).cmp(&(b.created(), b.name()))
}

/// Sum of sizes.
pub fn total<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i32 {
    sets.into_iter().map(size).sum()
}

/// The size of the new ReplicaSet in a next step. `others` are all other ReplicaSets.
pub fn new_size(d: &Deployment, current: i32, others: i32) -> i32 {
    let wanted = replicas(d);
    if recreates(d) {
        return wanted;
    }
    let most = wanted + max_surge(d);
    let all = current + others;
    if all >= most {
        return current;
    }
    current + (most - all).min(wanted - current)
}

/// The next size of the new ReplicaSet in a rolling update.
pub fn next_new(d: &Deployment, new: &ReplicaSet, old: &[ReplicaSet]) -> i32 {
    let wanted = replicas(d);
    let current = size(new);
    if current >= wanted {
        return wanted;
    }
    new_size(d, current, total(old))
}

/// One change of a size, by position in the list it was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    pub set: usize,
    pub to: i32,
}

/// How old ReplicaSets shrink in a rolling update, in order: first pods that are not available
/// anyway, then as many available ones as may be missed. `old` must be in order of age.
pub fn next_old(d: &Deployment, new: &ReplicaSet, old: &[ReplicaSet]) -> Vec<Resize> {
    let mut steps = Vec::new();
    if total(old) == 0 {
        return steps;
    }
    let least = replicas(d) - max_unavailable(d);
    let new_missing = size(new) - available(new);
    let most = total(old) + size(new) - least - new_missing;
    if most <= 0 {
        return steps;
    }
    let mut sizes: Vec<i32> = old.iter().map(size).collect();
    let mut cleaned = 0;
    for (i, set) in old.iter().enumerate() {
        let unhealthy = sizes[i] - available(set);
        if cleaned >= most || sizes[i] == 0 || unhealthy == 0 {
            continue;
        }
        let down = (most - cleaned).min(unhealthy);
        if down > 0 {
            sizes[i] -= down;
            cleaned += down;
            steps.push(Resize {
                set: i,
                to: sizes[i],
            });
        }
    }
    let up: i32 = old.iter().map(available).sum::<i32>() + available(new);
    let mut spare = up - least;
    for (i, s) in sizes.iter_mut().enumerate() {
        let down = (*s).min(spare);
        if down > 0 {
            *s -= down;
            spare -= down;
            steps.push(Resize { set: i, to: *s });
        }
    }
    steps
}

/// Whether `spec.replicas` changed since the ReplicaSets were last scaled.
pub fn is_scaling_event(d: &Deployment, sets: &[ReplicaSet]) -> bool {
    let mut active = sets.iter().filter(|s| size(s) > 0);
    active.any(|s| annotations::number(s, DESIRED).is_some_and(|n| n != replicas(d)))
}

/// What scaling without a rollout does.
#[derive(Debug, PartialEq, Eq)]
pub enum Scaling {
    /// One ReplicaSet (position in `all`) gets everything.
    One(Resize),
    /// Old ones go, because the new one has all pods that are wanted.
    DropOld,
    /// Each of these is brought to a size, and its annotations refreshed.
    Proportional(Vec<Resize>),
    Nothing,
}

/// Decides how a deployment that is paused or just scaled distributes its pods. `all` are the old
/// ReplicaSets, oldest first, and then the new one if there is one.
pub fn scaling(d: &Deployment, all: &[ReplicaSet], has_new: bool) -> Scaling {
    let wanted = replicas(d);
    if let Some(one) = active_or_latest(all, has_new) {
        return if size(&all[one]) == wanted {
            Scaling::Nothing
        } else {
            Scaling::One(Resize {
                set: one,
                to: wanted,
            })
        };
    }
    let new = has_new.then(|| all.last()).flatten();
    let saturated = |n: &ReplicaSet| {
        let noted = annotations::number(n, DESIRED) == Some(wanted);
        size(n) == wanted && noted && available(n) == wanted
    };
    if new.is_some_and(saturated) {
        return Scaling::DropOld;
    }
    if recreates(d) {
        return Scaling::Nothing;
    }
    Scaling::Proportional(proportional(d, all))
}

/// The only active ReplicaSet; of none active the new one, or else the youngest.
fn active_or_latest(all: &[ReplicaSet], has_new: bool) -> Option<usize> {
    let active: Vec<usize> = (0..all.len()).filter(|i| size(&all[*i]) > 0).collect();
    match active.as_slice() {
        [] if has_new => all.len().checked_sub(1),
        [] => (0..all.len()).max_by(|a, b| oldest_first(&all[*a], &all[*b])),
        [one] => Some(*one),
        _ => None,
    }
}

fn proportional(d: &Deployment, all: &[ReplicaSet]) -> Vec<Resize> {
    let mut active: Vec<usize> = (0..all.len()).filter(|i| size(&all[*i]) > 0).collect();
    let wanted = replicas(d);
    let allowed = if wanted > 0 { wanted + max_surge(d) } else { 0 };
    let add = allowed - total(all);
    let by_size = |i: &usize| Reverse(size(&all[*i]));
    if add > 0 {
        // Bigger first, younger first among equals.
        active.sort_by(|a, b| {
            let younger = || oldest_first(&all[*b], &all[*a]);
            by_size(a).cmp(&by_size(b)).then_with(younger)
        });
    } else {
        active.sort_by(|a, b| {
            let older = || oldest_first(&all[*a], &all[*b]);
            by_size(a).cmp(&by_size(b)).then_with(older)
        });
    }
    let mut added = 0;
    let mut steps: Vec<Resize> = Vec::with_capacity(active.len());
    for i in active {
        let share = share(d, &all[i], add, added);
        added += share;
        let to = size(&all[i]) + share;
        steps.push(Resize { set: i, to });
    }
    if let Some(first) = steps.first_mut() {
        first.to = (first.to + add - added).max(0);
    }
    steps
}

/// What one ReplicaSet gets of `add` more (or fewer) pods when `added` are given out.
fn share(d: &Deployment, set: &ReplicaSet, add: i32, added: i32) -> i32 {
    if size(set) == 0 || add == 0 || add == added {
        return 0;
    }
    let fraction = fraction(d, set);
    let left = add - added;
    if add > 0 {
        fraction.min(left)
    } else {
        fraction.max(left)
    }
}

fn fraction(d: &Deployment, set: &ReplicaSet) -> i32 {
    if replicas(d) == 0 {
        return -size(set);
    }
    let most = replicas(d) + max_surge(d);
    let before = annotations::number(set, MAX).filter(|n| *n != 0);
    let status = d.status.as_ref().and_then(|s| s.replicas);
    let before = before.or(status).unwrap_or(0);
    if before == 0 {
        return 0;
    }
    let exact = f64::from(size(set)) * f64::from(most) / f64::from(before);
    // Sizes are far below the limits of i32.
    #[allow(clippy::cast_possible_truncation)]
    let rounded = exact.round() as i32;
    rounded - size(set)
}

/// Old ReplicaSets that history has no room for, lowest revision first.
pub fn surplus(d: &Deployment, old: &[ReplicaSet]) -> Vec<usize> {
    let Some(limit) = spec(d).revision_history_limit.filter(|l| *l != i32::MAX) else {
        return Vec::new();
    };
    let mut alive: Vec<usize> = (0..old.len()).filter(|i| !old[*i].deleting()).collect();
    let keep = usize::try_from(limit).unwrap_or(0);
    let drop = alive.len().saturating_sub(keep);
    alive.sort_by_key(|i| {
        let revision = annotations::revision(&old[*i]).unwrap_or(0);
        (revision, old[*i].created())
    });
    alive.truncate(drop);
    alive.retain(|i| {
        let set = &old[*i];
        let status = status_of(set);
        let observed = status.observed_generation.unwrap_or(0);
        status.replicas == 0 && size(set) == 0 && set.generation() <= observed
    });
    alive
}

/// Whether a status says the same as the one stored: a missing number is a zero.
pub fn same_status(before: Option<&DeploymentStatus>, after: &DeploymentStatus) -> bool {
    let plain = |s: &DeploymentStatus| {
        let mut s = s.clone();
        for n in [
            &mut s.replicas,
            &mut s.updated_replicas,
            &mut s.ready_replicas,
            &mut s.available_replicas,
            &mut s.unavailable_replicas,
        ] {
            *n = n.filter(|n| *n != 0);
        }
        s.conditions = s.conditions.filter(|c| !c.is_empty());
        s
    };
    before.is_some_and(|b| plain(b) == plain(after))
}

#[cfg(test)]
mod tests;
