//! Warns in the status of a ValidatingAdmissionPolicy about expressions that cannot work with the types of the
//! objects it is for. Upstream: pkg/controller/validatingadmissionpolicystatus, plugin/policy/validating/typechecking.go.

use api::admissionregistration::v1::ValidatingAdmissionPolicy;
use async_trait::async_trait;
use celenv::Type;
use celenv::admission::{Compiler, typecheck};
use client::Client;
use client::api::{Patch, PatchParams};
use machinery::GroupResource;
use machinery::object::{at, i64_at, list_at, str_at};
use reconciler::{During, Error, Key, Next, Reconcile, Reconciler, Trigger};
use serde_json::{Value, json};

use crate::limits::TYPES_CHECKED_MAX;
use crate::{Controller, Setup};

const NAME: &str = "validatingadmissionpolicy-status-controller";
const GROUP: &str = "admissionregistration.k8s.io";
const POLICIES: &str = "validatingadmissionpolicies";

pub static CONTROLLER: Controller = Controller {
    name: NAME,
    account: NAME,
    component: NAME,
    needs: &[(GROUP, POLICIES)],
    build: |setup| Ok(build(setup)),
};

fn build(setup: &Setup) -> Reconciler {
    let this = Status {
        client: setup.client.clone(),
    };
    Reconciler::new(NAME, 1, this).on(Trigger::own(GROUP, POLICIES))
}

struct Status {
    client: Client,
}

/// Group, version and kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Gvk {
    group: String,
    version: String,
    kind: String,
}

impl std::fmt::Display for Gvk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
    }
}

/// Texts of a rule's field, sorted; nothing where upstream gives up on a wildcard.
fn texts<'a>(rule: &'a Value, field: &str) -> Vec<&'a str> {
    let all: Vec<&str> = list_at(rule, field)
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if field != "resources" && all.iter().any(|t| t.contains('*')) {
        return Vec::new();
    }
    let mut all: Vec<&str> = all
        .into_iter()
        .filter(|t| field != "resources" || !t.contains(['*', '/']))
        .collect();
    all.sort_unstable();
    all
}

/// The kinds that a policy's rules name, as far as `kind_of` knows their resources.
fn kinds(spec: &Value, kind_of: impl Fn(&str, &str, &str) -> Option<String>) -> Vec<Gvk> {
    let mut out: Vec<Gvk> = Vec::new();
    for rule in list_at(spec, "matchConstraints.resourceRules") {
        let mut count = 0;
        let (versions, resources) = (texts(rule, "apiVersions"), texts(rule, "resources"));
        for group in texts(rule, "apiGroups") {
            for version in &versions {
                for resource in &resources {
                    let Some(kind) = kind_of(group, version, resource) else {
                        continue;
                    };
                    let gvk = Gvk {
                        group: group.to_string(),
                        version: (*version).to_string(),
                        kind,
                    };
                    if !out.contains(&gvk) {
                        out.push(gvk);
                    }
                    count += 1;
                    if count == TYPES_CHECKED_MAX {
                        out.sort();
                        return out;
                    }
                }
            }
        }
    }
    out.sort();
    out
}

/// Warnings about the validations of a policy for objects of these types.
fn warnings(spec: &Value, types: &[(Gvk, Type)], params: Option<Option<Type>>) -> Vec<Value> {
    let compilers: Vec<(&Gvk, Compiler)> = types
        .iter()
        .map(|(gvk, t)| {
            let mut compiler = Compiler::typed(Some(t.clone()), params.clone());
            for v in list_at(spec, "variables") {
                compiler.add_variable(str_at(v, "name"), str_at(v, "expression"));
            }
            (gvk, compiler)
        })
        .collect();
    let mut out = Vec::new();
    for (i, v) in list_at(spec, "validations").iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let text = str_at(v, field);
            if text.is_empty() && field == "messageExpression" {
                continue;
            }
            let found = compilers
                .iter()
                .filter_map(|(gvk, c)| Some(format!("{gvk}: {}\n", c.issues(text)?)));
            let found: Vec<String> = found.collect();
            if !found.is_empty() {
                let place = format!("spec.validations[{i}].{field}");
                out.push(json!({"fieldRef": place, "warning": found.join("\n")}));
            }
        }
    }
    out
}

impl Status {
    /// The custom resource definition of a group whose names say yes.
    fn definition(&self, group: &str, named: impl Fn(&Value) -> bool) -> Option<Value> {
        let all = GroupResource::new("apiextensions.k8s.io", "customresourcedefinitions");
        let entries = self.client.cache(&all).ok()?.list(None);
        let mut all = entries.iter().filter_map(|e| e.value().ok());
        all.find(|d| str_at(d, "spec.group") == group && at(d, "spec.names").is_some_and(&named))
    }

