//! ServiceCIDR. Upstream: pkg/registry/networking/servicecidr, pkg/apis/networking/validation.

use api::names;
use jiff::Timestamp;
use machinery::object::list_at;
use machinery::strategy::freeze_all_but_status;
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use super::GROUP;
use crate::cells;
use crate::checks::net;
use crate::fields;

struct ServiceCidr;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "ServiceCIDR",
        "servicecidrs",
        Scope::Cluster,
        ServiceCidr,
    )
    .status()
}

fn cidrs(obj: &Value) -> Vec<&str> {
    list_at(obj, "spec.cidrs")
        .iter()
        .filter_map(Value::as_str)
        .collect()
}

impl Strategy for ServiceCidr {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn has_status(&self) -> bool {
        true
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, cx: &WriteContext) {
        freeze_all_but_status(obj, before);
        fields::keep_metadata(obj, before, cx);
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        causes.at("spec.cidrs", |c| rules(&cidrs(obj), c));
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        let (new, old) = (cidrs(obj), cidrs(before));
        let same = |i: usize, c: &mut Causes| {
            if new[i] != old[i] {
                c.index(i, |c| c.invalid(&json!(new[i]), fields::IMMUTABLE));
            }
        };
        causes.at("spec.cidrs", |c| {
            if new.len() == old.len() {
                (0..new.len()).for_each(|i| same(i, c));
            } else if old.len() == 1 && new.len() == 2 {
                same(0, c);
                rules(&new, c);
            } else {
                c.invalid(&json!(new), fields::IMMUTABLE);
            }
        });
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column::name(), Column::new("CIDRs"), Column::new("Age")]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        vec![
            cells::name(obj),
            json!(cidrs(obj).join(",")),
            cells::age(obj, now),
        ]
    }
}

fn rules(all: &[&str], c: &mut Causes) {
    match all.len() {
        0 => return c.required("at least one CIDR required"),
        1 | 2 => {}
        _ => {
            let shown = json!(all);
            let shown = fields::go_struct(&[("CIDRs", Some(&shown))]);
            return fields::invalid_shown(c, Some(&shown), "may only hold up to 2 values");
        }
    }
    for (i, one) in all.iter().enumerate() {
        c.index(i, |c| strict(one, c));
    }
    let family = |t: &str| t.contains(':');
    let valid = |t: &&str| net::cidr(t).is_empty();
    if all.len() == 2 && all.iter().all(valid) && family(all[0]) == family(all[1]) {
        c.invalid(
            &json!(all),
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        );
    }
}

/// A network as new fields want it: in canonical form.
fn strict(text: &str, c: &mut Causes) {
    let problems = net::cidr(text);
    if !problems.is_empty() {
        return problems
            .into_iter()
            .for_each(|p| c.invalid(&json!(text), p));
    }
    let canonical = text
        .split_once('/')
        .and_then(|(ip, length)| Some(format!("{}/{length}", net::canonical(ip)?)));
    if let Some(canonical) = canonical.filter(|n| n != text) {
        c.invalid(
            &json!(text),
            format!("must be in canonical form (\"{canonical}\")"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn networks_are_judged_and_only_grow() {
        let of = |all: Value| json!({"spec": {"cidrs": all}});
        for (all, expected) in [
            (json!(["10.0.0.0/8", "fd00::/64"]), vec![]),
            (
                json!([]),
                vec!["spec.cidrs: Required value: at least one CIDR required"],
            ),
            (
                json!(["10.0.0.0/8", "11.0.0.0/8"]),
                vec![
                    "spec.cidrs: Invalid value: [\"10.0.0.0/8\",\"11.0.0.0/8\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
                ],
            ),
            (
                json!(["FD00::/64"]),
                vec![
                    "spec.cidrs[0]: Invalid value: \"FD00::/64\": must be in canonical form (\"fd00::/64\")",
                ],
            ),
        ] {
            assert_eq!(texts(|c| ServiceCidr.validate(&of(all), c)), expected);
        }
        let old = of(json!(["10.0.0.0/8"]));
        for (all, expected) in [
            (json!(["10.0.0.0/8", "fd00::/64"]), vec![]),
            (
                json!(["11.0.0.0/8"]),
                vec!["spec.cidrs[0]: Invalid value: \"11.0.0.0/8\": field is immutable"],
            ),
            (
                json!([]),
                vec!["spec.cidrs: Invalid value: []: field is immutable"],
            ),
        ] {
            assert_eq!(
                texts(|c| ServiceCidr.validate_update(&of(all), &old, c)),
                expected
            );
        }
    }
}
