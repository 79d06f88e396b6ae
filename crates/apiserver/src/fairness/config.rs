//! The objects of flow control as the filter uses them. Upstream: flowcontrol/apf_controller.go.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderValue;
use machinery::object;
use serde_json::Value;

use super::allocate::Shares;
use super::metrics::{All, Counters};
use super::queues::Shape;
use super::rules::SchemaSpec;
use super::{Epoch, Level};

/// Names of the level and the schema that are always there.
const EXEMPT: &str = "exempt";
const CATCH_ALL: &str = "catch-all";
pub const MANDATORY: [&str; 2] = [EXEMPT, CATCH_ALL];

/// What makes two requests of a schema different flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    One,
    ByUser,
    ByNamespace,
}

/// A FlowSchema in use.
pub struct Schema {
    pub name: String,
    pub uid: HeaderValue,
    pub level: Arc<Level>,
    pub level_uid: HeaderValue,
    pub flow: Flow,
    pub spec: SchemaSpec,
    pub counters: Arc<Counters>,
}

/// All of it, schemas in the order in which they are tried.
#[derive(Default)]
pub struct Config {
    pub schemas: Vec<Schema>,
    pub levels: Vec<Arc<Level>>,
}

/// A level as its object has it.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelSpec {
    pub name: String,
    pub uid: String,
    pub shape: Shape,
    pub shares: Shares,
}

fn number(v: &Value, key: &str) -> Option<u32> {
    v[key].as_u64().and_then(|n| u32::try_from(n).ok())
}

impl LevelSpec {
    /// The level of an object, or what is wrong with it.
    pub fn of(o: &Value) -> Result<Self, &'static str> {
        let spec = &o["spec"];
        let name = object::name(o).to_string();
        let exempt = spec["type"] == "Exempt";
        if exempt != (name == EXEMPT) {
            return Err("name and type do not go together");
        }
        let limited = &spec["limited"];
        if exempt == limited.is_object() {
            return Err("it is limited and exempt at once, or neither");
        }
        let part = if exempt { &spec["exempt"] } else { limited };
        let response = &limited["limitResponse"];
        let queuing = &response["queuing"];
        let shape = match (exempt, queuing.is_object()) {
            (true, _) => Shape::Exempt,
            (false, false) if response["type"] != "Queue" => Shape::Reject,
            (false, false) => return Err("it queues without queues"),
            (false, true) => Shape::Queue {
                queues: number(queuing, "queues").unwrap_or(64).max(1),
                hand: number(queuing, "handSize").unwrap_or(8).max(1) as usize,
                length: number(queuing, "queueLengthLimit").unwrap_or(50) as usize,
            },
        };
        Ok(Self {
            uid: object::str_at(o, "metadata.uid").to_string(),
            name,
            shape,
            shares: Shares {
                shares: number(part, "nominalConcurrencyShares").unwrap_or(0),
                lendable_percent: number(part, "lendablePercent").unwrap_or(0),
                borrowing_percent: number(part, "borrowingLimitPercent"),
            },
        })
    }

    /// The two levels there are even without objects.
    fn mandatory(name: &str) -> Self {
        let (shape, shares) = match name {
            EXEMPT => (Shape::Exempt, 0),
            _ => (Shape::Reject, 5),
        };
        Self {
            name: name.into(),
            uid: String::new(),
            shape,
            shares: Shares {
                shares,
                ..Shares::default()
            },
        }
    }
}

/// The levels of objects, and those that must be there. Broken ones are left out.
pub fn levels(objects: &[Value]) -> Vec<LevelSpec> {
    let mut all = Vec::new();
    for o in objects {
        match LevelSpec::of(o) {
            Ok(spec) => all.push(spec),
            Err(why) => {
                tracing::warn!(name = object::name(o), why, "priority level is not used");
            }
        }
    }
    for name in MANDATORY {
        if !all.iter().any(|l| l.name == name) {
            all.push(LevelSpec::mandatory(name));
        }
    }
    all
}

impl Config {
    /// The configuration of these objects. Levels that were there before go on with who waits in them.
    pub fn new(
        before: &Self,
        (schemas, specs): (&[Value], &[LevelSpec]),
        counters: &All,
        epoch: Epoch,
    ) -> Self {
        let mut levels: BTreeMap<&str, (Arc<Level>, &str)> = BTreeMap::new();
        for spec in specs {
            let known = before.levels.iter().find(|l| l.name == spec.name);
            let level = match known {
                Some(level) => level.clone(),
                None => Arc::new(Level::new(&spec.name, spec.shape, epoch)),
            };
            level.specify(spec.shape, spec.shares);
            levels.insert(&spec.name, (level, &spec.uid));
        }
        let mut all: Vec<Schema> = Vec::new();
        let mut add = |name: &str, uid: &str, spec: SchemaSpec| {
            let Some((level, level_uid)) = levels.get(&*spec.priority_level_configuration.name)
            else {
                return;
            };
            all.push(Schema {
                name: name.into(),
                uid: header(uid),
                level: level.clone(),
                level_uid: header(level_uid),
                flow: match spec.distinguisher_method.as_ref().map(|m| m.kind.as_str()) {
                    Some("ByUser") => Flow::ByUser,
                    Some("ByNamespace") => Flow::ByNamespace,
                    _ => Flow::One,
                },
                counters: counters.of(&level.name, name),
                spec,
            });
        };
        for o in schemas {
            match SchemaSpec::of(o) {
                Ok(spec) => add(object::name(o), object::str_at(o, "metadata.uid"), spec),
                Err(error) => {
                    tracing::warn!(name = object::name(o), %error, "flow schema is not used");
                }
            }
        }
        mandatory(&mut add, schemas);
        all.sort_by(|a, b| {
            let key = |s: &Schema| (s.spec.matching_precedence, s.name.clone());
            key(a).cmp(&key(b))
        });
        let mut levels: Vec<Arc<Level>> = levels.into_values().map(|(l, _)| l).collect();
        // A level that is gone keeps its seats until nobody waits in it.
        for old in &before.levels {
            if !levels.iter().any(|l| l.name == old.name) && !old.is_idle() {
                levels.push(old.clone());
            }
        }
        Self {
            schemas: all,
            levels,
        }
    }
}

/// The two schemas there are even without objects.
fn mandatory(add: &mut impl FnMut(&str, &str, SchemaSpec), schemas: &[Value]) {
    let has = |name: &str| schemas.iter().any(|s| object::name(s) == name);
    if !has(EXEMPT) {
        let mut spec = SchemaSpec::all_of(&["system:masters"], EXEMPT);
        spec.matching_precedence = 1;
        add(EXEMPT, "", spec);
    }
    if !has(CATCH_ALL) {
        let everyone = ["system:unauthenticated", "system:authenticated"];
        let mut spec = SchemaSpec::all_of(&everyone, CATCH_ALL);
        spec.matching_precedence = 10_000;
        add(CATCH_ALL, "", spec);
    }
}

fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