    fn kind_of(&self, group: &str, version: &str, resource: &str) -> Option<String> {
        let all = self.client.reads().resources();
        let found = all
            .iter()
            .find(|d| d.group == group && d.resource == resource)?;
        let gvk = Gvk {
            group: group.to_string(),
            version: version.to_string(),
            kind: found.kind.to_string(),
        };
        (found.version == version || self.type_of(&gvk).is_some()).then_some(gvk.kind)
    }

    fn type_of(&self, gvk: &Gvk) -> Option<Type> {
        if let Some(t) = typecheck::of_kind(&gvk.group, &gvk.version, &gvk.kind) {
            return Some(t);
        }
        let definition = self.definition(&gvk.group, |n| str_at(n, "kind") == gvk.kind)?;
        let mut versions = list_at(&definition, "spec.versions").iter();
        let version = versions.find(|v| str_at(v, "name") == gvk.version)?;
        typecheck::of_openapi(at(version, "schema.openAPIV3Schema")?, &gvk.kind)
    }

    fn check(&self, policy: &Value) -> Vec<Value> {
        let null = Value::Null;
        let spec = policy.get("spec").unwrap_or(&null);
        let kinds = kinds(spec, |g, v, r| self.kind_of(g, v, r));
        let types: Vec<(Gvk, Type)> = kinds
            .into_iter()
            .filter_map(|k| Some((k.clone(), self.type_of(&k)?)))
            .collect();
        let params = at(spec, "paramKind").map(|kind| {
            let api_version = str_at(kind, "apiVersion");
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            self.type_of(&Gvk {
                group: group.to_string(),
                version: version.to_string(),
                kind: str_at(kind, "kind").to_string(),
            })
        });
        warnings(spec, &types, params)
    }
}

#[async_trait]
impl Reconcile for Status {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let cache = self.client.cache(&GroupResource::new(GROUP, POLICIES));
        let entry = cache.ok().and_then(|c| c.get("", &key.name));
        let Some(policy) = entry.and_then(|e| e.value().ok()) else {
            return Ok(Next::Done);
        };
        let generation = i64_at(&policy, "metadata.generation").unwrap_or(0);
        if generation <= i64_at(&policy, "status.observedGeneration").unwrap_or(0) {
            return Ok(Next::Done);
        }
        let found = self.check(&policy);
        let mut checking = json!({});
        if !found.is_empty() {
            checking["expressionWarnings"] = Value::Array(found);
        }
        let apply = json!({"apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy", "metadata": {"name": key.name},
            "status": {"observedGeneration": generation, "typeChecking": checking}});
        let params = PatchParams::apply(NAME).force();
        let api = self.client.all::<ValidatingAdmissionPolicy>();
        api.patch_status(&key.name, &params, &Patch::Apply(&apply))
            .await
            .during("write what the check of types found")?;
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_checked_for_every_kind_of_the_rules() {
        let spec = json!({"matchConstraints": {"resourceRules": [
            {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments", "statefulsets", "*/scale"]},
            {"apiGroups": ["*"], "apiVersions": ["v1"], "resources": ["pods"]}]},
            "variables": [{"name": "n", "expression": "object.spec.replicas"}],
            "validations": [
                {"expression": "variables.n > 1", "messageExpression": "'too few: ' + variables.n"},
                {"expression": "object.spec.nope == 1"}]});
        let kind = |_: &str, _: &str, r: &str| {
            let kinds = [
                ("deployments", "Deployment"),
                ("statefulsets", "StatefulSet"),
            ];
            Some(kinds.iter().find(|(n, _)| *n == r)?.1.to_string())
        };
        let found = kinds(&spec, kind);
        let names: Vec<String> = found.iter().map(Gvk::to_string).collect();
        assert_eq!(
            names,
            ["apps/v1, Kind=Deployment", "apps/v1, Kind=StatefulSet"]
        );
        let types: Vec<(Gvk, Type)> = found
            .into_iter()
            .map(|k| {
                (
                    k.clone(),
                    typecheck::of_kind(&k.group, &k.version, &k.kind).unwrap(),
                )
            })
            .collect();
        let found = warnings(&spec, &types, None);
        let places: Vec<&str> = found.iter().map(|w| str_at(w, "fieldRef")).collect();
        assert_eq!(
            places,
            [
                "spec.validations[0].messageExpression",
                "spec.validations[1].expression"
            ]
        );
        assert_eq!(
            str_at(&found[1], "warning"),
            "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'nope'\n | object.spec.nope == 1\n | ...........^\n\napps/v1, Kind=StatefulSet: ERROR: <input>:1:12: undefined field 'nope'\n | object.spec.nope == 1\n | ...........^\n"
        );
    }
}
