//! A webhook configuration as it is asked at every write: selectors parsed, identities made, conditions compiled once.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::selector::LabelSelector;
use machinery::object::{i64_at, list_at, name, str_at};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use webhook::ClientConfig;

use super::conditions::{Compiler, Conditions};

/// Upstream's default of `timeoutSeconds`.
const TIMEOUT_SECONDS: i64 = 10;

/// One configuration object.
pub struct Configuration {
    pub hooks: Vec<Hook>,
}

/// One webhook of a configuration.
pub struct Hook {
    pub name: String,
    /// The configuration's name.
    pub configuration: String,
    /// `<configuration>/<name>/<nth of that name>`: tells webhooks apart.
    pub uid: String,
    pub client: ClientConfig,
    pub rules: Vec<Rule>,
    /// failurePolicy Ignore.
    pub ignores_failure: bool,
    /// matchPolicy Equivalent.
    pub equivalent: bool,
    pub namespace_selector: Option<LabelSelector>,
    pub object_selector: Option<LabelSelector>,
    /// Whether a dry run may call it; `None`: the object does not say.
    pub dry_run_safe: Option<bool>,
    pub timeout: Duration,
    pub review_versions: Vec<String>,
    /// reinvocationPolicy IfNeeded.
    pub if_needed: bool,
    pub conditions: Vec<Condition>,
    compiled: OnceLock<Option<Arc<dyn Conditions>>>,
}

/// One of `rules`.
pub struct Rule {
    pub operations: Vec<String>,
    pub groups: Vec<String>,
    pub versions: Vec<String>,
    pub resources: Vec<String>,
    pub scope: String,
}

/// One of `matchConditions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub name: String,
    pub expression: String,
}

impl<'de> Deserialize<'de> for Configuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Value::deserialize(deserializer)?;
        Ok(Self::from_object(&object))
    }
}

// === Configuration ===

impl Configuration {
    /// From either kind of configuration object.
    pub fn from_object(object: &Value) -> Self {
        let own = name(object);
        let mut seen: HashMap<&str, usize> = HashMap::new();
        let hooks = list_at(object, "webhooks").iter().map(|h| {
            let nth = seen.entry(str_at(h, "name")).or_default();
            let hook = Hook::from_object(own, *nth, h);
            *nth += 1;
            hook
        });
        Self {
            hooks: hooks.collect(),
        }
    }
}

// === Hook ===

impl Hook {
    fn from_object(configuration: &str, nth: usize, h: &Value) -> Self {
        let own = str_at(h, "name");
        let selector = |field: &str| {
            let object = h.get(field);
            object.and_then(LabelSelector::from_object)
        };
        let seconds = i64_at(h, "timeoutSeconds").unwrap_or(TIMEOUT_SECONDS);
        Self {
            name: own.to_string(),
            configuration: configuration.to_string(),
            uid: format!("{configuration}/{own}/{nth}"),
            client: ClientConfig::from_object(h.get("clientConfig").unwrap_or(&Value::Null)),
            rules: list_at(h, "rules").iter().map(Rule::from_object).collect(),
            ignores_failure: str_at(h, "failurePolicy") == "Ignore",
            equivalent: str_at(h, "matchPolicy") == "Equivalent",
            namespace_selector: selector("namespaceSelector"),
            object_selector: selector("objectSelector"),
            dry_run_safe: match str_at(h, "sideEffects") {
                "" => None,
                effects => Some(["None", "NoneOnDryRun"].contains(&effects)),
            },
            timeout: Duration::from_secs(u64::try_from(seconds).unwrap_or(1).max(1)),
            review_versions: texts(h, "admissionReviewVersions"),
            if_needed: str_at(h, "reinvocationPolicy") == "IfNeeded",
            conditions: list_at(h, "matchConditions")
                .iter()
                .map(|c| Condition {
                    name: str_at(c, "name").into(),
                    expression: str_at(c, "expression").into(),
                })
                .collect(),
            compiled: OnceLock::new(),
        }
    }

    /// The conditions, compiled at the first use; `None` where nothing compiles.
    pub fn compiled(&self, compiler: Option<&dyn Compiler>) -> Option<Arc<dyn Conditions>> {
        let make = || compiler.map(|c| c.compile(&self.conditions));
        self.compiled.get_or_init(make).clone()
    }
}

impl Rule {
    fn from_object(r: &Value) -> Self {
        Self {
            operations: texts(r, "operations"),
            groups: texts(r, "apiGroups"),
            versions: texts(r, "apiVersions"),
            resources: texts(r, "resources"),
            scope: match str_at(r, "scope") {
                "" => "*".into(),
                scope => scope.into(),
            },
        }
    }
}

fn texts(object: &Value, field: &str) -> Vec<String> {
    let all = list_at(object, field).iter();
    all.filter_map(Value::as_str).map(str::to_string).collect()
}
