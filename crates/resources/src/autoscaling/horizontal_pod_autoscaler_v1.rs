//! HorizontalPodAutoscaler, autoscaling/v1: the same stored object as v2, seen through `convert`.

use jiff::Timestamp;
use machinery::object::{at, map_at, set_default};
use machinery::{Causes, Column, Descriptor, Row, Strategy};
use serde_json::{Value, json};

use super::{convert, horizontal_pod_autoscaler as v2};

struct HorizontalPodAutoscalerV1;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    v2::descriptor("v1", HorizontalPodAutoscalerV1)
}

fn seen_as_v2(obj: &Value) -> Value {
    let mut obj = obj.clone();
    convert::to_v2(&mut obj);
    v2::set_defaults(&mut obj);
    obj
}

impl Strategy for HorizontalPodAutoscalerV1 {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        api::names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        set_default(obj, "spec.minReplicas", json!(1));
        // What v2 defaults to when nothing is asked for.
        let noted = map_at(obj, "metadata.annotations")
            .is_some_and(|m| m.contains_key("autoscaling.alpha.kubernetes.io/metrics"));
        if !noted && at(obj, "spec").is_some() {
            set_default(obj, "spec.targetCPUUtilizationPercentage", json!(80));
        }
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn generation_changes(&self, obj: &Value, before: &Value) -> bool {
        seen_as_v2(obj).get("spec") != seen_as_v2(before).get("spec")
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        v2::validate(&seen_as_v2(obj), None, causes);
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        v2::validate(&seen_as_v2(obj), Some(&seen_as_v2(before)), causes);
    }

    fn validate_status_update(&self, obj: &Value, _before: &Value, causes: &mut Causes) {
        v2::validate_status(obj, causes);
    }

    fn converts(&self) -> bool {
        true
    }

    fn from_stored(&self, obj: &mut Value) {
        convert::to_v1(obj);
    }

    fn to_stored(&self, obj: &mut Value) {
        convert::to_v2(obj);
        v2::set_defaults(obj);
    }

    fn columns(&self) -> Vec<Column> {
        v2::columns()
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        v2::row(&seen_as_v2(obj), now)
    }
}
