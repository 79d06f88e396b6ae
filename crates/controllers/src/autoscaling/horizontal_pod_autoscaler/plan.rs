//! How many replicas a metric asks for, and how fast the number may change.
//! Upstream: pkg/controller/podautoscaler/{replica_calculator,horizontal}.go.

use std::collections::BTreeMap;

use api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerSpec};
use api::quantity::Quantity;
use jiff::Timestamp;

/// How far a metric may be from its target without a change.
pub const TOLERANCE: f64 = 0.1;

/// How long the highest recommendation counts when scaling down.
const STABILIZATION_DOWN: i64 = 300;

/// What is known of the pods of a target.
#[derive(Debug, Default)]
pub struct Group {
    /// Usage by pod, in milli-units.
    pub usage: BTreeMap<String, i64>,
    /// What pods ask for, in milli-units.
    pub requests: BTreeMap<String, i64>,
    /// Ready pods with a sample.
    pub ready: Vec<String>,
    /// Pods that are not ready, or whose sample does not count yet.
    pub unready: Vec<String>,
    /// Pods without a sample.
    pub missing: Vec<String>,
}

/// What a metric should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Percent of what the pods ask for.
    Utilization(i64),
    /// Average by pod, in milli-units.
    Average(i64),
}

/// Up and down tolerances.
#[derive(Clone, Copy, Debug)]
pub struct Tolerances {
    pub up: f64,
    pub down: f64,
}

/// A recommendation or a change at its time.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub value: i32,
    pub at: Timestamp,
}

/// What an autoscaler remembers.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub recommendations: Vec<At>,
    pub ups: Vec<At>,
    pub downs: Vec<At>,
}

/// Why the desired number is what it is: condition, status, reason, message.
pub type Limit = (&'static str, &'static str, &'static str, &'static str);

/// Tolerances of a spec.
pub fn tolerances(spec: &HorizontalPodAutoscalerSpec) -> Tolerances {
    let of = |rules: Option<&HPAScalingRules>| {
        let q = rules.and_then(|r| r.tolerance.as_ref());
        let q = q.and_then(|q| Quantity::parse(&q.0).ok());
        q.map_or(TOLERANCE, |q| q.as_f64())
    };
    let behavior = spec.behavior.as_ref();
    Tolerances {
        up: of(behavior.and_then(|b| b.scale_up.as_ref())),
        down: of(behavior.and_then(|b| b.scale_down.as_ref())),
    }
}

fn within(ratio: f64, t: Tolerances) -> bool {
    ratio >= 1.0 - t.down && ratio <= 1.0 + t.up
}

/// Samples are small numbers of milli-units: exact enough in a float.
#[allow(clippy::cast_precision_loss)]
fn ratio(usage: &BTreeMap<String, i64>, requests: &BTreeMap<String, i64>, t: Target) -> (f64, i64) {
    let sum: i64 = usage.values().sum();
    match t {
        Target::Utilization(percent) => {
            let asked: i64 = usage.keys().filter_map(|p| requests.get(p)).sum();
            let is = sum * 100 / asked.max(1);
            (is as f64 / percent.max(1) as f64, is)
        }
        Target::Average(milli) => {
            let is = sum / i64::try_from(usage.len()).unwrap_or(1).max(1);
            (is as f64 / milli.max(1) as f64, is)
        }
    }
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn times(ratio: f64, pods: usize) -> i32 {
    (ratio * pods as f64).ceil() as i32
}

/// The number of replicas that a metric of pods asks for, and what the metric is.
pub fn replicas(
    current: i32,
    group: &Group,
    target: Target,
    t: Tolerances,
) -> Result<(i32, i64), String> {
    let ready: BTreeMap<String, i64> = group
        .usage
        .iter()
        .filter(|(p, _)| group.ready.contains(p))
        .map(|(p, v)| (p.clone(), *v))
        .collect();
    if ready.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".into());
    }
    let (first, is) = ratio(&ready, &group.requests, target);
    let up_with_unready = !group.unready.is_empty() && first > 1.0;
    if group.missing.is_empty() && !up_with_unready {
        if within(first, t) {
            return Ok((current, is));
        }
        return Ok((times(first, ready.len()), is));
    }
    let mut all = ready;
    if first < 1.0 {
        // On the way down a missing sample is taken for full use.
        for pod in &group.missing {
            let full = match target {
                Target::Utilization(percent) => {
                    let asked = group.requests.get(pod).copied().unwrap_or(0);
                    asked * percent.max(100) / 100
                }
                Target::Average(milli) => milli,
            };
            all.insert(pod.clone(), full);
        }
    } else if first > 1.0 {
        all.extend(group.missing.iter().map(|p| (p.clone(), 0)));
    }
    if up_with_unready {
        all.extend(group.unready.iter().map(|p| (p.clone(), 0)));
    }
    let (second, _) = ratio(&all, &group.requests, target);
    let flips = (first < 1.0 && second > 1.0) || (first > 1.0 && second < 1.0);
    if within(second, t) || flips {
        return Ok((current, is));
    }
    let wanted = times(second, all.len());
    let against = (second < 1.0 && wanted > current) || (second > 1.0 && wanted < current);
    Ok((if against { current } else { wanted }, is))
}

