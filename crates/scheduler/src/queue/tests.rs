//! The queue with a clock of numbers and rules of closures.

use super::*;
use crate::event::{self, Object, Watched};
use crate::testing;
use serde_json::json;
use std::cell::Cell;

/// Plugin 0 gates while `gated`; plugin 1 says `hint` to node additions.
struct Fake {
    gated: Cell<bool>,
    hint: Cell<Hint>,
}

impl Rules for Fake {
    fn gate(&self, _pod: &Pod, _first: Option<PluginIndex>) -> Option<PluginIndex> {
        self.gated.get().then_some(0)
    }

    fn hint(&self, plugin: PluginIndex, _pod: &Pod, event: &ClusterEvent<'_>) -> Option<Hint> {
        match plugin {
            0 => (event.watched == Watched::UnschedulablePod).then_some(Hint::Queue),
            _ => (event.watched == Watched::Node).then_some(self.hint.get()),
        }
    }
}

const NODE_ADDED: ClusterEvent<'static> = ClusterEvent {
    watched: Watched::Node,
    actions: event::ADD,
    object: Object::None,
};

fn rules() -> Fake {
    Fake {
        gated: Cell::new(false),
        hint: Cell::new(Hint::Queue),
    }
}

fn queue() -> Queue {
    Queue::new(Backoff {
        initial: limits::BACKOFF_INITIAL,
        max: limits::BACKOFF_MAX,
    })
}

fn pod(name: &str, priority: i32) -> Arc<Pod> {
    let object = json!({"metadata": {"name": name}, "spec": {"priority": priority}});
    Arc::new(testing::pod(object))
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn by(plugin: PluginIndex) -> PluginSet {
    let mut set = PluginSet::default();
    set.insert(plugin);
    set
}

fn pop(q: &mut Queue, now: u64, rules: &Fake) -> Option<String> {
    q.pop(at(now), rules).map(|p| p.pod.key.name.to_string())
}

#[test]
fn important_then_older_pods_come_first() {
    let (mut q, r) = (queue(), rules());
    for (i, (name, priority)) in [("a", 0), ("b", 5), ("c", 5), ("d", 9)].iter().enumerate() {
        q.add(at(i as u64), pod(name, *priority), &r);
    }
    let order: Vec<_> = std::iter::from_fn(|| pop(&mut q, 9, &r)).collect();
    assert_eq!(order, ["d", "b", "c", "a"]);
}

#[test]
fn an_unschedulable_pod_waits_for_an_event_that_helps() {
    let (mut q, r) = (queue(), rules());
    q.add(at(0), pod("a", 0), &r);
    let a = q.pop(at(0), &r).unwrap();
    q.put_back(at(0), a, by(1), PluginSet::default());
    assert_eq!(pop(&mut q, 20, &r), None);
    r.hint.set(Hint::Skip);
    q.on_event(at(20), &NODE_ADDED, &r);
    assert_eq!(q.counts().unschedulable, 1);
    r.hint.set(Hint::Queue);
    q.on_event(at(20), &NODE_ADDED, &r);
    assert_eq!(q.counts().active, 1);
}

#[test]
fn back_off_doubles_up_to_its_bound_and_errors_wait_it_out() {
    let (mut q, r) = (queue(), rules());
    q.add(at(0), pod("a", 0), &r);
    let mut now = 0;
    for expected in [1, 2, 4, 8, 10, 10] {
        let a = q.pop(at(now), &r).unwrap();
        q.put_back(at(now), a, PluginSet::default(), PluginSet::default());
        assert_eq!(pop(&mut q, now + expected, &r), None, "{expected}");
        now += expected + 1;
        assert_eq!(q.next_at(), Some(at(now)));
    }
}

#[test]
fn a_pod_in_ordinary_back_off_comes_early_when_nothing_else_waits() {
    let (mut q, r) = (queue(), rules());
    q.add(at(0), pod("a", 0), &r);
    let a = q.pop(at(0), &r).unwrap();
    q.put_back(at(0), a, by(1), PluginSet::default());
    q.on_event(at(0), &NODE_ADDED, &r);
    assert_eq!(q.counts().backoff, 1);
    q.add(at(0), pod("b", 0), &r);
    assert_eq!(pop(&mut q, 0, &r).as_deref(), Some("b"));
    assert_eq!(pop(&mut q, 0, &r).as_deref(), Some("a"));
}

#[test]
fn what_a_plugin_has_set_in_motion_needs_no_back_off() {
    let (mut q, r) = (queue(), rules());
    q.add(at(0), pod("a", 0), &r);
    let a = q.pop(at(0), &r).unwrap();
    q.put_back(at(0), a, PluginSet::default(), by(1));
    q.on_event(at(0), &NODE_ADDED, &r);
    assert_eq!(q.counts().active, 1);
}

#[test]
fn gated_pods_stay_out_until_their_gate_opens() {
    let (mut q, r) = (queue(), rules());
    r.gated.set(true);
    q.add(at(0), pod("a", 0), &r);
    assert_eq!(q.counts().gated, 1);
    assert_eq!(q.next_at(), None, "an idle queue asks for no timer");
    q.on_event(at(0), &NODE_ADDED, &r);
    q.flush(at(1000), &r);
    assert_eq!(pop(&mut q, 1000, &r), None);
    r.gated.set(false);
    let update = ClusterEvent {
        watched: Watched::UnschedulablePod,
        actions: event::UPDATE_POD_GATES_ELIMINATED,
        object: Object::None,
    };
    q.update(at(1001), pod("a", 0), &update, &r);
    assert_eq!(pop(&mut q, 1001, &r).as_deref(), Some("a"));
}

#[test]
fn pods_unschedulable_for_long_are_tried_again() {
    let (mut q, r) = (queue(), rules());
    q.add(at(0), pod("a", 0), &r);
    let a = q.pop(at(0), &r).unwrap();
    q.put_back(at(0), a, by(1), PluginSet::default());
    assert_eq!(q.next_at(), Some(limits::UNSCHEDULABLE_MAX));
    assert_eq!(pop(&mut q, 299, &r), None);
    assert_eq!(pop(&mut q, 300, &r).as_deref(), Some("a"));
}

#[test]
fn deleted_pods_are_forgotten_wherever_they_wait() {
    let (mut q, r) = (queue(), rules());
    for name in ["a", "b", "c"] {
        q.add(at(0), pod(name, 0), &r);
    }
    let a = q.pop(at(0), &r).unwrap();
    q.put_back(at(0), a, by(1), PluginSet::default());
    let b = q.pop(at(0), &r).unwrap();
    q.put_back(at(0), b, PluginSet::default(), PluginSet::default());
    for name in ["a", "b", "c"] {
        assert!(q.delete(&pod(name, 0).key).is_some(), "{name}");
    }
    assert_eq!(q.counts(), Counts::default());
    assert_eq!(q.next_at(), None);
}
