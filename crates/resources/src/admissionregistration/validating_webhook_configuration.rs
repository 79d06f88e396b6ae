//! ValidatingWebhookConfiguration. Upstream: pkg/registry/admissionregistration, pkg/apis/admissionregistration/validation.

use api::names;
use jiff::Timestamp;
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::Value;

use super::{CATEGORY, GROUP, rules, webhook};

struct ValidatingWebhookConfiguration;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        Scope::Cluster,
        ValidatingWebhookConfiguration,
    )
    .category(CATEGORY)
}

impl Strategy for ValidatingWebhookConfiguration {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        webhook::set_defaults(obj, false);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn generation_changes(&self, obj: &Value, before: &Value) -> bool {
        obj.get("webhooks") != before.get("webhooks")
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        webhook::validate(obj, None, causes);
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        webhook::validate(obj, Some(before), causes);
    }

    fn warnings(&self, obj: &Value, _before: Option<&Value>) -> Vec<String> {
        rules::name_warnings(obj)
    }

    fn columns(&self) -> Vec<Column> {
        webhook::columns()
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        webhook::row(obj, now)
    }
}
