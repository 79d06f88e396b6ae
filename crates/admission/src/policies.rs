//! What validating and mutating admission policies share: which there are, compiled once; which of them and of
//! their bindings a write is for; parameters. Upstream: apiserver/pkg/admission/plugin/policy/generic.

use std::collections::BTreeMap;
use std::sync::Arc;

use celenv::admission::{Compiler, Conditions, Matched, Options};
use machinery::object::{at, list_at, name, str_at};
use machinery::request::Attempt;
use parking_lot::Mutex;
use serde_json::Value;

use crate::Context;
use crate::hooks::Invocation as Shown;

mod expressions;
mod params;
mod request;
mod selection;

pub use expressions::Expressions;
pub use params::{ParamKind, resource_of};
pub use request::Seen;
use selection::Selection;

const GROUP: &str = "admissionregistration.k8s.io";

/// A policy with its expressions compiled. `T` is what it does.
pub struct Policy<T> {
    pub name: String,
    /// Whether errors refuse a write.
    pub fails: bool,
    pub param_kind: Option<ParamKind>,
    pub scope: Compiler,
    pub rules: T,
    conditions: Conditions,
    selection: Selection,
}

/// What ties a policy to writes and parameters.
pub struct Binding {
    pub name: String,
    pub policy: String,
    pub param_ref: Option<Value>,
    /// `Deny`, `Warn`, `Audit`; validating bindings only.
    pub actions: Vec<String>,
    selection: Selection,
}

/// One evaluation: a policy as a binding has it, with one parameter or none.
pub struct Invocation<'p, T> {
    pub policy: &'p Policy<T>,
    pub binding: &'p Binding,
    pub param: Option<Value>,
    /// As which resource and kind the policy sees the write.
    pub shown: Shown,
}

/// What went wrong before anything was evaluated.
pub struct Misconfigured<'p, T> {
    pub policy: &'p Policy<T>,
    pub binding: Option<&'p Binding>,
    pub message: String,
}

/// What a write meets.
pub struct Met<'p, T> {
    pub invocations: Vec<Invocation<'p, T>>,
    pub errors: Vec<Misconfigured<'p, T>>,
}

/// A snapshot of all policies and bindings.
pub struct All<T> {
    policies: Vec<Arc<Policy<T>>>,
    bindings: Vec<Arc<Binding>>,
}

struct Known<T> {
    versions: Vec<u64>,
    all: Arc<All<T>>,
    /// By revision of the object: what did not change is not compiled again.
    policies: BTreeMap<u64, Arc<Policy<T>>>,
    bindings: BTreeMap<u64, Arc<Binding>>,
}

/// The policies of one kind.
pub struct Policies<T> {
    pub context: Context,
    policies: &'static str,
    bindings: &'static str,
    rules: fn(&Value, &Compiler) -> T,
    known: Mutex<Known<T>>,
}

// === Policies ===

impl<T> Policies<T> {
    /// Policies and bindings by their plurals; `rules` compiles what is special to the kind.
    pub fn new(
        context: Context,
        policies: &'static str,
        bindings: &'static str,
        rules: fn(&Value, &Compiler) -> T,
    ) -> Self {
        Self {
            context,
            policies,
            bindings,
            rules,
            known: Mutex::new(Known {
                versions: Vec::new(),
                all: Arc::new(All {
                    policies: Vec::new(),
                    bindings: Vec::new(),
                }),
                policies: BTreeMap::new(),
                bindings: BTreeMap::new(),
            }),
        }
    }

    /// All there are now. Nothing is parsed or compiled while nothing changes.
    pub fn all(&self) -> Arc<All<T>> {
        let entries = |resource| {
            let cache = self.context.cache(GROUP, resource);
            cache.map_or_else(Vec::new, |c| c.list(None))
        };
        let (policies, bindings) = (entries(self.policies), entries(self.bindings));
        let versions = policies.iter().chain(&bindings).map(|e| e.revision);
        let versions: Vec<u64> = versions.collect();
        let mut known = self.known.lock();
        if known.versions == versions {
            return known.all.clone();
        }
        let mut all = All {
            policies: Vec::with_capacity(policies.len()),
            bindings: Vec::with_capacity(bindings.len()),
        };
        for e in &policies {
            match known.policies.get(&e.revision) {
                Some(p) => all.policies.push(p.clone()),
                None => {
                    let object = crate::parsed(e);
                    all.policies
                        .extend(object.map(|o| Arc::new(Policy::new(&o, self.rules))));
                }
            }
        }
        for e in &bindings {
            match known.bindings.get(&e.revision) {
                Some(b) => all.bindings.push(b.clone()),
                None => {
                    let object = crate::parsed(e);
                    all.bindings
                        .extend(object.map(|o| Arc::new(Binding::new(&o))));
                }
            }
        }
        let keyed = |e: &[Arc<client::Entry>]| e.iter().map(|e| e.revision).collect::<Vec<_>>();
        known.policies = keyed(&policies)
            .into_iter()
            .zip(all.policies.iter().cloned())
            .collect();
        known.bindings = keyed(&bindings)
            .into_iter()
            .zip(all.bindings.iter().cloned())
            .collect();
        known.versions = versions;
        known.all = Arc::new(all);
        known.all.clone()
    }

