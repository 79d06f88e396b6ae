//! VolumeAttachment. Upstream: pkg/registry/storage/volumeattachment, pkg/apis/storage.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, bool_at, map_at, str_at};
use machinery::strategy::freeze_all_but_status;
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use super::{GROUP, rules};
use crate::cells;
use crate::fields;

/// Bytes of what an attacher may note.
const METADATA_BYTES_MAX: usize = 256 << 10;
const MESSAGE_BYTES_MAX: usize = 1024;

struct VolumeAttachment;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "VolumeAttachment",
        "volumeattachments",
        Scope::Cluster,
        VolumeAttachment,
    )
    .status()
}

impl Strategy for VolumeAttachment {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn has_status(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, cx: &WriteContext) {
        freeze_all_but_status(obj, before);
        fields::keep_metadata(obj, before, cx);
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let spec = obj.get("spec").unwrap_or(&Value::Null);
        causes.at("spec", |c| {
            source(spec, c);
            fields::required_text(spec, "nodeName", names::dns1123_subdomain, c);
        });
        let status = obj.get("status").unwrap_or(&Value::Null);
        causes.at("status", |c| status_rules(status, c));
        causes.at("spec", |c| rules::driver(spec, "attacher", c));
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        fields::frozen(obj, before, "spec", causes);
    }

    fn validate_status_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate_update(obj, before, causes);
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column {
                format: "name".into(),
                ..Column::new("Attacher")
            },
            Column::new("PV"),
            Column::new("Node"),
            Column {
                kind: "boolean".into(),
                ..Column::new("Attached")
            },
            Column::new("Age"),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let text = |path| json!(str_at(obj, path));
        vec![
            cells::name(obj),
            text("spec.attacher"),
            text("spec.source.persistentVolumeName"),
            text("spec.nodeName"),
            json!(bool_at(obj, "status.attached").unwrap_or(false)),
            cells::age(obj, now),
        ]
    }
}

fn source(spec: &Value, c: &mut Causes) {
    let volume = at(spec, "source.persistentVolumeName").and_then(Value::as_str);
    let inline = at(spec, "source.inlineVolumeSpec");
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    c.at("source", |c| match (volume, inline) {
        (None, None) => c.required(one),
        (Some(_), Some(_)) => c.forbidden(one),
        (Some(""), None) => c.at("persistentVolumeName", |c| {
            c.required("must specify non empty persistentVolumeName");
        }),
        (Some(name), None) => c.at("persistentVolumeName", |c| {
            fields::text(name, names::dns1123_subdomain, c);
        }),
        (None, Some(inline)) => c.at("inlineVolumeSpec", |c| {
            if at(inline, "csi").is_none() {
                c.at("csi", |c| {
                    c.required("must be specified as the inline volume source");
                });
            }
        }),
    });
}

fn status_rules(status: &Value, c: &mut Causes) {
    let notes = map_at(status, "attachmentMetadata").into_iter().flatten();
    let bytes: usize = notes
        .map(|(k, v)| k.len() + v.as_str().map_or(0, str::len))
        .sum();
    if bytes > METADATA_BYTES_MAX {
        c.at("attachmentMetadata", |c| c.too_long(METADATA_BYTES_MAX));
    }
    for field in ["attachError", "detachError"] {
        let Some(error) = at(status, field) else {
            continue;
        };
        c.at(field, |c| {
            if str_at(error, "message").len() > MESSAGE_BYTES_MAX {
                c.at("message", |c| c.too_long(METADATA_BYTES_MAX));
            }
            fields::non_negative(error, &["errorCode"], c);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn sources_are_judged_and_the_spec_stays() {
        let good = json!({"spec": {"attacher": "a.b", "nodeName": "n", "source": {"persistentVolumeName": "v"}}});
        assert_eq!(texts(|c| VolumeAttachment.validate(&good, c)), [""; 0]);
        let bad = json!({"spec": {"nodeName": "n", "source": {}}});
        assert_eq!(
            texts(|c| VolumeAttachment.validate(&bad, c)),
            [
                "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
                "spec.attacher: Required value",
            ]
        );
        let mut other = good.clone();
        machinery::object::set(&mut other, "spec.nodeName", json!("m"));
        assert_eq!(
            texts(|c| VolumeAttachment.validate_update(&other, &good, c)),
            ["spec: Invalid value: null: field is immutable"]
        );
    }
}
