//! APIService. Upstream: kube-aggregator registry/apiservice, apis/apiregistration/validation.

use api::names;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use machinery::object::{at, bool_at, i64_at, list_at, set, set_default, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use crate::cells;
use crate::fields;

struct ApiService;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    let mut d = Descriptor::new(
        "apiregistration.k8s.io",
        "v1",
        "APIService",
        "apiservices",
        Scope::Cluster,
        ApiService,
    )
    .category(&["api-extensions"])
    .status();
    d.storage_prefix = "apiregistration.k8s.io/apiservices".into();
    d
}

impl Strategy for ApiService {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::path_segment(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        if at(obj, "spec.service").is_some() {
            set_default(obj, "spec.service.port", json!(443));
        }
    }

    fn prepare_create(&self, obj: &mut Value, cx: &WriteContext) {
        set(obj, "status", json!({}));
        if at(obj, "spec.service").is_none() {
            let available = json!({"type": "Available", "status": "True", "reason": "Local",
                "message": "Local APIServices are always available",
                "lastTransitionTime": crate::time::rfc3339(cx.now)});
            set(obj, "status.conditions", json!([available]));
        }
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, cx: &WriteContext) {
        machinery::strategy::freeze_all_but_status(obj, before);
        fields::keep_metadata(obj, before, cx);
    }

    fn has_status(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let spec = obj.get("spec").unwrap_or(&Value::Null);
        let (group, version) = (str_at(spec, "group"), str_at(spec, "version"));
        let (name, wanted) = (machinery::object::name(obj), format!("{version}.{group}"));
        if name != wanted {
            causes.at("metadata.name", |c| {
                c.invalid(
                    &json!(name),
                    format!("must be `spec.version+\".\"+spec.group`: \"{wanted}\""),
                );
            });
        }
        causes.at("spec", |c| {
            identity(spec, c);
            match at(spec, "service") {
                None => local(spec, c),
                Some(service) => remote(spec, service, c),
            }
        });
    }

    fn validate_status_update(&self, obj: &Value, _before: &Value, causes: &mut Causes) {
        causes.at("status.conditions", |c| {
            for (i, one) in list_at(obj, "status.conditions").iter().enumerate() {
                let status = str_at(one, "status");
                let allowed = ["True", "False", "Unknown"];
                if !allowed.contains(&status) {
                    c.index(i, |c| {
                        c.at("status", |c| {
                            fields::unsupported(c, &json!(status), &allowed);
                        });
                    });
                }
            }
        });
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("Service"),
            Column::new("Available"),
            Column::new("Age"),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let service = at(obj, "spec.service").map_or_else(
            || "Local".to_string(),
            |s| format!("{}/{}", str_at(s, "namespace"), str_at(s, "name")),
        );
        let condition = list_at(obj, "status.conditions")
            .iter()
            .find(|c| str_at(c, "type") == "Available");
        let available = condition.map_or_else(
            || "Unknown".to_string(),
            |c| match (str_at(c, "status"), str_at(c, "reason")) {
                ("True", _) => "True".into(),
                (status, "") => status.into(),
                (status, reason) => format!("{status} ({reason})"),
            },
        );
        vec![
            cells::name(obj),
            json!(service),
            json!(available),
            cells::age(obj, now),
        ]
    }
}

fn identity(spec: &Value, c: &mut Causes) {
    let (group, version) = (str_at(spec, "group"), str_at(spec, "version"));
    c.at("group", |c| {
        if !group.is_empty() {
            fields::text(group, names::dns1123_subdomain, c);
        } else if version != "v1" {
            c.required("only v1 may have an empty group and it better be legacy kube");
        }
    });
    c.at("version", |c| {
        fields::text(version, names::dns1035_label, c);
    });
    for (field, max) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
        let n = i64_at(spec, field).unwrap_or(0);
        if !(1..=max).contains(&n) {
            c.at(field, |c| {
                c.invalid(&json!(n), format!("must be positive and less than {max}"));
            });
        }
    }
}

fn bundle_len(spec: &Value) -> usize {
    BASE64_STANDARD
        .decode(str_at(spec, "caBundle"))
        .map_or(0, |b| b.len())
}

fn local(spec: &Value, c: &mut Causes) {
    let bytes = bundle_len(spec);
    if bytes > 0 {
        c.at("caBundle", |c| {
            c.invalid(
                &json!(format!("{bytes} bytes")),
                "local APIServices may not have a caBundle",
            );
        });
    }
    if bool_at(spec, "insecureSkipTLSVerify") == Some(true) {
        c.at("insecureSkipTLSVerify", |c| {
            c.invalid(
                &json!(true),
                "local APIServices may not have insecureSkipTLSVerify",
            );
        });
    }
}

fn remote(spec: &Value, service: &Value, c: &mut Causes) {
    c.at("service", |c| {
        for field in ["namespace", "name"] {
            fields::required(service, field, c);
        }
        let port = i64_at(service, "port").unwrap_or(0);
        if !(1..=65535).contains(&port) {
            c.at("port", |c| {
                c.invalid(
                    &json!(port),
                    "port is not valid: must be between 1 and 65535, inclusive",
                );
            });
        }
    });
    if bool_at(spec, "insecureSkipTLSVerify") == Some(true) && bundle_len(spec) > 0 {
        c.at("insecureSkipTLSVerify", |c| {
            c.invalid(&json!(true), "may not be true if caBundle is present");
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn mistakes_read_as_upstreams() {
        let mut good = json!({"metadata": {"name": "v1.x.io"}, "spec": {"group": "x.io", "version": "v1",
            "groupPriorityMinimum": 100, "versionPriority": 10, "service": {"namespace": "n", "name": "s"}}});
        ApiService.set_defaults(&mut good);
        assert_eq!(texts(|c| ApiService.validate(&good, c)), [""; 0]);
        for (path, value, expected) in [
            (
                "metadata.name",
                json!("x"),
                "metadata.name: Invalid value: \"x\": must be `spec.version+\".\"+spec.group`: \"v1.x.io\"",
            ),
            (
                "spec.groupPriorityMinimum",
                json!(0),
                "spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000",
            ),
            (
                "spec.service",
                json!({"namespace": "n", "name": "s", "port": 70_000}),
                "spec.service.port: Invalid value: 70000: port is not valid: must be between 1 and 65535, inclusive",
            ),
        ] {
            let mut obj = good.clone();
            set(&mut obj, path, value);
            assert_eq!(texts(|c| ApiService.validate(&obj, c)), [expected]);
        }
    }
}
