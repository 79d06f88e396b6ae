//! Whether the rules of a definition may be written: that they compile, and that they do not cost too much.
//! Upstream: apiextensions-apiserver/pkg/apis/apiextensions/validation, validation.go and cel_validation.go.

use std::collections::HashSet;
use std::time::Instant;

use machinery::Causes;
use machinery::causes::CauseKind;
use machinery::object::{bool_at, list_at, str_at};
use serde_json::{Value, json};

use super::super::{JsonType, ListKind, Structural};
use super::sizes::Size;
use super::{OLD_SELF, environment, schema_of};
use crate::crd::validation::{internal_rule, same};
use crate::limits::{CRD_RULES_COST, RULE_COST};
use crate::metrics::cel;

/// The version whose libraries new rules may use: the one before this, so that it can be gone back to.
const COMPATIBLE_MINOR: u32 = 36;
/// How many of the most expensive rules are named.
const NAMED: usize = 4;

/// What an older definition says about this one.
#[derive(Default)]
pub struct Before {
    /// Rules and message expressions that it has: they may use all libraries.
    known: HashSet<String>,
    /// The schema is as it was: single rules may cost what they do.
    unchanged: bool,
}

/// What the rules of a schema cost together.
#[derive(Default)]
struct Total {
    sum: u64,
    /// Paths and costs, the most expensive first.
    dearest: Vec<(String, u64)>,
}

/// A node on the way down.
struct Place {
    resource: bool,
    /// Where in the schema values stop having an old one that they can be told by.
    uncorrelated: Option<String>,
    /// How often it can be there; nothing if that has no bound.
    most: Option<u64>,
}

/// What is known of the rest of a definition.
struct Around<'a> {
    before: &'a Before,
    /// Whether something is wrong at or below a path: then rules there are not looked at.
    wrong: &'a dyn Fn(&str) -> bool,
}

// === Before ===

impl Before {
    /// What a definition says about the schema of one of its versions.
    pub fn of(definition: &Value, version: &str, schema: &Value) -> Self {
        let versions = list_at(definition, "spec.versions");
        let mut known = HashSet::new();
        for v in versions {
            gather(&v["schema"]["openAPIV3Schema"], &mut known);
        }
        let old = versions.iter().find(|v| str_at(v, "name") == version);
        Self {
            known,
            unchanged: old.is_some_and(|v| same(&v["schema"]["openAPIV3Schema"], schema)),
        }
    }
}

fn gather(schema: &Value, known: &mut HashSet<String>) {
    match schema {
        Value::Object(map) => {
            for rule in list_at(schema, "x-kubernetes-validations") {
                for field in ["rule", "messageExpression"] {
                    known.insert(str_at(rule, field).to_string());
                }
            }
            map.values().for_each(|v| gather(v, known));
        }
        Value::Array(items) => items.iter().for_each(|v| gather(v, known)),
        _ => {}
    }
}

// === Structural ===

impl Structural {
    /// Reports what is wrong with rules, at their places in the schema. `wrong` tells whether something else is, at or
    /// below a path.
    pub fn check_rules(&self, before: &Before, wrong: &dyn Fn(&str) -> bool, c: &mut Causes) {
        let root = Place {
            resource: true,
            uncorrelated: None,
            most: Some(1),
        };
        let mut total = Total::default();
        compile(self, &root, &Around { before, wrong }, &mut total, c);
        total.check(c);
    }

    /// How much more often values below can be there than this one.
    fn elements(&self) -> Option<u64> {
        match self.kind {
            Some(JsonType::Object) if self.additional.is_some() => {
                self.bounds.max_properties.map(|n| n as u64)
            }
            Some(JsonType::Array) => self.bounds.max_items.map(|n| n as u64),
            _ => Some(1),
        }
    }

    /// Runs `f` on every part below, in upstream's order.
    fn each_below(&self, c: &mut Causes, mut f: impl FnMut(&Structural, bool, &mut Causes)) {
        if let Some(below) = &self.additional {
            c.at("additionalProperties", |c| f(below, true, c));
        }
        for (name, below) in &self.properties {
            c.at("properties", |c| c.key(name, |c| f(below, true, c)));
        }
        if let Some(below) = &self.items {
            let told = matches!(self.list, ListKind::Map(_));
            c.at("items", |c| f(below, told, c));
        }
    }
}

/// Compiles and weighs the rules of a node and below it, where nothing else is wrong.
fn compile(s: &Structural, place: &Place, around: &Around<'_>, total: &mut Total, c: &mut Causes) {
    if !s.has_rules {
        return;
    }
    let most = place.most.zip(s.elements());
    let most = most.map(|(n, each)| n.saturating_mul(each));
    let own = c.path().to_string();
    s.each_below(c, |below, told, c| {
        let here = (!told).then(|| own.clone());
        let place = Place {
            resource: below.embedded,
            uncorrelated: place.uncorrelated.clone().or(here),
            most,
        };
        compile(below, &place, around, total, c);
    });
    if s.rules.raw.is_empty() || (around.wrong)(c.path()) {
        return;
    }
    let begun = Instant::now();
    let schema = schema_of(s, place.resource).unwrap_or_default();
    let size = Size::of(s, place.resource).unwrap_or_default();
    let most = place.most.unwrap_or_else(|| size.most_in_a_request());
    for (i, raw) in s.rules.raw.iter().enumerate() {
        c.at("x-kubernetes-validations", |c| {
            c.index(i, |c| {
                let mut site = Site {
                    schema: &schema,
                    size: &size,
                    most,
                    uncorrelated: place.uncorrelated.as_deref(),
                    before: around.before,
                    total,
                };
                site.rule(raw, c);
            })
        });
    }
    cel::COMPILATION.observe(&[], begun.elapsed());
}

