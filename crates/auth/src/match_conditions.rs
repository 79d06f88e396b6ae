//! Which requests an authorization webhook is asked about: expressions over the access review.
//! Upstream: k8s.io/apiserver/pkg/authorization/cel.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use celenv::schema::{ObjectSchema, Schema};
use celenv::value::{ListKind, Value};
use celenv::{Environment, EvalError, Lookup, Program, Type};
use machinery::series::{Family, Kind, Registry};
use serde_json::Value as Json;

static ERRORS: Family = Family {
    name: "apiserver_authorization_match_condition_evaluation_errors_total",
    kind: Kind::Counter,
    help: "[ALPHA] Requests for which a match condition of an authorization webhook failed.",
    labels: &["type", "name"],
};
static EXCLUSIONS: Family = Family {
    name: "apiserver_authorization_match_condition_exclusions_total",
    kind: Kind::Counter,
    help: "[ALPHA] Requests that an authorization webhook was not asked about, by its match conditions.",
    labels: &["type", "name"],
};
static SECONDS: Family = Family {
    name: "apiserver_authorization_match_condition_evaluation_seconds",
    kind: Kind::Histogram(&[0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25]),
    help: "[ALPHA] Seconds that an authorization webhook's match conditions took.",
    labels: &["type", "name"],
};

/// The compiled conditions of one webhook.
pub struct MatchConditions {
    programs: Vec<Program>,
    name: String,
    metrics: Arc<Registry>,
}

static REQUEST: LazyLock<Schema> = LazyLock::new(|| {
    let texts = || Schema::List(Arc::new(Schema::String), ListKind::Atomic);
    let object = |name: &str, fields: Vec<(&str, Schema)>| {
        let one = |(n, s): (&str, Schema)| (n.to_string(), n.to_string(), s);
        Schema::Object(Arc::new(ObjectSchema {
            name: format!("kubernetes.{name}"),
            fields: fields.into_iter().map(one).collect(),
        }))
    };
    let strings = |names: &[&'static str]| -> Vec<(&'static str, Schema)> {
        names.iter().map(|n| (*n, Schema::String)).collect()
    };
    let selector = |name: &str| {
        let mut fields = strings(&["key", "operator"]);
        fields.push(("values", texts()));
        let requirement = object("SelectorRequirement", fields);
        let all = Schema::List(Arc::new(requirement), ListKind::Atomic);
        object(
            name,
            vec![("rawSelector", Schema::String), ("requirements", all)],
        )
    };
    let mut resource = strings(&[
        "namespace",
        "verb",
        "group",
        "version",
        "resource",
        "subresource",
        "name",
    ]);
    resource.push(("fieldSelector", selector("FieldSelectorAttributes")));
    resource.push(("labelSelector", selector("LabelSelectorAttributes")));
    object(
        "SubjectAccessReviewSpec",
        vec![
            ("resourceAttributes", object("ResourceAttributes", resource)),
            (
                "nonResourceAttributes",
                object("NonResourceAttributes", strings(&["path", "verb"])),
            ),
            ("user", Schema::String),
            ("groups", texts()),
            ("extra", Schema::Map(Arc::new(texts()))),
            ("uid", Schema::String),
        ],
    )
});

static ENVIRONMENT: LazyLock<Environment> =
    LazyLock::new(|| Environment::new().variable("request", REQUEST.type_of()));

/// The only variable.
struct One(Value);

impl Lookup for One {
    fn variable(&self, _index: usize) -> Result<Value, EvalError> {
        Ok(self.0.clone())
    }
}

// === MatchConditions ===

impl MatchConditions {
    /// Compiles one condition. The error is upstream's.
    pub fn compile_one(source: &str) -> Result<Program, String> {
        let program = ENVIRONMENT.compile(source);
        let program = program.map_err(|e| format!("compilation failed: {e}"))?;
        match program.output() {
            Type::Bool => Ok(program),
            other => Err(format!("must evaluate to bool but got {other}")),
        }
    }

    /// The conditions of the webhook of this name.
    pub fn compile(
        sources: impl IntoIterator<Item = impl AsRef<str>>,
        name: &str,
        metrics: Arc<Registry>,
    ) -> Result<Self, String> {
        let programs: Result<_, _> = sources
            .into_iter()
            .map(|s| Self::compile_one(s.as_ref()))
            .collect();
        Ok(Self {
            programs: programs?,
            name: name.to_string(),
            metrics,
        })
    }

    /// Whether all hold of an access review's spec, whose texts are all there: one that is false decides, then
    /// one that fails.
    pub fn matches(&self, spec: &Json) -> Result<bool, String> {
        if self.programs.is_empty() {
            return Ok(true);
        }
        let begun = Instant::now();
        let labels = ["Webhook", self.name.as_str()];
        let done = self.evaluate(spec);
        self.metrics.observe(&SECONDS, &labels, begun.elapsed());
        match &done {
            Ok(true) => {}
            Ok(false) => self.metrics.inc(&EXCLUSIONS, &labels),
            Err(_) => self.metrics.inc(&ERRORS, &labels),
        }
        done
    }

    fn evaluate(&self, spec: &Json) -> Result<bool, String> {
        let request = One(REQUEST.value(spec));
        let mut errors = Vec::new();
        for program in &self.programs {
            match program.evaluate(&request).result {
                Ok(Value::Bool(true)) => {}
                Ok(Value::Bool(false)) => return Ok(false),
                Ok(_) => errors.push(format!("{} is no bool", program.source())),
                Err(e) => errors.push(format!(
                    "cel evaluation error: expression '{}' resulted in error: {e}",
                    program.source()
                )),
            }
        }
        match errors.is_empty() {
            true => Ok(true),
            false => Err(crate::rbac::aggregate("", errors)),
        }
    }
}
