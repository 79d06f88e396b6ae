//! ClusterRole. Upstream: pkg/registry/rbac, pkg/apis/rbac/validation.

use api::names;
use jiff::Timestamp;
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::Value;

use super::rules;
use crate::cells;

struct ClusterRole;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        rules::GROUP,
        "v1",
        "ClusterRole",
        "clusterroles",
        Scope::Cluster,
        ClusterRole,
    )
}

impl Strategy for ClusterRole {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::path_segment(name, prefix)
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        rules::validate(obj, false, causes);
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        cells::default_columns()
    }

    fn row(&self, obj: &Value, _now: Timestamp) -> Row {
        vec![cells::name(obj), cells::created_at(obj)]
    }
}
