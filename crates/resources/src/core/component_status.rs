//! ComponentStatus: read only, made up of the parts' health as it is asked for (crate `apiserver`).
//! Upstream: pkg/registry/core/componentstatus, deprecated since 1.19; validation-core §11.

use jiff::Timestamp;
use machinery::object::{list_at, str_at};
use machinery::{Column, Descriptor, Row, Scope, Strategy, Verb};
use serde_json::{Value, json};

use crate::cells;

struct ComponentStatus;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    let d = Descriptor::new(
        "",
        "v1",
        "ComponentStatus",
        "componentstatuses",
        Scope::Cluster,
        ComponentStatus,
    );
    Descriptor {
        verbs: &[Verb::Get, Verb::List],
        stored: false,
        ..d.short(&["cs"])
    }
}

impl Strategy for ComponentStatus {
    fn name_problems(&self, _name: &str, _prefix: bool) -> Vec<String> {
        Vec::new()
    }

    fn deprecation(&self) -> Option<&str> {
        Some("v1 ComponentStatus is deprecated in v1.19+")
    }

    fn columns(&self) -> Vec<Column> {
        let rest = ["Status", "Message", "Error"].map(Column::new);
        [Column::name()].into_iter().chain(rest).collect()
    }

    fn row(&self, obj: &Value, _now: Timestamp) -> Row {
        let conditions = list_at(obj, "conditions");
        let healthy = conditions.iter().find(|c| str_at(c, "type") == "Healthy");
        let status = match healthy.map(|c| str_at(c, "status")) {
            None => "Unknown",
            Some("True") => "Healthy",
            Some(_) => "Unhealthy",
        };
        let said = |field: &str| json!(healthy.map_or("", |c| str_at(c, field)));
        vec![
            cells::name(obj),
            json!(status),
            said("message"),
            said("error"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_show_the_first_condition_of_health() {
        let row = |conditions: Value| {
            let obj = json!({"metadata": {"name": "c"}, "conditions": conditions});
            json!(ComponentStatus.row(&obj, Timestamp::UNIX_EPOCH))
        };
        let healthy = json!({"type": "Healthy", "status": "True", "message": "ok"});
        let other = json!({"type": "Other", "status": "True", "message": "no"});
        assert_eq!(
            row(json!([other, healthy])),
            json!(["c", "Healthy", "ok", ""])
        );
        let ill = json!({"type": "Healthy", "status": "Unknown", "error": "why"});
        assert_eq!(row(json!([ill])), json!(["c", "Unhealthy", "", "why"]));
        assert_eq!(row(json!([])), json!(["c", "Unknown", "", ""]));
    }
}