// === Rates and windows ===

impl Memory {
    /// Forgets what no window reaches.
    fn trim(&mut self, now: Timestamp) {
        let keep = |a: &At| now.as_second() - a.at.as_second() <= 3600;
        self.recommendations.retain(keep);
        self.ups.retain(keep);
        self.downs.retain(keep);
    }

    /// Notes a change of the number of replicas.
    pub fn changed(&mut self, from: i32, to: i32, now: Timestamp) {
        let list = if to > from {
            &mut self.ups
        } else {
            &mut self.downs
        };
        list.push(At {
            value: (to - from).abs(),
            at: now,
        });
        self.trim(now);
    }

    /// The recommendation within its window, and the condition that says so.
    pub fn stabilize(
        &mut self,
        spec: &HorizontalPodAutoscalerSpec,
        current: i32,
        wanted: i32,
        now: Timestamp,
    ) -> (i32, Option<Limit>) {
        self.trim(now);
        let behavior = spec.behavior.as_ref();
        let window = |rules: Option<&HPAScalingRules>, default: i64| {
            let s = rules.and_then(|r| r.stabilization_window_seconds);
            s.map_or(default, i64::from)
        };
        let up = window(behavior.and_then(|b| b.scale_up.as_ref()), 0);
        let down = window(
            behavior.and_then(|b| b.scale_down.as_ref()),
            STABILIZATION_DOWN,
        );
        let within = |seconds: i64| {
            let since = now.as_second() - seconds;
            let recent = self
                .recommendations
                .iter()
                .filter(move |r| r.at.as_second() >= since);
            recent.map(|r| r.value)
        };
        let lowest = within(up).chain([wanted]).min().unwrap_or(wanted);
        let highest = within(down).chain([wanted]).max().unwrap_or(wanted);
        let mut value = current;
        if value < lowest {
            value = lowest;
        }
        if value > highest {
            value = highest;
        }
        self.recommendations.push(At {
            value: wanted,
            at: now,
        });
        let limit = match value.cmp(&wanted) {
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some((
                "AbleToScale",
                "True",
                "ScaleDownStabilized",
                "recent recommendations were higher than current one, applying the highest recent recommendation",
            )),
            std::cmp::Ordering::Less => Some((
                "AbleToScale",
                "True",
                "ScaleUpStabilized",
                "recent recommendations were lower than current one, applying the lowest recent recommendation",
            )),
        };
        (value, limit)
    }

