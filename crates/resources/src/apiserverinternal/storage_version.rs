//! StorageVersion. Upstream: pkg/registry/apiserverinternal/storageversion, pkg/apis/apiserverinternal/validation.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, list_at, str_at};
use machinery::strategy::freeze_all_but_status;
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use crate::{cells, fields};

const SHOWN: usize = 3;

struct StorageVersion;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        "internal.apiserver.k8s.io",
        "v1alpha1",
        "StorageVersion",
        "storageversions",
        Scope::Cluster,
        StorageVersion,
    )
    .status()
}

/// What is wrong with an `apiVersion`.
fn version_problems(text: &str) -> Vec<String> {
    let part = |name: &str, problems: Vec<String>| -> Vec<String> {
        let with = |p: String| format!("{name} part: {p}");
        problems.into_iter().map(with).collect()
    };
    let checked = |text: &str, check: fn(&str) -> Vec<String>| match text.is_empty() {
        true => vec!["must be non-empty".to_string()],
        false => check(text),
    };
    let parts: Vec<&str> = text.split('/').collect();
    let (mut out, version) = match parts[..] {
        [version] => (Vec::new(), version),
        [group, version] => {
            let group = checked(group, names::dns1123_subdomain);
            (part("group", group), version)
        }
        _ => {
            return vec![
                "an apiVersion is a DNS-1035 label, which must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyVersion')".into(),
            ];
        }
    };
    out.extend(part("version", checked(version, names::dns1035_label)));
    out
}

fn version(text: &str, c: &mut Causes) {
    let problems = version_problems(text);
    if !problems.is_empty() {
        c.invalid(&json!(text), problems.join(","));
    }
}

fn server(server: &Value, c: &mut Causes) {
    fields::text_at(server, "apiServerID", names::dns1123_subdomain, c);
    let encoding = str_at(server, "encodingVersion");
    c.at("encodingVersion", |c| version(encoding, c));
    let texts = |field: &str| -> Vec<&str> {
        let all = list_at(server, field).iter();
        all.filter_map(Value::as_str).collect()
    };
    let (decodable, served) = (texts("decodableVersions"), texts("servedVersions"));
    c.at("decodableVersions", |c| {
        for (i, text) in decodable.iter().enumerate() {
            c.index(i, |c| version(text, c));
        }
        if !decodable.contains(&encoding) {
            let why = format!("decodableVersions must include encodingVersion {encoding}");
            c.invalid(&json!(decodable), why);
        }
    });
    c.at("servedVersions", |c| {
        for (i, text) in served.iter().enumerate() {
            c.index(i, |c| {
                version(text, c);
                if !decodable.contains(text) {
                    let all = decodable.join(" ");
                    let why = format!(
                        "individual served version : {text} must be included in decodableVersions : [{all}]"
                    );
                    c.invalid(&json!(text), why);
                }
            });
        }
    });
}

/// The version that all servers encode in.
fn common(servers: &[Value]) -> Option<&str> {
    let mut all = servers.iter().map(|s| str_at(s, "encodingVersion"));
    let first = all.next()?;
    all.all(|v| v == first).then_some(first)
}

fn common_version(status: &Value, c: &mut Causes) {
    let said = at(status, "commonEncodingVersion").and_then(Value::as_str);
    let why = match (common(list_at(status, "storageVersions")), said) {
        (None, Some(_)) => "should be nil if servers do not agree on the same encoding version, or if there is no server reporting the supported versions yet".to_string(),
        (Some(actual), None) => format!("the common encoding version is {actual}"),
        (Some(actual), Some(said)) if actual != said => {
            format!("the actual common encoding version is {actual}")
        }
        _ => return,
    };
    c.at("commonEncodingVersion", |c| c.invalid(&json!(said), why));
}

fn conditions(all: &[Value], c: &mut Causes) {
    for (i, condition) in all.iter().enumerate() {
        let kind = str_at(condition, "type");
        let first = all.iter().position(|o| str_at(o, "type") == kind);
        c.index(i, |c| {
            if let Some(first) = first.filter(|first| *first < i) {
                let why = format!(
                    "the type of the condition is not unique, it also appears in conditions[{first}]"
                );
                c.at("type", |c| c.invalid(&json!(kind), why));
            }
            fields::text_at(condition, "type", names::qualified_name, c);
            fields::text_at(condition, "status", names::qualified_name, c);
            fields::required(condition, "reason", c);
            fields::required(condition, "message", c);
        });
    }
}

impl Strategy for StorageVersion {
    fn name_problems(&self, name: &str, _prefix: bool) -> Vec<String> {
        let Some((group, resource)) = name.rsplit_once('.') else {
            return vec!["name must be in the form of <group>.<resource>".into()];
        };
        let part = |name: &'static str, problems: Vec<String>| {
            let with = move |p: String| format!("the {name} segment {p}");
            problems.into_iter().map(with)
        };
        let group = part("group", names::dns1123_subdomain(group));
        group
            .chain(part("resource", names::dns1035_label(resource)))
            .collect()
    }

    fn has_status(&self) -> bool {
        true
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, cx: &WriteContext) {
        freeze_all_but_status(obj, before);
        fields::keep_metadata(obj, before, cx);
    }

    fn validate_status_update(&self, obj: &Value, _before: &Value, causes: &mut Causes) {
        let status = obj.get("status").unwrap_or(&Value::Null);
        causes.at("status", |c| {
            let servers = list_at(status, "storageVersions");
            c.at("storageVersions", |c| {
                fields::unique(servers, "apiServerID", c);
                for (i, one) in servers.iter().enumerate() {
                    c.index(i, |c| server(one, c));
                }
            });
            common_version(status, c);
            conditions(list_at(status, "conditions"), c);
        });
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        let mut all = vec![Column::name()];
        all.extend(["CommonEncodingVersion", "StorageVersions", "Age"].map(Column::new));
        all
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let common = at(obj, "status.commonEncodingVersion").and_then(Value::as_str);
        let servers = list_at(obj, "status.storageVersions").iter();
        let shown: Vec<String> = servers
            .map(|s| {
                format!(
                    "{}={}",
                    str_at(s, "apiServerID"),
                    str_at(s, "encodingVersion")
                )
            })
            .collect();
        vec![
            cells::name(obj),
            json!(common.unwrap_or("<unset>")),
            json!(cells::more(&shown, SHOWN, "")),
            cells::age(obj, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn names_and_versions_are_checked() {
        assert_eq!(
            StorageVersion.name_problems("apps.deployments", false),
            [""; 0]
        );
        assert_eq!(
            StorageVersion.name_problems("x", false),
            ["name must be in the form of <group>.<resource>"]
        );
        let check = |status: Value| {
            let obj = json!({"status": status});
            texts(|c| StorageVersion.validate_status_update(&obj, &obj, c))
        };
        let one = json!({"apiServerID": "a", "encodingVersion": "apps/v1", "decodableVersions": ["apps/v1"]});
        let good = json!({"storageVersions": [one], "commonEncodingVersion": "apps/v1"});
        assert_eq!(check(good), [""; 0]);
        assert_eq!(
            check(json!({"storageVersions": [one]})),
            [
                "status.commonEncodingVersion: Invalid value: null: the common encoding version is apps/v1"
            ]
        );
    }
}