    /// The policies, bindings and parameters that a write is for.
    pub fn met<'p>(&self, all: &'p All<T>, a: &Attempt<'_>) -> Met<'p, T> {
        let mut met = Met {
            invocations: Vec::new(),
            errors: Vec::new(),
        };
        for policy in &all.policies {
            let mut bindings = all
                .bindings
                .iter()
                .filter(|b| b.policy == policy.name)
                .peekable();
            if bindings.peek().is_none() {
                continue;
            }
            let shown = match policy.selection.fits(a, &self.context) {
                Ok(Some(shown)) => shown,
                Ok(None) => continue,
                Err(e) => {
                    met.misconfigured(policy, None, &e);
                    continue;
                }
            };
            if let Some(kind) = &policy.param_kind
                && !kind.is_known(&self.context)
            {
                let e = format!("failed to find resource referenced by paramKind: '{kind}'");
                met.misconfigured(policy, None, &e);
                continue;
            }
            for binding in bindings {
                self.bound(policy, binding, &shown, a, &mut met);
            }
        }
        met
    }

    fn bound<'p>(
        &self,
        policy: &'p Policy<T>,
        binding: &'p Binding,
        shown: &Shown,
        a: &Attempt<'_>,
        met: &mut Met<'p, T>,
    ) {
        let params = match binding.selection.fits(a, &self.context) {
            Ok(None) => return,
            Ok(Some(_)) => params::collect(policy.param_kind.as_ref(), binding, a, &self.context),
            Err(e) => Err(e),
        };
        match params {
            Err(e) => met.misconfigured(policy, Some(binding), &e),
            Ok(params) => {
                for param in params {
                    met.invocations.push(Invocation {
                        policy,
                        binding,
                        param,
                        shown: shown.clone(),
                    });
                }
            }
        }
    }
}

impl<'p, T> Met<'p, T> {
    fn misconfigured(&mut self, policy: &'p Policy<T>, binding: Option<&'p Binding>, why: &str) {
        let what = if binding.is_some() {
            "binding"
        } else {
            "policy"
        };
        self.errors.push(Misconfigured {
            policy,
            binding,
            message: format!("failed to configure {what}: {why}"),
        });
    }
}

// === Policy ===

impl<T> Policy<T> {
    fn new(object: &Value, rules: fn(&Value, &Compiler) -> T) -> Self {
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let param_kind = at(spec, "paramKind").map(ParamKind::new);
        let conditions = list_at(spec, "matchConditions").iter();
        let conditions = conditions.map(|c| (str_at(c, "name"), str_at(c, "expression")));
        let conditions = Conditions::compile(conditions, param_kind.is_some());
        let mut scope = Compiler::new(Options {
            params: param_kind.is_some(),
            authorizer: true,
            patch_types: object
                .get("kind")
                .is_some_and(|k| k == "MutatingAdmissionPolicy"),
        });
        for v in list_at(spec, "variables") {
            scope.add_variable(str_at(v, "name"), str_at(v, "expression"));
        }
        Self {
            name: name(object).to_string(),
            fails: str_at(spec, "failurePolicy") != "Ignore",
            rules: rules(spec, &scope),
            param_kind,
            scope,
            conditions,
            selection: Selection::new(at(spec, "matchConstraints")),
        }
    }
}

impl<T> Invocation<'_, T> {
    /// Whether the match conditions hold. An error is theirs; failurePolicy has been heard.
    pub fn meets_conditions(&self, seen: &celenv::admission::Activation) -> Result<bool, String> {
        if self.policy.conditions.is_empty() {
            return Ok(true);
        }
        match self.policy.conditions.matched(seen) {
            Matched::Yes => Ok(true),
            Matched::No(_) => Ok(false),
            Matched::Failed(e) if self.policy.fails => Err(e),
            Matched::Failed(_) => Ok(false),
        }
    }
}

// === Binding ===

impl Binding {
    fn new(object: &Value) -> Self {
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let actions = list_at(spec, "validationActions").iter();
        Self {
            name: name(object).to_string(),
            policy: str_at(spec, "policyName").to_string(),
            param_ref: at(spec, "paramRef").cloned(),
            actions: actions
                .filter_map(|a| a.as_str().map(String::from))
                .collect(),
            selection: Selection::new(at(spec, "matchResources")),
        }
    }
}

/// Writes that no policy sees: the policies themselves, and reviews, which are not stored.
pub fn exempt(a: &Attempt<'_>) -> bool {
    let d = a.descriptor;
    let reviews = ["tokenreviews", "selfsubjectreviews"];
    let own = [
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    ];
    match d.group.as_ref() {
        GROUP => own.contains(&d.resource.as_ref()),
        "authentication.k8s.io" => reviews.contains(&d.resource.as_ref()),
        group => group == "authorization.k8s.io",
    }
}
