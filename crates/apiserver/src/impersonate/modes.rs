//! The ways of acting as somebody else, tried in upstream's order; who succeeded in one begins with it next time.
//! Upstream: mode.go and cache.go of filters/impersonation.

use std::collections::HashMap;
use std::time::Instant;

use machinery::ApiError;
use machinery::request::{Attributes, Decision, User};
use machinery::series::{DOUBLING, Family, Kind};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::Impersonated;
use crate::filters;
use crate::limits;
use crate::server::Inner;

static CHECKS: Family = Family {
    name: "apiserver_impersonation_authorization_attempts_total",
    kind: Kind::Counter,
    help: "[ALPHA] Questions to authorizers about acting as another, by mode and decision.",
    labels: &["mode", "decision"],
};
static SECONDS: Family = Family {
    name: "apiserver_impersonation_authorization_attempts_duration_seconds",
    kind: Kind::Histogram(DOUBLING),
    help: "[ALPHA] Seconds that those questions took, by mode and decision.",
    labels: &["mode", "decision"],
};

const ACCOUNT: &str = "system:serviceaccount:";
const NODE: &str = "system:node:";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const NODE_KEYS: &str = "authentication.kubernetes.io/associated-node-keys";
/// From so many groups or extra values on, one question about all of them is tried first.
const MANY: usize = 4;

/// What one way of acting is called, and its verb.
struct Mode {
    name: &'static str,
    verb: &'static str,
    /// By the whole request, and by the two users alone.
    outer: Cache,
    inner: Cache,
}

/// Whom somebody may act as, for a short time.
#[derive(Default)]
struct Cache(Mutex<HashMap<Key, (Impersonated, Instant)>>);

type Key = [u8; 32];

/// All ways but the old one, and who went which.
pub struct Modes {
    modes: [Mode; 4],
    last: Mutex<HashMap<Key, usize>>,
}

/// The way's name in metrics, by a verb.
pub fn of_verb(verb: &str) -> &'static str {
    let rest = verb.strip_prefix("impersonate").unwrap_or_default();
    let mode = match rest.strip_prefix("-on:") {
        Some(on) => on.split(':').next().unwrap_or_default(),
        None => rest.strip_prefix(':').unwrap_or_default(),
    };
    let known = [
        "associated-node",
        "arbitrary-node",
        "serviceaccount",
        "user-info",
    ];
    match (verb, known.iter().find(|k| **k == mode)) {
        ("" | "impersonate", _) => "legacy",
        (_, Some(known)) => known,
        _ => "unknown",
    }
}

fn is_account(name: &str) -> Option<(&str, &str)> {
    let (namespace, name) = name.strip_prefix(ACCOUNT)?.split_once(':')?;
    let good = api::names::dns1123_label(namespace).is_empty()
        && api::names::dns1123_subdomain(name).is_empty();
    good.then_some((namespace, name))
}

fn is_node(name: &str) -> Option<&str> {
    let name = name.strip_prefix(NODE)?;
    api::names::dns1123_subdomain(name)
        .is_empty()
        .then_some(name)
}

fn only_named(wanted: &User) -> bool {
    wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty()
}

impl Default for Modes {
    fn default() -> Self {
        let mode = |name, verb| Mode {
            name,
            verb,
            outer: Cache::default(),
            inner: Cache::default(),
        };
        Self {
            modes: [
                mode("associated-node", "impersonate:associated-node"),
                mode("arbitrary-node", "impersonate:arbitrary-node"),
                mode("serviceaccount", "impersonate:serviceaccount"),
                mode("user-info", "impersonate:user-info"),
            ],
            last: Mutex::default(),
        }
    }
}

// === Modes ===

impl Modes {
    /// The way that lets this request act as the wanted user. The error is that of the first that does not.
    pub async fn find(
        &self,
        server: &Inner,
        wanted: &User,
        asked: &Attributes,
    ) -> Result<Impersonated, ApiError> {
        let who: Key = Sha256::digest(asked.user.name.as_bytes()).into();
        let last = self.last.lock().get(&who).copied();
        let gates = server.plugins.get().map(|p| &p.gates);
        let constrained = gates.is_none_or(|g| g.enabled("ConstrainedImpersonation"));
        let first_mode = if constrained { 0 } else { self.modes.len() };
        let last = last.filter(|i| *i >= first_mode);
        let rest = (first_mode..=self.modes.len()).filter(|i| Some(*i) != last);
        let mut first = None;
        for i in last.into_iter().chain(rest) {
            let found = match self.modes.get(i) {
                Some(mode) => mode.check(server, wanted, asked).await,
                None => Way::legacy(server, &asked.user)
                    .check(wanted)
                    .await
                    .map(Some),
            };
            match found {
                Ok(None) => {}
                Ok(Some(found)) => {
                    let mut last = self.last.lock();
                    if last.len() >= limits::IMPERSONATORS {
                        last.clear();
                    }
                    last.insert(who, i);
                    return Ok(found);
                }
                Err(e) => {
                    first.get_or_insert(e);
                }
            }
        }
        Err(first.unwrap_or_else(|| ApiError::internal("all impersonation modes failed")))
    }
}

