//! MutatingAdmissionPolicy: expressions change objects. Upstream: plugin/policy/mutating.

use std::collections::HashSet;
use std::time::Instant;

use async_trait::async_trait;
use celenv::Type;
use celenv::admission::{Activation, Compiled, Compiler, Failure, OUT_OF_BUDGET, Run};
use celenv::limits::RUNTIME_COST_BUDGET;
use celenv::value::Value as Cel;
use machinery::apply::{TypeRef, overlay, types};
use machinery::error::StatusCause;
use machinery::object::{self, list_at, set, str_at};
use machinery::request::{Admission, Attempt, GroupVersionKind, Operation, Steps};
use machinery::{ApiError, Descriptor, conform, patch};
use serde_json::{Value, json};

use crate::Context;
use crate::hooks::View;
use crate::metrics;
use crate::policies::{self, Invocation, Policies, Seen};

const NAME: &str = "MutatingAdmissionPolicy";

/// What one of `mutations` does.
enum Mutation {
    Apply(Compiled),
    Patch(Compiled),
}

/// What a mutating policy does.
struct Rules {
    mutations: Vec<Mutation>,
    /// Whether it is asked again if a later one changed the object.
    again: bool,
}

/// Why a mutation came to nothing.
enum Failed {
    /// failurePolicy decides.
    Policy(String),
    Refused(ApiError),
}

/// The plugin.
pub struct MutatingAdmissionPolicy(Policies<Rules>);

impl MutatingAdmissionPolicy {
    /// Reads policies and bindings from the caches.
    pub fn new(context: Context) -> Self {
        Self(Policies::new(
            context,
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
            Rules::new,
        ))
    }
}

impl Rules {
    fn new(spec: &Value, scope: &Compiler) -> Self {
        let patches = Type::list(Type::object("JSONPatch", Vec::new()));
        let mutations = list_at(spec, "mutations").iter();
        Self {
            mutations: mutations
                .map(|m| match str_at(m, "patchType") {
                    "JSONPatch" => {
                        let text = str_at(m, "jsonPatch.expression");
                        Mutation::Patch(scope.compile(text, std::slice::from_ref(&patches)))
                    }
                    _ => {
                        let text = str_at(m, "applyConfiguration.expression");
                        Mutation::Apply(scope.compile(text, &[Type::object("Object", Vec::new())]))
                    }
                })
                .collect(),
            again: str_at(spec, "reinvocationPolicy") == "IfNeeded",
        }
    }
}

fn value_of(c: &Compiled, run: &mut Run<'_>) -> Result<Cel, Failed> {
    if let Err(e) = &c.program {
        return Err(Failed::Policy(e.clone()));
    }
    run.evaluate(c).map_err(|e| {
        Failed::Policy(match e {
            Failure::Expression(e) => e,
            Failure::OutOfBudget => OUT_OF_BUDGET.to_string(),
        })
    })
}

/// Objects must be of the types that their places have: `spec` of an `Object` is an `Object.spec`.
fn misnamed(v: &Cel, path: &str, out: &mut Vec<String>) {
    match v {
        Cel::Map(m) => {
            let name = m.type_name.as_deref();
            if let Some(name) =
                name.filter(|n| *n != path && (*n == "Object" || n.starts_with("Object.")))
            {
                out.push(format!(
                    "unexpected type name {name:?}, expected {path:?}, which matches field name path from root Object type"
                ));
            }
            for (field, v) in &m.fields {
                match name {
                    Some(_) => misnamed(v, &format!("{path}.{field}"), out),
                    None => misnamed(v, path, out),
                }
            }
        }
        Cel::List(l) => l.items.iter().for_each(|v| misnamed(v, path, out)),
        _ => {}
    }
}

fn check_names(v: &Cel, path: &str) -> Result<(), Failed> {
    let mut problems = Vec::new();
    misnamed(v, path, &mut problems);
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Failed::Policy(format!(
            "type mismatch: {}",
            problems.join("\n")
        ))),
    }
}

