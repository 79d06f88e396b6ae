//! ValidatingAdmissionPolicyBinding. Upstream: pkg/registry/admissionregistration, pkg/apis/admissionregistration/validation.

use api::names;
use jiff::Timestamp;
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::Value;

use super::{CATEGORY, GROUP, policy, rules};

struct ValidatingAdmissionPolicyBinding;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        Scope::Cluster,
        ValidatingAdmissionPolicyBinding,
    )
    .category(CATEGORY)
}

impl Strategy for ValidatingAdmissionPolicyBinding {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        policy::match_defaults(obj, "spec.matchResources");
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        policy::binding(obj, causes);
        policy::validation_actions(obj, causes);
    }

    fn warnings(&self, obj: &Value, _before: Option<&Value>) -> Vec<String> {
        rules::name_warnings(obj)
    }

    fn columns(&self) -> Vec<Column> {
        policy::binding_columns()
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        policy::binding_row(obj, now)
    }
}
