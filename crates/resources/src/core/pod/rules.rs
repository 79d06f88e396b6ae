//! Validation of pods around their spec. Upstream: ValidatePodCreate, validatePodMetadataAndSpec;
//! validation-pod §8.0.

use machinery::Causes;
use machinery::object::{at, list_at, map_at, str_at};
use serde_json::Value;

use super::super::pod_checks::{self, Cx, annotations};

/// A new pod.
pub fn create(pod: &Value, causes: &mut Causes) {
    full(pod, None, causes);
    causes.at("spec", |c| {
        if !list_at(pod, "spec.ephemeralContainers").is_empty() {
            c.at("ephemeralContainers", |c| {
                c.forbidden("cannot be set on create");
            });
        }
        let gated = !list_at(pod, "spec.schedulingGates").is_empty();
        if gated && !str_at(pod, "spec.nodeName").is_empty() {
            c.at("nodeName", |c| {
                c.forbidden("cannot be set until all schedulingGates have been cleared");
            });
        }
    });
    annotations::match_fields(pod, causes);
}

/// What holds for every pod at any time; `before` is the stored one.
pub fn full(pod: &Value, before: Option<&Value>, causes: &mut Causes) {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let notes = map_at(pod, "metadata.annotations");
    let old = before.and_then(|b| map_at(b, "metadata.annotations"));
    causes.at("metadata", |c| {
        c.at("annotations", |c| annotations::all(notes, spec, old, c));
    });
    let cx = Cx {
        pod: true,
        name: machinery::object::name(pod),
        mirror: notes.is_some_and(|n| n.contains_key(annotations::MIRROR)),
        before: before.and_then(|b| b.get("spec")),
    };
    causes.at("spec", |c| {
        pod_checks::validate(spec, cx, c);
        tokens(spec, c);
        for list in ["containers", "initContainers"] {
            for (i, one) in list_at(spec, list).iter().enumerate() {
                c.at(list, |c| c.index(i, |c| pod_checks::image_space(one, c)));
            }
        }
    });
}

/// Tokens need an account.
fn tokens(spec: &Value, c: &mut Causes) {
    if !str_at(spec, "serviceAccountName").is_empty() {
        return;
    }
    for (i, v) in list_at(spec, "volumes").iter().enumerate() {
        for (j, s) in list_at(v, "projected.sources").iter().enumerate() {
            if at(s, "serviceAccountToken").is_none() {
                continue;
            }
            c.at("volumes", |c| {
                c.index(i, |c| {
                    c.at("projected", |c| {
                        c.at("sources", |c| {
                            c.index(j, |c| {
                                c.at("serviceAccountToken", |c| {
                                    c.forbidden(
                                        "must not be specified when serviceAccountName is not set",
                                    );
                                });
                            });
                        });
                    });
                });
            });
        }
    }
}