/// Where rules are compiled.
struct Site<'a> {
    schema: &'a celenv::Schema,
    size: &'a Size,
    most: u64,
    uncorrelated: Option<&'a str>,
    before: &'a Before,
    total: &'a mut Total,
}

impl Site<'_> {
    fn rule(&mut self, raw: &Value, c: &mut Causes) {
        let optional_old = bool_at(raw, "optionalOldSelf");
        let environment = environment(self.schema, optional_old == Some(true));
        let of = |text: &str| match self.before.known.contains(text) {
            true => environment.clone(),
            false => environment.clone().at_version(COMPATIBLE_MINOR),
        };
        let rule = str_at(raw, "rule");
        if rule.trim().is_empty() {
            return;
        }
        let compiled = of(rule)
            .compile_and_estimate(rule, self.size)
            .map_err(|e| e.detail());
        let program = compiled.and_then(|(p, cost)| match p.output() {
            celenv::Type::Bool => Ok((p, cost.max)),
            _ => Err("cel expression must evaluate to a bool".to_string()),
        });
        let uses_old = match program {
            Err(e) => {
                c.at("rule", |c| {
                    c.shown(CauseKind::Invalid, internal_rule(raw), e)
                });
                false
            }
            Ok((p, cost)) => {
                let cost = cost.saturating_mul(self.most);
                c.at("rule", |c| self.weigh("estimated rule cost", cost, c));
                self.message(raw, of(str_at(raw, "messageExpression")), c);
                p.uses(OLD_SELF)
            }
        };
        if let Some(within) = self.uncorrelated.filter(|_| uses_old) {
            let text = "oldSelf cannot be used on the uncorrelatable portion of the schema within";
            c.at("rule", |c| {
                c.invalid(&json!(rule), format!("{text} {within}"))
            });
        }
        if !uses_old && let Some(optional) = optional_old {
            c.at("optionalOldSelf", |c| {
                c.invalid(
                    &json!(optional),
                    "may not be set if oldSelf is not used in rule",
                );
            });
        }
    }

    /// A message's expression is compiled where its rule compiles.
    fn message(&mut self, raw: &Value, environment: celenv::Environment, c: &mut Causes) {
        let text = str_at(raw, "messageExpression");
        if text.is_empty() {
            return;
        }
        let compiled = environment
            .compile_and_estimate(text, self.size)
            .map_err(|e| match e.detail().split_once("program instantiation") {
                Some((_, rest)) => format!("messageExpression instantiation{rest}"),
                None => format!("messageExpression {}", e.detail()),
            });
        c.at("messageExpression", |c| match compiled {
            Err(e) => c.shown(CauseKind::Invalid, internal_rule(raw), e),
            Ok((p, _)) if *p.output() != celenv::Type::String => {
                let why = "messageExpression must evaluate to a string";
                c.shown(CauseKind::Invalid, internal_rule(raw), why);
            }
            Ok((_, cost)) => self.weigh("estimated messageExpression cost", cost.max, c),
        });
    }

    fn weigh(&mut self, what: &str, cost: u64, c: &mut Causes) {
        if !self.before.unchanged && cost > RULE_COST {
            c.forbidden(exceeds(what, cost, RULE_COST));
        }
        self.total.observe(c.path(), cost);
    }
}

// === Total ===

impl Total {
    fn observe(&mut self, path: &str, cost: u64) {
        self.sum = self.sum.saturating_add(cost);
        if cost < CRD_RULES_COST / 100 {
            return;
        }
        self.dearest.push((path.to_string(), cost));
        self.dearest
            .sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        self.dearest.truncate(NAMED);
    }

    fn check(self, c: &mut Causes) {
        if self.sum <= CRD_RULES_COST {
            return;
        }
        for (path, _) in self.dearest {
            c.add(machinery::causes::Cause {
                kind: CauseKind::Forbidden,
                field: path,
                value: None,
                detail: "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema".into(),
            });
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        c.forbidden(exceeds(what, self.sum, CRD_RULES_COST));
    }
}

/// Upstream's text about a cost beyond its limit.
fn exceeds(what: &str, cost: u64, limit: u64) -> String {
    let times = cost as f64 / limit as f64;
    let factor = match times {
        t if t > 100.0 => "more than 100x".to_string(),
        t if t < 1.5 => format!("{t:.6}x"),
        t => format!("{t:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}
