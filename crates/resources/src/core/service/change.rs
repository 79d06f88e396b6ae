//! What an update of a service may not do. Upstream: ValidateServiceUpdate; validation-core §14.2.

use machinery::Causes;
use machinery::object::{at, list_at, str_at};
use serde_json::{Value, json};

use super::{is_external_name, is_headless, kind, needs_health_check_port};
use crate::checks;

const ONCE: &str = "may not change once set";

/// Everything.
pub fn all(obj: &Value, before: &Value, causes: &mut Causes) {
    causes.at("spec", |c| {
        if !is_external_name(obj) && !is_external_name(before) {
            cluster_ips(obj, before, c);
            families(obj, before, c);
        }
        let both = kind(obj) == "LoadBalancer" && kind(before) == "LoadBalancer";
        let class = |o| at(o, "spec.loadBalancerClass").cloned();
        if both && class(obj) != class(before) {
            let new = class(obj).unwrap_or(Value::Null);
            c.at("loadBalancerClass", |c| c.invalid(&new, ONCE));
        }
        let port = |o| at(o, "spec.healthCheckNodePort").cloned();
        if needs_health_check_port(obj)
            && needs_health_check_port(before)
            && port(obj) != port(before)
        {
            c.at("healthCheckNodePort", |c| c.forbidden(checks::IMMUTABLE));
        }
    });
}

fn cluster_ips(obj: &Value, before: &Value, c: &mut Causes) {
    if is_headless(obj) && is_headless(before) {
        return;
    }
    let (new, old) = (
        list_at(obj, "spec.clusterIPs"),
        list_at(before, "spec.clusterIPs"),
    );
    changed(obj, (new, old), ("clusterIP", "clusterIPs"), &json!(new), c);
}

fn families(obj: &Value, before: &Value, c: &mut Causes) {
    if is_headless(obj) {
        return;
    }
    let (new, old) = (
        list_at(obj, "spec.ipFamilies"),
        list_at(before, "spec.ipFamilies"),
    );
    let shown = if new.len() == old.len() {
        json!(new)
    } else {
        json!(list_at(obj, "spec.clusterIPs"))
    };
    changed(obj, (new, old), ("ipFamily", "ipFamilies"), &shown, c);
}

/// The first stays; the second can come, and go where the policy is SingleStack.
fn changed(
    obj: &Value,
    (new, old): (&[Value], &[Value]),
    (one, field): (&str, &str),
    shown: &Value,
    c: &mut Causes,
) {
    if old.is_empty() {
        return;
    }
    let at_item = |c: &mut Causes, i: usize, text: &str| {
        c.at(field, |c| c.index(i, |c| c.invalid(shown, text)));
    };
    if new.len() == old.len() {
        let mut pairs = new.iter().zip(old).enumerate();
        if field == "ipFamilies" {
            if pairs.any(|(_, (n, o))| n != o) {
                at_item(c, 0, ONCE);
            }
            return;
        }
        for (i, _) in pairs.filter(|(_, (n, o))| n != o) {
            at_item(c, i, ONCE);
        }
        return;
    }
    if new.is_empty() {
        at_item(c, 0, &format!("primary {one} can not be unset"));
        return;
    }
    if new[0] != old[0] {
        at_item(c, 0, ONCE);
    }
    let policy = str_at(obj, "spec.ipFamilyPolicy");
    if new.len() < old.len() && new.len() == 1 && policy != "SingleStack" {
        c.at("ipFamilyPolicy", |c| {
            c.invalid(
                &json!(policy),
                format!("must be set to 'SingleStack' when releasing the secondary {one}"),
            );
        });
    }
}
