//! What a sequence is made of: requests with placeholders that each server fills in from its own answers.

use serde_json::Value;

/// A request. `«rv:NAME»`, `«uid:NAME»`, `«first:NAME»` (its first version), `«list»` (version of the last
/// list) and `«continue»` are replaced by what the server asked has said before.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: &'static str,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// One step.
#[derive(Clone, Debug)]
pub enum Step {
    /// Send and compare the answers.
    Send(Ask),
    /// Begin a watch, read it to its end, compare all frames.
    Watch(Ask, Till),
    /// Begin a watch that the next steps are seen by.
    Begin(Ask),
    /// Send and compare; where both refuse, nothing that follows has a meaning.
    Gate(Ask),
    /// Send without a comparison.
    Quiet(Ask),
    /// Send until the answer fits, to each server; nothing is compared.
    Until(Ask, fn(&crate::target::Answer) -> bool),
    /// Read to its end what the watch that was begun has seen, compare all frames.
    End(Till),
}

/// When a watch has been read far enough.
#[derive(Clone, Debug)]
pub enum Till {
    /// When it has seen the change that this makes: it puts the annotation `LAST` on an object that is watched.
    Seen(Ask),
    /// When the server ends it.
    Closed,
    /// When nothing came for a while; where nothing can come that says more.
    Quiet,
}

/// The annotation of the last change that a watch waits for.
pub const LAST: &str = "last";

/// A header that no server knows: what is compared of what a document publishes begins so.
pub const ONLY: &str = "x-only";

/// Steps that see one another's objects.
pub struct Sequence {
    /// Family and seed.
    pub name: String,
    /// A namespace of its own; empty where it needs none.
    pub namespace: String,
    pub steps: Vec<Step>,
}

// === Step ===

impl Step {
    /// Until an object is taken, or refused for something else than its `probe`: by then the schema that lets this one
    /// value in is in force.
    pub fn probe(base: &str, mut object: Value, probe: &str) -> Self {
        object["probe"] = probe.into();
        // Nothing but the probe is looked at.
        let path = format!("{base}?dryRun=All&fieldValidation=Ignore");
        let ask = Ask::new("POST", path).json("application/json", &object);
        Self::Until(ask, |answer| {
            let causes = answer.body["details"]["causes"].as_array();
            let refused = causes.into_iter().flatten().any(|c| c["field"] == "probe");
            answer.code == 201 || (answer.code == 422 && !refused)
        })
    }

    /// Until the document of a group's version has what custom resources are there.
    pub fn published(path: &str) -> Self {
        Self::Until(Ask::new("GET", path), |answer| {
            let kinds = answer.body["published"].as_object();
            kinds.is_some_and(|kinds| !kinds.is_empty())
        })
    }

    /// The v2 document's part about a group, once there is one: other sequences' definitions come and go.
    pub fn published_v2(group: &str) -> [Self; 2] {
        let parts: Vec<&str> = group.rsplit('.').collect();
        let ask = Ask::new("GET", "/openapi/v2").with(ONLY, &format!("{}.", parts.join(".")));
        let until = Self::Until(ask.clone(), |answer| {
            let kinds = answer.body["published"].as_object();
            kinds.is_some_and(|kinds| !kinds.is_empty())
        });
        [until, Self::Send(ask)]
    }

    /// Until a definition is established: objects are taken a moment before, and its controllers write until then.
    pub fn established(path: &str) -> Self {
        Self::Until(Ask::new("GET", path), |answer| {
            let conditions = answer.body["status"]["conditions"].as_array();
            let mut all = conditions.into_iter().flatten();
            all.any(|c| c["type"] == "Established" && c["status"] == "True")
        })
    }
}

// === Ask ===

impl Ask {
    /// A request without a body.
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds a header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// A body of JSON, under a content type.
    pub fn json(self, content: &str, body: &Value) -> Self {
        self.text(content, &body.to_string())
    }

    /// A body of any text, under a content type.
    pub fn text(mut self, content: &str, body: &str) -> Self {
        self.body = body.as_bytes().to_vec();
        self.with("content-type", content)
    }

    /// A line for the log.
    pub fn line(&self) -> String {
        let mut out = format!("{} {}", self.method, self.path);
        for (name, value) in &self.headers {
            out.push_str(&format!(" [{name}: {value}]"));
        }
        if !self.body.is_empty() {
            let text = String::from_utf8_lossy(&self.body);
            let cut: String = text.chars().take(8_000).collect();
            out.push_str(&format!("\n      {cut}"));
        }
        out
    }
}

impl From<Ask> for Step {
    fn from(ask: Ask) -> Self {
        Self::Send(ask)
    }
}

/// Repeatable chance: a linear congruential generator.
pub struct Dice(u64);

impl Dice {
    /// Dice of a seed.
    pub fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        dice.roll(2);
        dice
    }

    /// A number below `n`.
    pub fn roll(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        let i = self.roll(all.len() as u64);
        all[usize::try_from(i).unwrap_or(0)]
    }
}
