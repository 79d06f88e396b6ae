//! What an update of a persistent volume may not do. Upstream: ValidatePersistentVolumeUpdate.

use machinery::Causes;
use machinery::object::{at, set, str_at};
use serde_json::{Value, json};

use super::SOURCES;
use crate::checks;
use crate::core::same;

/// Everything.
pub fn all(obj: &Value, before: &Value, causes: &mut Causes) {
    let (new, old) = (&obj["spec"], &before["spec"]);
    let of = |spec: &Value| -> Value {
        let all = SOURCES.iter();
        all.filter_map(|s| Some((s.field.to_string(), at(spec, s.field)?.clone())))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let (mut wanted, known) = (of(new), of(old));
    // A secret for expanding may come later.
    if at(old, "csi.controllerExpandSecretRef").is_none() {
        machinery::object::remove(&mut wanted, "csi.controllerExpandSecretRef");
    }
    causes.at("spec", |c| {
        if !same::values(&wanted, &known) {
            c.at("persistentvolumesource", |c| {
                c.forbidden(format!(
                    "spec.persistentvolumesource is immutable after creation\n{}",
                    crate::diff::unified(&known, &wanted)
                ));
            });
        }
        let class = |s| at(s, "volumeAttributesClassName").is_some();
        if class(old) && !class(new) {
            c.at("volumeAttributesClassName", |c| {
                c.forbidden("update from non-nil value to nil is forbidden");
            });
        }
    });
    if at(new, "volumeMode") != at(old, "volumeMode") {
        let mode = at(new, "volumeMode").cloned().unwrap_or_default();
        causes.at("volumeMode", |c| c.invalid(&mode, checks::IMMUTABLE));
    }
    let affinity = |s| at(s, "nodeAffinity").cloned();
    if affinity(old).is_some() && affinity(new) != affinity(old).map(|a| renamed(a, new)) {
        let shown = affinity(new).unwrap_or_default();
        causes.at("nodeAffinity", |c| {
            c.invalid(
                &shown,
                "field is immutable, except for updating from beta label to GA",
            );
        });
    }
}

/// An old affinity whose beta keys are the new one's where the new one moved to them.
fn renamed(mut old: Value, new_spec: &Value) -> Value {
    let moves = [
        ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
        ("beta.kubernetes.io/os", "kubernetes.io/os"),
        (
            "beta.kubernetes.io/instance-type",
            "node.kubernetes.io/instance-type",
        ),
        (
            "failure-domain.beta.kubernetes.io/region",
            "topology.kubernetes.io/region",
        ),
        (
            "failure-domain.beta.kubernetes.io/zone",
            "topology.kubernetes.io/zone",
        ),
    ];
    let terms = old.pointer_mut("/required/nodeSelectorTerms");
    let Some(Value::Array(terms)) = terms else {
        return old;
    };
    for (i, term) in terms.iter_mut().enumerate() {
        let Some(Value::Array(all)) = term.get_mut("matchExpressions") else {
            continue;
        };
        for (j, e) in all.iter_mut().enumerate() {
            let path =
                format!("/nodeAffinity/required/nodeSelectorTerms/{i}/matchExpressions/{j}/key");
            let now = new_spec.pointer(&path).and_then(Value::as_str);
            let moved = moves.iter().find(|(beta, _)| str_at(e, "key") == *beta);
            if let Some((_, ga)) = moved
                && now == Some(ga)
            {
                set(e, "key", json!(ga));
            }
        }
    }
    old
}
