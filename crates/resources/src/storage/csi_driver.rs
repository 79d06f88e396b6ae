//! CSIDriver. Upstream: pkg/registry/storage/csidriver, pkg/apis/storage.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, bool_at, i64_at, list_at, remove, set, set_default, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use super::GROUP;
use crate::cells;
use crate::fields;

/// Bounds of a token's life.
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;
/// Shortest time between two updates of what a node can hold.
const UPDATE_SECONDS_MIN: i64 = 10;

struct CsiDriver;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "CSIDriver",
        "csidrivers",
        Scope::Cluster,
        CsiDriver,
    )
}

impl Strategy for CsiDriver {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        set_default(obj, "spec.attachRequired", json!(true));
        for field in [
            "podInfoOnMount",
            "storageCapacity",
            "requiresRepublish",
            "seLinuxMount",
        ] {
            set_default(obj, &format!("spec.{field}"), json!(false));
        }
        set_default(obj, "spec.fsGroupPolicy", json!("ReadWriteOnceWithFSType"));
        if list_at(obj, "spec.volumeLifecycleModes").is_empty() {
            set(obj, "spec.volumeLifecycleModes", json!(["Persistent"]));
        }
    }

    fn prepare_create(&self, obj: &mut Value, _cx: &WriteContext) {
        // Generations of this kind start with the first change.
        remove(obj, "metadata.generation");
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let spec = obj.get("spec").unwrap_or(&Value::Null);
        causes.at("spec", |c| {
            for (field, path) in [
                ("attachRequired", "attachedRequired"),
                ("podInfoOnMount", "podInfoOnMount"),
                ("storageCapacity", "storageCapacity"),
            ] {
                if at(spec, field).is_none() {
                    c.at(path, |c| c.required(""));
                }
            }
            let policies = ["File", "None", "ReadWriteOnceWithFSType"];
            fields::required_enum(spec, "fsGroupPolicy", &policies, c);
            tokens(spec, c);
            for mode in list_at(spec, "volumeLifecycleModes") {
                let modes = ["Persistent", "Ephemeral"];
                if !modes.contains(&mode.as_str().unwrap_or("")) {
                    c.at("volumeLifecycleModes", |c| {
                        fields::unsupported(c, mode, &modes);
                    });
                }
            }
            if at(spec, "seLinuxMount").is_none() {
                c.at("seLinuxMount", |c| c.required(""));
            }
            fields::at_least(
                spec,
                "nodeAllocatableUpdatePeriodSeconds",
                UPDATE_SECONDS_MIN,
                "must be greater than or equal to 10 seconds",
                c,
            );
        });
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        for (field, path) in [
            ("attachRequired", "attachedRequired"),
            ("volumeLifecycleModes", "volumeLifecycleModes"),
        ] {
            let value = |o: &Value| at(o, &format!("spec.{field}")).cloned();
            if value(obj) != value(before) {
                let shown = value(obj).unwrap_or_default();
                causes.at("spec", |c| {
                    c.at(path, |c| c.invalid(&shown, fields::IMMUTABLE));
                });
            }
        }
    }

    fn warnings(&self, obj: &Value, before: Option<&Value>) -> Vec<String> {
        let asks = |o: &Value| {
            !list_at(o, "spec.tokenRequests").is_empty()
                && at(o, "spec.serviceAccountTokenInSecrets").is_none()
        };
        let same = before.is_some_and(|b| b.get("spec") == obj.get("spec"));
        if !asks(obj) || same {
            return Vec::new();
        }
        vec!["spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes".into()]
    }

    fn columns(&self) -> Vec<Column> {
        let boolean = |name: &str| Column {
            kind: "boolean".into(),
            ..Column::new(name)
        };
        vec![
            Column::name(),
            boolean("AttachRequired"),
            boolean("PodInfoOnMount"),
            boolean("StorageCapacity"),
            Column::new("TokenRequests"),
            boolean("RequiresRepublish"),
            Column::new("Modes"),
            Column::new("Age"),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let flag =
            |field: &str, default| json!(bool_at(obj, &format!("spec.{field}")).unwrap_or(default));
        let audiences: Vec<&str> = list_at(obj, "spec.tokenRequests")
            .iter()
            .map(|t| str_at(t, "audience"))
            .collect();
        let tokens = match at(obj, "spec.tokenRequests") {
            None => "<unset>".into(),
            Some(_) => audiences.join(","),
        };
        let modes: Vec<&str> = list_at(obj, "spec.volumeLifecycleModes")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        vec![
            cells::name(obj),
            flag("attachRequired", true),
            flag("podInfoOnMount", false),
            flag("storageCapacity", false),
            json!(tokens),
            flag("requiresRepublish", false),
            cells::or_none(&modes.join(",")),
            cells::age(obj, now),
        ]
    }
}

fn tokens(spec: &Value, c: &mut Causes) {
    let all = list_at(spec, "tokenRequests");
    c.at("tokenRequests", |c| {
        fields::unique(all, "audience", c);
        for (i, token) in all.iter().enumerate() {
            let Some(n) = i64_at(token, "expirationSeconds") else {
                continue;
            };
            c.index(i, |c| {
                c.at("expirationSeconds", |c| {
                    if n < TOKEN_SECONDS_MIN {
                        c.invalid(&json!(n), "may not specify a duration less than 10 minutes");
                    }
                    if n > TOKEN_SECONDS_MAX {
                        c.invalid(
                            &json!(n),
                            "may not specify a duration larger than 2^32 seconds",
                        );
                    }
                });
            });
        }
    });
    if all.is_empty() && bool_at(spec, "serviceAccountTokenInSecrets").is_some() {
        let shown = spec["serviceAccountTokenInSecrets"].clone();
        c.at("serviceAccountTokenInSecrets", |c| {
            c.invalid(
                &shown,
                "serviceAccountTokenInSecrets is set but no tokenRequests are specified",
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn mistakes_read_as_upstreams() {
        let mut good = json!({"metadata": {"name": "d"}, "spec": {}});
        CsiDriver.set_defaults(&mut good);
        assert_eq!(texts(|c| CsiDriver.validate(&good, c)), [""; 0]);
        for (path, value, expected) in [
            (
                "spec.fsGroupPolicy",
                json!("x"),
                "spec.fsGroupPolicy: Unsupported value: \"x\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
            ),
            (
                "spec.tokenRequests",
                json!([{"audience": "a"}, {"audience": "a"}]),
                "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
            ),
            (
                "spec.volumeLifecycleModes",
                json!(["x"]),
                "spec.volumeLifecycleModes: Unsupported value: \"x\": supported values: \"Persistent\", \"Ephemeral\"",
            ),
            (
                "spec.serviceAccountTokenInSecrets",
                json!(true),
                "spec.serviceAccountTokenInSecrets: Invalid value: true: serviceAccountTokenInSecrets is set but no tokenRequests are specified",
            ),
        ] {
            let mut obj = good.clone();
            set(&mut obj, path, value);
            assert_eq!(texts(|c| CsiDriver.validate(&obj, c)), [expected]);
        }
        let mut obj = good.clone();
        set(&mut obj, "spec.attachRequired", json!(false));
        assert_eq!(
            texts(|c| CsiDriver.validate_update(&obj, &good, c)),
            ["spec.attachedRequired: Invalid value: false: field is immutable"]
        );
    }
}