    /// The number within the bounds of the spec and of its rates.
    pub fn bound(
        &self,
        spec: &HorizontalPodAutoscalerSpec,
        current: i32,
        wanted: i32,
        now: Timestamp,
    ) -> (i32, Limit) {
        let (low, high) = (spec.min_replicas.unwrap_or(1), spec.max_replicas);
        let behavior = spec.behavior.as_ref();
        let (fastest_up, slowest_down) = match behavior {
            // Without a behavior: twice as many, or four.
            None => ((2 * current).max(4), 0),
            Some(b) => (
                self.most(b.scale_up.as_ref(), current, now),
                self.least(b.scale_down.as_ref(), current, now),
            ),
        };
        let (ceiling, up_limit): (i32, Limit) = if fastest_up < high {
            let m = "the desired replica count is increasing faster than the maximum scale rate";
            (fastest_up, ("ScalingLimited", "True", "ScaleUpLimit", m))
        } else {
            let m = "the desired replica count is more than the maximum replica count";
            (high, ("ScalingLimited", "True", "TooManyReplicas", m))
        };
        let (floor, down_limit): (i32, Limit) = if slowest_down > low {
            let m = "the desired replica count is decreasing faster than the maximum scale rate";
            (
                slowest_down,
                ("ScalingLimited", "True", "ScaleDownLimit", m),
            )
        } else {
            let m = "the desired replica count is less than the minimum replica count";
            (low, ("ScalingLimited", "True", "TooFewReplicas", m))
        };
        if wanted > current.max(low) && wanted > ceiling {
            return (ceiling.max(current.min(high)), up_limit);
        }
        if wanted > high {
            return (high, up_limit);
        }
        if wanted < floor {
            return (floor, down_limit);
        }
        let m = "the desired count is within the acceptable range";
        (wanted, ("ScalingLimited", "False", "DesiredWithinRange", m))
    }

    /// The most replicas that the rules of scaling up allow now.
    fn most(&self, rules: Option<&HPAScalingRules>, current: i32, now: Timestamp) -> i32 {
        let default = [policy("Percent", 100, 15), policy("Pods", 4, 15)];
        let limit = |p: &HPAScalingPolicy| {
            let start = self.start(current, p, now);
            match p.type_.as_str() {
                "Percent" => {
                    let grown = f64::from(start) * (1.0 + f64::from(p.value) / 100.0);
                    // Replicas are far below the limits of i32.
                    #[allow(clippy::cast_possible_truncation)]
                    let grown = grown.ceil() as i32;
                    grown
                }
                _ => start.saturating_add(p.value),
            }
        };
        match select(rules) {
            Select::Disabled => current,
            Select::Min => policies(rules, &default)
                .map(limit)
                .min()
                .unwrap_or(current),
            Select::Max => policies(rules, &default)
                .map(limit)
                .max()
                .unwrap_or(current),
        }
    }

    /// The fewest replicas that the rules of scaling down allow now.
    fn least(&self, rules: Option<&HPAScalingRules>, current: i32, now: Timestamp) -> i32 {
        let default = [policy("Percent", 100, 15)];
        let limit = |p: &HPAScalingPolicy| {
            let start = self.start(current, p, now);
            match p.type_.as_str() {
                "Percent" => {
                    let shrunk = f64::from(start) * (1.0 - f64::from(p.value) / 100.0);
                    #[allow(clippy::cast_possible_truncation)]
                    let shrunk = shrunk as i32;
                    shrunk
                }
                _ => start - p.value,
            }
        };
        match select(rules) {
            Select::Disabled => current,
            Select::Min => policies(rules, &default)
                .map(limit)
                .max()
                .unwrap_or(current),
            Select::Max => policies(rules, &default)
                .map(limit)
                .min()
                .unwrap_or(current),
        }
    }

    /// The number of replicas at the start of a policy's period.
    fn start(&self, current: i32, p: &HPAScalingPolicy, now: Timestamp) -> i32 {
        let since = now.as_second() - i64::from(p.period_seconds);
        let sum = |list: &[At]| -> i32 {
            let recent = list.iter().filter(|a| a.at.as_second() > since);
            recent.map(|a| a.value).sum()
        };
        current - sum(&self.ups) + sum(&self.downs)
    }
}

enum Select {
    Max,
    Min,
    Disabled,
}

fn select(rules: Option<&HPAScalingRules>) -> Select {
    match rules.and_then(|r| r.select_policy.as_deref()) {
        Some("Disabled") => Select::Disabled,
        Some("Min") => Select::Min,
        _ => Select::Max,
    }
}

