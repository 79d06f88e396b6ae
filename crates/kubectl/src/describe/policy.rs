//! Quotas, limit ranges, disruption budgets, priority classes.

use super::lines::{Lines, labels_or_none, number, or_none, selector};
use super::namespace::{limit_rows, quota_rows};
use super::{Describer, Seen};
use crate::object;

pub const QUOTA: Describer = Describer::of("", "ResourceQuota", quota).without_events();
pub const LIMIT_RANGE: Describer = Describer::of("", "LimitRange", limit_range).without_events();
pub const DISRUPTION_BUDGET: Describer = Describer::of("policy", "PodDisruptionBudget", budget);
pub const PRIORITY_CLASS: Describer =
    Describer::of("scheduling.k8s.io", "PriorityClass", priority_class);

fn quota(seen: &Seen<'_>, w: &mut Lines) {
    seen.head(w);
    let scopes = object::items(seen.object, "/spec/scopes")
        .iter()
        .map(object::plain);
    w.some(0, "Scopes", &scopes.collect::<Vec<_>>().join(", ").into());
    w.table(0, &["Resource", "Used", "Hard"]);
    quota_rows(seen.object, 0, w);
}

fn limit_range(seen: &Seen<'_>, w: &mut Lines) {
    seen.head(w);
    w.table(
        0,
        &[
            "Type",
            "Resource",
            "Min",
            "Max",
            "Default Request",
            "Default Limit",
            "Max Limit/Request Ratio",
        ],
    );
    for item in object::items(seen.object, "/spec/limits") {
        limit_rows(item, "", w);
    }
}

fn budget(seen: &Seen<'_>, w: &mut Lines) {
    let (spec, status) = (&seen.object["spec"], &seen.object["status"]);
    seen.head(w);
    w.some(0, "Min available", &spec["minAvailable"]);
    w.some(0, "Max unavailable", &spec["maxUnavailable"]);
    w.put(
        0,
        format!("Selector:\t{}", or_none(selector(&spec["selector"]))),
    );
    w.put(0, "Status:");
    for (title, field) in [
        ("Allowed disruptions", "disruptionsAllowed"),
        ("Current", "currentHealthy"),
        ("Desired", "desiredHealthy"),
        ("Total", "expectedPods"),
    ] {
        w.put(2, format!("{title}:\t{}", number(&status[field])));
    }
}

fn priority_class(seen: &Seen<'_>, w: &mut Lines) {
    let o = seen.object;
    w.put(0, format!("Name:\t{}", object::name(o)));
    w.put(0, format!("Value:\t{}", number(&o["value"])));
    w.put(0, format!("GlobalDefault:\t{}", o["globalDefault"] == true));
    let policy = o["preemptionPolicy"]
        .as_str()
        .unwrap_or("PreemptLowerPriority");
    w.put(0, format!("PreemptionPolicy:\t{policy}"));
    w.put(
        0,
        format!("Description:\t{}", object::text(o, "/description")),
    );
    let annotations = labels_or_none(&o["metadata"]["annotations"]);
    w.put(0, format!("Annotations:\t{annotations}"));
}
