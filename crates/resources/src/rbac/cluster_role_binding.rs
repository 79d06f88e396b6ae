//! ClusterRoleBinding. Upstream: pkg/registry/rbac, pkg/apis/rbac/validation.

use api::names;
use jiff::Timestamp;
use machinery::object::str_at;
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use super::rules;
use crate::cells;

struct ClusterRoleBinding;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        rules::GROUP,
        "v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        Scope::Cluster,
        ClusterRoleBinding,
    )
}

impl Strategy for ClusterRoleBinding {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::path_segment(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        rules::binding_defaults(obj);
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        rules::validate_binding(obj, &["ClusterRole"], false, causes);
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        rules::same_role(obj, before, causes);
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("Role"),
            Column::new("Age"),
            Column::new("Users").wide(),
            Column::new("Groups").wide(),
            Column::new("ServiceAccounts").wide(),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let role = format!(
            "{}/{}",
            str_at(obj, "roleRef.kind"),
            str_at(obj, "roleRef.name")
        );
        let [users, groups, accounts] = rules::subjects_cells(obj);
        vec![
            cells::name(obj),
            json!(role),
            cells::age(obj, now),
            users,
            groups,
            accounts,
        ]
    }
}