/// The type of the object; that of a subresource may be another one than the resource's.
fn type_of<'a>(d: &'a Descriptor, kind: &GroupVersionKind) -> TypeRef<'a> {
    match d.strategy.apply_model() {
        Some(model) if kind.kind == d.kind => TypeRef::Custom(model),
        _ => types::built_in(&kind.group, &kind.version, &kind.kind),
    }
}

/// The object after one mutation.
fn mutated(
    m: &Mutation,
    run: &mut Run<'_>,
    d: &Descriptor,
    kind: &GroupVersionKind,
    object: &Value,
) -> Result<Value, Failed> {
    let json = |v: &Cel| celenv::schema::to_json(v).map_err(Failed::Policy);
    match m {
        Mutation::Apply(c) => {
            let v = value_of(c, run)?;
            check_names(&v, "Object")?;
            let mut config = json(&v)?;
            for field in ["apiVersion", "kind"] {
                set(&mut config, field, json!(str_at(object, field)));
            }
            overlay(type_of(d, kind), object, &config)
                .map_err(|e| Failed::Policy(format!("error applying patch: {e}")))
        }
        Mutation::Patch(c) => {
            let v = value_of(c, run)?;
            if let Cel::List(l) = &v {
                for op in &l.items {
                    if let Cel::Map(m) = op
                        && let Some(Cel::Map(o)) = m.field("value")
                        && let Some(name) = &o.type_name
                    {
                        check_names(&Cel::Map(o.clone()), name)?;
                    }
                }
            }
            patched(object, &json(&v)?)
        }
    }
}

fn patched(object: &Value, operations: &Value) -> Result<Value, Failed> {
    let operations = operations.as_array().map_or(&[][..], Vec::as_slice);
    match patch::apply_operations(object, operations) {
        Ok(after) => Ok(after),
        // A test that fails leaves the object as it was.
        Err(e) if e.ends_with("test failed") => Ok(object.clone()),
        Err(e) => Err(Failed::Policy(format!("JSON Patch: {e}"))),
    }
}

/// Makes a changed object conform to its kind again: unknown fields go, defaults come.
fn settle(d: &Descriptor, kind: &GroupVersionKind, object: &mut Value) -> Result<(), Failed> {
    if let Some(schema) = api::schema::lookup(&kind.group, &kind.version, &kind.kind) {
        conform::conform(schema, object).map_err(|e| Failed::Refused(ApiError::internal(e)))?;
    }
    if kind.kind == d.kind {
        d.strategy.set_defaults(object);
    }
    Ok(())
}

/// What the first round leaves to the second. Upstream: policyReinvokeContext.
#[derive(Default)]
struct Rounds {
    /// The object as this plugin left it.
    output: Option<Value>,
    /// Invoked, willing to be invoked again, and nothing has changed since.
    invoked: HashSet<String>,
    /// To be invoked again.
    again: HashSet<String>,
}

impl Rounds {
    fn require(&mut self) {
        self.again.extend(self.invoked.drain());
    }
}

/// A policy, its binding and its parameter.
fn key(i: &Invocation<'_, Rules>) -> String {
    let param = i
        .param
        .as_ref()
        .map_or(("", ""), |p| (object::namespace(p), object::name(p)));
    format!(
        "{}/{}/{}/{}",
        i.policy.name, i.binding.name, param.0, param.1
    )
}

/// Carries out one invocation on the version that it wants to see; says whether the object changed.
async fn invoke(
    i: &Invocation<'_, Rules>,
    context: &Context,
    a: &mut Attempt<'_>,
    errors: &mut Vec<String>,
) -> Result<bool, ApiError> {
    let mut view = View::default();
    view.show(a, &i.shown).await?;
    let seen = Seen::new(a, &view, &i.shown, context).0;
    let changed = carry_out(i, &seen, a, &mut view, errors)?;
    view.restore(a).await?;
    Ok(changed)
}

