//! What a CRD's status should say: accepted names and conditions. Pure.

use std::collections::HashSet;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use machinery::object::{at, list_at, set, str_at};
use serde_json::{Value, json};
use webhook::Verification;

use super::validation;

/// Names in use within one group: plurals, singulars and short names share one space, kinds and
/// list kinds another.
#[derive(Default)]
struct Used {
    resources: HashSet<String>,
    kinds: HashSet<String>,
}

fn used(others: &[&Value], group: &str) -> Used {
    let mut out = Used::default();
    for other in others.iter().filter(|o| str_at(o, "spec.group") == group) {
        let text =
            |field: &str| str_at(other, &format!("status.acceptedNames.{field}")).to_string();
        out.resources.extend([text("plural"), text("singular")]);
        let short = list_at(other, "status.acceptedNames.shortNames").iter();
        out.resources
            .extend(short.filter_map(Value::as_str).map(str::to_string));
        out.kinds.extend([text("kind"), text("listKind")]);
    }
    out.resources.remove("");
    out.kinds.remove("");
    out
}

/// Names that are accepted, and the NamesAccepted condition (status, reason, message).
fn names(crd: &Value, others: &[&Value]) -> (Value, (bool, &'static str, String)) {
    let used = used(others, str_at(crd, "spec.group"));
    let mut accepted = crd
        .get("status")
        .and_then(|s| s.get("acceptedNames"))
        .cloned()
        .unwrap_or_else(|| json!({"plural": "", "kind": ""}));
    let mut verdict = (true, "NoConflicts", "no conflicts found".to_string());
    for (field, space, reason) in [
        ("plural", &used.resources, "PluralConflict"),
        ("singular", &used.resources, "SingularConflict"),
        ("kind", &used.kinds, "KindConflict"),
        ("listKind", &used.kinds, "ListKindConflict"),
    ] {
        let wanted = str_at(crd, &format!("spec.names.{field}"));
        if space.contains(wanted) {
            verdict = (false, reason, format!("\"{wanted}\" is already in use"));
        } else {
            set(&mut accepted, field, json!(wanted));
        }
    }
    let short = list_at(crd, "spec.names.shortNames");
    let taken: Vec<String> = short
        .iter()
        .filter_map(Value::as_str)
        .filter(|s| used.resources.contains(*s))
        .map(|s| format!("\"{s}\" is already in use"))
        .collect();
    if taken.is_empty() {
        list(&mut accepted, "shortNames", short);
    } else {
        let message = if taken.len() == 1 {
            taken[0].clone()
        } else {
            format!("[{}]", taken.join(", "))
        };
        verdict = (false, "ShortNamesConflict", message);
    }
    list(
        &mut accepted,
        "categories",
        list_at(crd, "spec.names.categories"),
    );
    (accepted, verdict)
}

fn list(accepted: &mut Value, field: &str, values: &[Value]) {
    if values.is_empty() {
        machinery::object::remove(accepted, field);
    } else {
        set(accepted, field, json!(values));
    }
}

/// Whether a condition is True.
pub fn is_true(crd: &Value, kind: &str) -> bool {
    let mut all = list_at(crd, "status.conditions").iter();
    all.any(|c| str_at(c, "type") == kind && str_at(c, "status") == "True")
}

/// Sets a condition; its transition time changes only with its status.
pub fn condition(
    crd: &mut Value,
    kind: &str,
    status: bool,
    (reason, message): (&str, &str),
    now: &str,
) {
    let status = if status { "True" } else { "False" };
    put_condition(crd, kind, (status, reason, message), now);
}

fn put_condition(
    crd: &mut Value,
    kind: &str,
    (status, reason, message): (&str, &str, &str),
    now: &str,
) {
    let mut all = list_at(crd, "status.conditions").to_vec();
    let fresh = json!({"type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": now});
    match all.iter_mut().find(|c| str_at(c, "type") == kind) {
        Some(old) => {
            let since = old["lastTransitionTime"].clone();
            let same = str_at(old, "status") == status;
            *old = fresh;
            if same {
                old["lastTransitionTime"] = since;
            }
        }
        None => all.push(fresh),
    }
    set(crd, "status.conditions", json!(all));
}

/// Why the certificates by which a conversion webhook is told are none, in client-go's words.
pub fn bundle_problem(crd: &Value) -> Option<String> {
    let config = at(crd, "spec.conversion.webhook.clientConfig")?;
    let bundle = BASE64_STANDARD.decode(str_at(config, "caBundle"));
    let bundle = bundle.unwrap_or_default();
    if bundle.is_empty() {
        return None;
    }
    webhook::client_config(&Verification::of_bundle(&bundle), None).err()
}

/// Conditions of what a definition says by itself; those that it has no more go.
fn told_by_itself(crd: &mut Value, now: &str) {
    let told = [
        ("NonStructuralSchema", validation::non_structural(crd)),
        (
            "KubernetesAPIApprovalPolicyConformant",
            validation::approval::condition(crd),
        ),
    ];
    for (kind, condition) in told {
        if let Some((status, reason, message)) = condition {
            put_condition(crd, kind, (status, reason, &message), now);
            continue;
        }
        let all = list_at(crd, "status.conditions");
        let rest: Vec<&Value> = all.iter().filter(|c| str_at(c, "type") != kind).collect();
        if rest.len() < all.len() {
            let rest = json!(rest);
            set(crd, "status.conditions", rest);
        }
    }
}

/// The CRD with the status it should have, among the group's other CRDs.
pub fn planned(crd: &Value, others: &[&Value], now: &str) -> Value {
    let mut out = names_and_establishment(crd, others, now);
    told_by_itself(&mut out, now);
    out
}

fn names_and_establishment(crd: &Value, others: &[&Value], now: &str) -> Value {
    let mut out = crd.clone();
    let (accepted, (fine, reason, message)) = names(crd, others);
    set(&mut out, "status.acceptedNames", accepted);
    condition(&mut out, "NamesAccepted", fine, (reason, &message), now);
    if is_true(crd, "Established") {
        return out;
    }
    if fine {
        let broken = bundle_problem(crd).is_some();
        let why = match broken {
            true => (
                "InvalidCABundle",
                "The conversion webhook CABundle is invalid",
            ),
            false => (
                "InitialNamesAccepted",
                "the initial names have been accepted",
            ),
        };
        condition(&mut out, "Established", !broken, why, now);
    } else {
        condition(
            &mut out,
            "Established",
            false,
            ("NotAccepted", "not all names are accepted"),
            now,
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd(plural: &str, kind: &str, short: &[&str]) -> Value {
        json!({"metadata": {"generation": 1}, "spec": {"group": "g.io",
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List"), "shortNames": short}}})
    }

    #[test]
    fn names_are_first_come_first_served() {
        let first = planned(&crd("foos", "Foo", &["f"]), &[], "t");
        assert!(is_true(&first, "NamesAccepted") && is_true(&first, "Established"));
        assert_eq!(first["status"]["acceptedNames"]["plural"], "foos");
        let others = [&first];
        for (second, reason, message) in [
            (
                crd("bars", "Foo", &[]),
                "ListKindConflict",
                "\"FooList\" is already in use",
            ),
            (
                crd("bars", "Bar", &["f"]),
                "ShortNamesConflict",
                "\"f\" is already in use",
            ),
            (
                crd("bars", "Bar", &["foos", "f"]),
                "ShortNamesConflict",
                "[\"foos\" is already in use, \"f\" is already in use]",
            ),
        ] {
            let planned = planned(&second, &others, "t");
            assert!(!is_true(&planned, "Established"));
            let c = &planned["status"]["conditions"][0];
            // The last conflict found is the one that is told.
            assert_eq!(
                (str_at(c, "reason"), str_at(c, "message")),
                (reason, message)
            );
        }
        let again = planned(&first, &[], "later");
        assert_eq!(again, first, "nothing changes, times included");
    }

    #[test]
    fn a_conversion_webhook_without_good_certificates_is_not_established() {
        let mut crd = crd("foos", "Foo", &[]);
        crd["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"clientConfig":
            {"url": "https://example.com", "caBundle": "Z2FyYmFnZQ=="}}});
        let refused = planned(&crd, &[], "t");
        assert!(is_true(&refused, "NamesAccepted") && !is_true(&refused, "Established"));
        assert_eq!(
            refused["status"]["conditions"][1]["reason"],
            "InvalidCABundle"
        );
        let problem = bundle_problem(&crd).expect("a problem");
        assert!(
            problem.starts_with("unable to load root certificates: "),
            "{problem}"
        );
        crd["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"] = json!(null);
        assert!(is_true(&planned(&crd, &[], "t"), "Established"));
    }

    #[test]
    fn what_nobody_approved_or_has_no_structure_says_so() {
        let told = |crd: &Value, kind: &str| -> Option<(String, String, String)> {
            let planned = planned(crd, &[], "t");
            let all = list_at(&planned, "status.conditions");
            let c = all.iter().find(|c| str_at(c, "type") == kind)?;
            let text = |f: &str| str_at(c, f).to_string();
            Some((text("status"), text("reason"), text("message")))
        };
        let (approval, structure) = (
            "KubernetesAPIApprovalPolicyConformant",
            "NonStructuralSchema",
        );
        let mut crd = crd("foos", "Foo", &[]);
        assert_eq!((told(&crd, approval), told(&crd, structure)), (None, None));
        crd["spec"]["group"] = json!("x.k8s.io");
        for (annotation, status, reason, message) in [
            (
                "",
                "False",
                "MissingAnnotation",
                "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
            ),
            (
                "unapproved, for a test",
                "False",
                "UnapprovedAnnotation",
                "not approved: \"unapproved, for a test\"",
            ),
            (
                "https://example.com/1",
                "True",
                "ApprovedAnnotation",
                "approved in https://example.com/1",
            ),
        ] {
            crd["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": annotation});
            let expected = [status, reason, message].map(str::to_string).into();
            assert_eq!(told(&crd, approval), Some(expected));
        }
        crd["spec"]["preserveUnknownFields"] = json!(true);
        crd["spec"]["versions"] = json!([{"name": "v1", "schema": {"openAPIV3Schema":
            {"type": "object", "properties": {"a": {}}}}}]);
        let expected = [
            "True",
            "Violations",
            "[spec.preserveUnknownFields: Invalid value: true: must be false, spec.versions[0].schema.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields]",
        ];
        assert_eq!(
            told(&crd, structure),
            Some(expected.map(str::to_string).into())
        );
        let mut good = planned(&crd, &[], "t");
        good["spec"]["preserveUnknownFields"] = json!(false);
        assert_eq!(told(&good, structure), None);
    }
}
