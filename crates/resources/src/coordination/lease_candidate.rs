//! LeaseCandidate. Upstream: pkg/registry/coordination/leasecandidate, pkg/apis/coordination/validation.

use std::cmp::Ordering;

use api::names;
use jiff::Timestamp;
use machinery::object::str_at;
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use crate::{cells, fields};

/// Strategies that Kubernetes itself defines.
const STRATEGIES: &[&str] = &["OldestEmulationVersion"];
const NO_VERSION: &str = "must be a valid semantic version";

struct LeaseCandidate;

/// The kind's descriptor, of the version that is stored.
pub fn resource() -> Descriptor {
    Descriptor::new(
        "coordination.k8s.io",
        "v1beta1",
        "LeaseCandidate",
        "leasecandidates",
        Scope::Namespaced,
        LeaseCandidate,
    )
}

/// A semantic version: its numbers, and whether it is only on the way to them.
fn version(text: &str) -> Option<([u64; 3], &str)> {
    let text = text.split('+').next()?;
    let (numbers, pre) = text.split_once('-').unwrap_or((text, ""));
    let number = |part: &str| {
        let plain = part == "0" || !part.starts_with('0');
        let digits = part.bytes().all(|b| b.is_ascii_digit());
        (plain && digits).then(|| part.parse().ok()).flatten()
    };
    let parts: Option<Vec<u64>> = numbers.split('.').map(number).collect();
    let numbers = <[u64; 3]>::try_from(parts?).ok()?;
    Some((numbers, pre))
}

/// What comes before a release is older than it.
fn compare(a: ([u64; 3], &str), b: ([u64; 3], &str)) -> Ordering {
    let pre = match (a.1.is_empty(), b.1.is_empty()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => a.1.cmp(b.1),
    };
    a.0.cmp(&b.0).then(pre)
}

/// A field's version; nothing where it is none, which is told.
fn read<'a>(field: &str, text: &'a str, c: &mut Causes) -> ([u64; 3], &'a str) {
    let found = version(text);
    if found.is_none() {
        c.at(field, |c| c.invalid(&json!(text), NO_VERSION));
    }
    found.unwrap_or_default()
}

fn versions(spec: &Value, c: &mut Causes) {
    let (emulated, binary) = (
        str_at(spec, "emulationVersion"),
        str_at(spec, "binaryVersion"),
    );
    let mut both = [([0; 3], ""); 2];
    if !emulated.is_empty() {
        both[0] = read("emulationVersion", emulated, c);
    }
    if binary.is_empty() {
        c.at("binaryVersion", |c| c.required(""));
    } else {
        both[1] = read("binaryVersion", binary, c);
    }
    let older = compare(both[1], both[0]) == Ordering::Less;
    if older && !binary.is_empty() && !emulated.is_empty() {
        c.at("binaryVersion", |c| {
            let why = "must be greater than or equal to `emulationVersion`";
            c.invalid(&json!(binary), why);
        });
    }
    strategy(str_at(spec, "strategy"), both[0].0 == [0; 3], c);
}

fn strategy(strategy: &str, no_emulation: bool, c: &mut Causes) {
    if strategy.is_empty() {
        return c.at("strategy", |c| c.required(""));
    }
    if strategy == STRATEGIES[0] && no_emulation {
        c.at("emulationVersion", |c| {
            c.required("must be specified when `strategy` is 'OldestEmulationVersion'");
        });
    }
    // Upstream names the field twice.
    c.at("strategy.strategy", |c| match strategy.contains('/') {
        true => fields::text(strategy, names::qualified_name, c),
        false if STRATEGIES.contains(&strategy) => {}
        false => c.not_supported(&json!(strategy), STRATEGIES),
    });
}

impl Strategy for LeaseCandidate {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let spec = obj.get("spec").unwrap_or(&Value::Null);
        causes.at("spec", |c| {
            fields::required(spec, "leaseName", c);
            versions(spec, c);
        });
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        fields::immutable(obj, before, "spec.leaseName", causes);
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        vec![("spec.leaseName", str_at(obj, "spec.leaseName").to_string())]
    }

    fn selectable_keys(&self) -> &[&'static str] {
        &["spec.leaseName"]
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn deprecation(&self) -> Option<&str> {
        Some(
            "coordination.k8s.io/v1beta1 LeaseCandidate is deprecated in v1.36+, unavailable in v1.39+",
        )
    }

    fn columns(&self) -> Vec<Column> {
        let mut all = vec![Column::name()];
        all.extend(["LeaseName", "BinaryVersion", "EmulationVersion", "Age"].map(Column::new));
        all
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let text = |field: &str| json!(str_at(obj, &format!("spec.{field}")));
        vec![
            cells::name(obj),
            text("leaseName"),
            text("binaryVersion"),
            text("emulationVersion"),
            cells::age(obj, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn candidates_are_checked_as_upstream_checks_them() {
        let check = |spec: Value| texts(|c| LeaseCandidate.validate(&json!({"spec": spec}), c));
        let good = json!({"leaseName": "l", "binaryVersion": "1.37.0", "emulationVersion": "1.36.0",
            "strategy": "OldestEmulationVersion"});
        assert_eq!(check(good), [""; 0]);
        let bad = json!({"leaseName": "l", "binaryVersion": "1.36.0-rc.1", "emulationVersion": "1.36.0",
            "strategy": "Newest"});
        assert_eq!(
            check(bad),
            [
                "spec.binaryVersion: Invalid value: \"1.36.0-rc.1\": must be greater than or equal to `emulationVersion`",
                "spec.strategy.strategy: Unsupported value: \"Newest\": supported values: \"OldestEmulationVersion\""
            ]
        );
        assert_eq!(
            check(json!({"binaryVersion": "x", "strategy": "OldestEmulationVersion"})),
            [
                "spec.leaseName: Required value",
                "spec.binaryVersion: Invalid value: \"x\": must be a valid semantic version",
                "spec.emulationVersion: Required value: must be specified when `strategy` is 'OldestEmulationVersion'"
            ]
        );
    }
}