fn carry_out(
    i: &Invocation<'_, Rules>,
    seen: &Activation,
    a: &mut Attempt<'_>,
    view: &mut View,
    errors: &mut Vec<String>,
) -> Result<bool, ApiError> {
    let prefix = format!(
        "policy '{}' with binding '{}' denied request: ",
        i.policy.name, i.binding.name
    );
    let mut on = seen.with_params(i.param.as_ref());
    match i.meets_conditions(&on) {
        Ok(true) => {}
        Ok(false) => return Ok(false),
        Err(e) => {
            errors.push(format!("{prefix}{e}"));
            return Ok(false);
        }
    }
    let mut changed = false;
    let d: &Descriptor = i.shown.version.as_deref().unwrap_or(a.descriptor);
    let kind = &i.shown.kind;
    for m in &i.policy.rules.mutations {
        let Some(object) = view.object(a) else {
            break;
        };
        let mut run = Run::new(&on, &i.policy.scope.variables, RUNTIME_COST_BUDGET);
        let begun = Instant::now();
        let outcome = mutated(m, &mut run, d, kind, object).and_then(|mut after| {
            settle(d, kind, &mut after)?;
            Ok(after)
        });
        let failed = match &outcome {
            Ok(_) => None,
            Err(Failed::Policy(why)) => Some(why.as_str()),
            Err(Failed::Refused(e)) => Some(e.message.as_str()),
        };
        let (policy, binding) = (&i.policy.name, &i.binding.name);
        metrics::mutated(policy, binding, failed, begun.elapsed());
        match outcome {
            Ok(after) => {
                changed |= after != *object;
                on = on.with_object(&after);
                view.replace(a, after);
            }
            Err(Failed::Refused(e)) => return Err(e),
            Err(Failed::Policy(e)) if i.policy.fails => errors.push(format!("{prefix}{e}")),
            Err(Failed::Policy(_)) => {}
        }
    }
    Ok(changed)
}

/// The answer to a refused write: the text is that of the first error, all are causes.
fn refusal(a: &Attempt<'_>, errors: Vec<String>, evaluated: bool) -> ApiError {
    let mut e = a.forbidden("admission request denied by policy");
    e.message = errors.first().cloned().unwrap_or_default();
    if evaluated {
        e.reason = "Invalid".to_string();
    }
    let causes = errors.into_iter().map(|message| StatusCause {
        message,
        ..StatusCause::default()
    });
    e.details.get_or_insert_default().causes.extend(causes);
    e
}

#[async_trait]
impl Admission for MutatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Delete
    }

    fn steps(&self) -> Steps {
        Steps::Mutate
    }

    async fn mutate(&self, a: &mut Attempt<'_>) -> Result<(), ApiError> {
        if policies::exempt(a) {
            return Ok(());
        }
        let all = self.0.all();
        let met = self.0.met(&all, a);
        if met.invocations.is_empty() && met.errors.is_empty() {
            return Ok(());
        }
        let misconfigured = met.errors.iter().filter(|e| e.policy.fails).map(|e| {
            let policy = &e.policy.name;
            match e.binding {
                Some(b) => format!(
                    "policy '{policy}' with binding '{}' denied request: {}",
                    b.name, e.message
                ),
                None => format!("policy {policy:?} denied request: {}", e.message),
            }
        });
        let mut errors: Vec<String> = misconfigured.collect();
        let evaluated = errors.is_empty();
        let again = a.reinvocation.again;
        let object = a.object.clone();
        let rounds = a.reinvocation.state::<Rounds>(NAME);
        if again && rounds.output != object {
            rounds.require();
        }
        for i in &met.invocations {
            let key = key(i);
            // Nobody is invoked for the first time in the second round.
            if again && !a.reinvocation.state::<Rounds>(NAME).again.contains(&key) {
                continue;
            }
            if invoke(i, &self.0.context, a, &mut errors).await? {
                a.reinvocation.state::<Rounds>(NAME).require();
                a.reinvocation.wanted = true;
            }
            if i.policy.rules.again {
                a.reinvocation.state::<Rounds>(NAME).invoked.insert(key);
            }
        }
        a.reinvocation.state::<Rounds>(NAME).output = a.object.clone();
        if errors.is_empty() {
            return Ok(());
        }
        Err(refusal(a, errors, evaluated))
    }
}
