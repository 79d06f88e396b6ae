//! Lease. Upstream: pkg/registry/coordination/lease.

use api::names;
use jiff::Timestamp;
use machinery::object::{i64_at, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use crate::cells;

struct Lease;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        "coordination.k8s.io",
        "v1",
        "Lease",
        "leases",
        Scope::Namespaced,
        Lease,
    )
}

impl Strategy for Lease {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        causes.at("spec", |c| {
            if let Some(n) = i64_at(obj, "spec.leaseDurationSeconds").filter(|n| *n <= 0) {
                c.at("leaseDurationSeconds", |c| {
                    c.invalid(&json!(n), "must be greater than 0")
                });
            }
            if let Some(n) = i64_at(obj, "spec.leaseTransitions").filter(|n| *n < 0) {
                c.at("leaseTransitions", |c| {
                    c.invalid(&json!(n), "must be greater than or equal to 0");
                });
            }
        });
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column::name(), Column::new("Holder"), Column::new("Age")]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        vec![
            cells::name(obj),
            json!(str_at(obj, "spec.holderIdentity")),
            cells::age(obj, now),
        ]
    }
}