fn policy(kind: &str, value: i32, period_seconds: i32) -> HPAScalingPolicy {
    HPAScalingPolicy {
        type_: kind.into(),
        value,
        period_seconds,
    }
}

fn policies<'a>(
    rules: Option<&'a HPAScalingRules>,
    default: &'a [HPAScalingPolicy],
) -> std::slice::Iter<'a, HPAScalingPolicy> {
    let told = rules
        .and_then(|r| r.policies.as_deref())
        .filter(|p| !p.is_empty());
    told.unwrap_or(default).iter()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn group(usage: &[i64], unready: usize, missing: usize) -> Group {
        let name = |i: usize| format!("p{i}");
        let total = usage.len() + unready + missing;
        Group {
            usage: usage
                .iter()
                .enumerate()
                .map(|(i, u)| (name(i), *u))
                .collect(),
            requests: (0..total).map(|i| (name(i), 1000)).collect(),
            ready: (0..usage.len()).map(name).collect(),
            unready: (usage.len()..usage.len() + unready).map(name).collect(),
            missing: (usage.len() + unready..total).map(name).collect(),
        }
    }

    const T: Tolerances = Tolerances { up: 0.1, down: 0.1 };

    #[test]
    fn usage_against_the_target_gives_replicas() {
        let n = |g: &Group, current| replicas(current, g, Target::Utilization(50), T).unwrap().0;
        assert_eq!(n(&group(&[500, 500], 0, 0), 2), 2);
        assert_eq!(n(&group(&[520, 540], 0, 0), 2), 2, "within tolerance");
        assert_eq!(n(&group(&[900, 900], 0, 0), 2), 4);
        assert_eq!(n(&group(&[100, 100], 0, 0), 2), 1);
        assert_eq!(
            n(&group(&[900], 1, 0), 2),
            2,
            "an unready pod dampens the way up"
        );
        assert_eq!(
            n(&group(&[100, 100], 0, 2), 4),
            4,
            "missing samples count as full use"
        );
        assert!(replicas(1, &group(&[], 1, 0), Target::Average(5), T).is_err());
    }

    fn spec(behavior: &Value) -> HorizontalPodAutoscalerSpec {
        let mut v = json!({"minReplicas": 2, "maxReplicas": 20, "scaleTargetRef": {"kind": "x", "name": "x"}});
        if !behavior.is_null() {
            v["behavior"] = behavior.clone();
        }
        serde_json::from_value(v).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn bounds_and_rates_hold() {
        let m = Memory::default();
        let plain = spec(&Value::Null);
        let reason = |(n, l): (i32, Limit)| (n, l.2);
        assert_eq!(
            reason(m.bound(&plain, 3, 5, at(0))),
            (5, "DesiredWithinRange")
        );
        assert_eq!(reason(m.bound(&plain, 3, 15, at(0))), (6, "ScaleUpLimit"));
        assert_eq!(
            reason(m.bound(&plain, 15, 50, at(0))),
            (20, "TooManyReplicas")
        );
        assert_eq!(reason(m.bound(&plain, 3, 1, at(0))), (2, "TooFewReplicas"));
        let slow = spec(
            &json!({"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}),
        );
        let mut m = Memory::default();
        assert_eq!(reason(m.bound(&slow, 10, 3, at(0))), (9, "ScaleDownLimit"));
        m.changed(10, 9, at(0));
        assert_eq!(reason(m.bound(&slow, 9, 3, at(30))), (9, "ScaleDownLimit"));
        assert_eq!(reason(m.bound(&slow, 9, 3, at(61))), (8, "ScaleDownLimit"));
    }

    #[test]
    fn the_highest_recent_recommendation_holds_on_the_way_down() {
        let mut m = Memory::default();
        let s = spec(&Value::Null);
        assert_eq!(m.stabilize(&s, 5, 10, at(0)).0, 10);
        let (n, limit) = m.stabilize(&s, 10, 3, at(100));
        assert_eq!((n, limit.map(|l| l.2)), (10, Some("ScaleDownStabilized")));
        assert_eq!(m.stabilize(&s, 10, 3, at(500)).0, 3);
    }
}