impl Mode {
    /// Whether this way is meant for such users at all.
    fn applies(&self, wanted: &User, sender: &User) -> bool {
        match self.name {
            "user-info" => is_node(&wanted.name).is_none() && is_account(&wanted.name).is_none(),
            _ if !only_named(wanted) => false,
            "serviceaccount" => is_account(&wanted.name).is_some(),
            "arbitrary-node" => is_node(&wanted.name).is_some(),
            _ => {
                let own = sender.extra.get(NODE_NAME).map(Vec::as_slice);
                let own = own.and_then(|all| match all {
                    [one] => Some(one.as_str()),
                    _ => None,
                });
                let node = is_node(&wanted.name);
                is_account(&sender.name).is_some() && node.is_some() && node == own
            }
        }
    }

    async fn check(
        &self,
        server: &Inner,
        wanted: &User,
        asked: &Attributes,
    ) -> Result<Option<Impersonated>, ApiError> {
        if !self.applies(wanted, &asked.user) {
            return Ok(None);
        }
        // A service account on many nodes is one sender: what tells its pods apart is left out.
        let associated = self.name == "associated-node";
        let mut asked = asked.clone();
        let mut keyed = wanted.clone();
        if associated {
            let keys = asked.user.extra.keys().cloned().collect();
            asked.user.extra = [(NODE_KEYS.to_string(), keys)].into();
            keyed.name = format!("{NODE}*");
        }
        let outer = key(&keyed, &asked.user, Some(&asked));
        let named = |mut found: Impersonated| {
            found.user.name.clone_from(&wanted.name);
            Some(found)
        };
        if let Some(found) = outer.and_then(|k| self.outer.get(&k)) {
            return Ok(named(found));
        }
        let on = Attributes {
            verb: format!("impersonate-on:{}:{}", self.name, asked.verb),
            ..asked.clone()
        };
        allowed(server, &on).await?;
        let inner = key(&keyed, &asked.user, None);
        let found = match inner.and_then(|k| self.inner.get(&k)) {
            Some(found) => found,
            None => {
                let way = Way {
                    server,
                    sender: &asked.user,
                    verb: self.verb,
                    constrained: true,
                    any_node: associated,
                };
                let found = way.check(wanted).await?;
                self.inner.set(inner, &found);
                found
            }
        };
        self.outer.set(outer, &found);
        Ok(named(found))
    }
}

// === Cache ===

impl Cache {
    fn get(&self, key: &Key) -> Option<Impersonated> {
        let known = self.0.lock();
        let (found, end) = known.get(key)?;
        (*end > Instant::now()).then(|| found.clone())
    }

    fn set(&self, key: Option<Key>, found: &Impersonated) {
        let Some(key) = key else {
            return;
        };
        let (now, mut known) = (Instant::now(), self.0.lock());
        if known.len() >= limits::IMPERSONATIONS {
            known.retain(|_, (_, end)| *end > now);
        }
        if known.len() >= limits::IMPERSONATIONS {
            known.clear();
        }
        known.insert(key, (found.clone(), now + limits::IMPERSONATION_TTL));
    }
}

/// What a decision hangs on; `None` where the selectors cannot be read, so that nothing is remembered of them.
fn key(wanted: &User, sender: &User, asked: Option<&Attributes>) -> Option<Key> {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    let mut all = |texts: &[String]| {
        add(&texts.len().to_string());
        texts.iter().for_each(|t| add(t));
    };
    for user in [wanted, sender] {
        all(&[user.name.clone(), user.uid.clone()]);
        all(&user.groups);
        all(&[user.extra.len().to_string()]);
        for (key, values) in &user.extra {
            all(std::slice::from_ref(key));
            all(values);
        }
    }
    if let Some(a) = asked {
        let (fields, labels) = (a.field_selector.as_deref(), a.label_selector.as_deref());
        let (fields, labels) = (fields.unwrap_or_default(), labels.unwrap_or_default());
        api::selector::FieldSelector::parse(fields).ok()?;
        api::selector::LabelSelector::parse(labels).ok()?;
        for text in [
            &a.verb,
            &a.namespace,
            &a.resource,
            &a.subresource,
            &a.name,
            &a.group,
            &a.version,
            &a.path,
        ] {
            all(std::slice::from_ref(text));
        }
        all(&[a.is_resource.to_string(), fields.into(), labels.into()]);
    }
    Some(hash.finalize().into())
}

/// Asks the authorizers; the error is a 403 with upstream's text.
async fn allowed(server: &Inner, a: &Attributes) -> Result<(), ApiError> {
    let begun = Instant::now();
    let decision = filters::decide(server, a).await;
    let allowed = matches!(decision, Decision::Allow(_));
    let labels = [of_verb(&a.verb), if allowed { "allowed" } else { "denied" }];
    server.access.inc(&CHECKS, &labels);
    server.access.observe(&SECONDS, &labels, begun.elapsed());
    filters::require(a, decision)
}

/// One way's questions about the parts of an identity.
struct Way<'a> {
    server: &'a Inner,
    sender: &'a User,
    verb: &'static str,
    constrained: bool,
    /// The node's name does not matter.
    any_node: bool,
}

impl<'a> Way<'a> {
    fn legacy(server: &'a Inner, sender: &'a User) -> Self {
        Self {
            server,
            sender,
            verb: "impersonate",
            constrained: false,
            any_node: false,
        }
    }

    fn ask(&self, group: &str, resource: &str, name: &str) -> Attributes {
        Attributes {
            user: self.sender.clone(),
            verb: self.verb.into(),
            group: group.into(),
            version: "v1".into(),
            resource: resource.into(),
            name: name.into(),
            is_resource: true,
            ..Attributes::default()
        }
    }

    /// The group of users and groups.
    fn group(&self) -> &'static str {
        if self.constrained { AUTHENTICATION } else { "" }
    }

    async fn allowed(&self, a: &Attributes) -> Result<(), ApiError> {
        allowed(self.server, a).await
    }

    async fn check(&self, wanted: &User) -> Result<Impersonated, ApiError> {
        let mut user = wanted.clone();
        self.username(&mut user).await?;
        if !wanted.uid.is_empty() {
            self.allowed(&self.ask(AUTHENTICATION, "uids", &wanted.uid))
                .await?;
        }
        self.groups(&wanted.groups).await?;
        self.extra(wanted).await?;
        let everyone = match user.name.as_str() {
            "system:anonymous" => "system:unauthenticated",
            _ if user.in_group("system:unauthenticated") => "system:unauthenticated",
            _ => "system:authenticated",
        };
        if !user.in_group(everyone) {
            user.groups.push(everyone.into());
        }
        let constraint = if self.constrained { self.verb } else { "" };
        Ok(Impersonated { user, constraint })
    }

    async fn username(&self, user: &mut User) -> Result<(), ApiError> {
        let mut a = self.ask(self.group(), "users", &user.name);
        if self.constrained
            && let Some(node) = is_node(&user.name)
        {
            a.resource = "nodes".into();
            a.name = if self.any_node { "*" } else { node }.into();
            user.groups = vec!["system:nodes".into()];
        } else if let Some((namespace, name)) = is_account(&user.name) {
            a.resource = "serviceaccounts".into();
            a.namespace = namespace.into();
            a.name = name.into();
            if user.groups.is_empty() {
                user.groups = vec![
                    "system:serviceaccounts".into(),
                    format!("system:serviceaccounts:{namespace}"),
                ];
            }
        }
        self.allowed(&a).await
    }

    async fn groups(&self, groups: &[String]) -> Result<(), ApiError> {
        let mut a = self.ask(self.group(), "groups", "");
        if self.constrained {
            if groups.iter().any(String::is_empty) {
                let why = "impersonating the empty string group is not allowed";
                return Err(filters::forbidden(&a, why));
            }
            if groups.iter().any(|g| g == "system:masters") {
                a.name = "system:masters".into();
                let why = "impersonating the system:masters group is not allowed";
                return Err(filters::forbidden(&a, why));
            }
            if groups.len() >= MANY {
                a.name = "*".into();
                if self.allowed(&a).await.is_ok() {
                    return Ok(());
                }
            }
        }
        for group in groups {
            a.name.clone_from(group);
            self.allowed(&a).await?;
        }
        Ok(())
    }

    async fn extra(&self, wanted: &User) -> Result<(), ApiError> {
        let mut a = self.ask(AUTHENTICATION, "userextras", "");
        if self.constrained {
            for (key, values) in &wanted.extra {
                if let Some(why) = bad_extra(key, values) {
                    return Err(filters::forbidden(&a, &why));
                }
            }
            let values: usize = wanted.extra.values().map(Vec::len).sum();
            if values.max(wanted.extra.len()) >= MANY {
                a.subresource = "*".into();
                a.name = "*".into();
                if self.allowed(&a).await.is_ok() {
                    return Ok(());
                }
            }
        }
        for (key, values) in &wanted.extra {
            a.subresource.clone_from(key);
            for value in values {
                a.name.clone_from(value);
                self.allowed(&a).await?;
            }
        }
        Ok(())
    }
}

const AUTHENTICATION: &str = "authentication.k8s.io";

/// What the old way lets pass and these do not.
fn bad_extra(key: &str, values: &[String]) -> Option<String> {
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".into());
    }
    let mut causes = machinery::Causes::new();
    causes.at("extra.key", |c| c.domain_prefixed_path(key));
    if !causes.is_empty() {
        let texts: Vec<String> = causes.as_slice().iter().map(|c| c.text()).collect();
        let text = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        return Some(format!(
            "impersonating an invalid key in extra is not allowed: {text}"
        ));
    }
    if key != key.to_lowercase() {
        return Some(format!(
            "impersonating a non-lowercase key in extra is not allowed: {key:?}"
        ));
    }
    if values.is_empty() {
        return Some("impersonating empty values in extra is not allowed".into());
    }
    let empty = values.iter().any(String::is_empty);
    empty.then(|| "impersonating the empty string value in extra is not allowed".into())
}
