//! Checks of permissions. Upstream: k8s.io/apiserver/pkg/cel/library/authz.go.

use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use machinery::request::{Attributes, Authorizer, Decision, User};
use tokio::sync::Semaphore;

use super::{Answer, Foreign, Row, fail, foreign, none, text};
use crate::limits;
use crate::program::EvalError;
use crate::value::Value;

/// What an authorizer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    pub reason: String,
    pub error: Option<String>,
}

/// Who answers checks. Expressions cannot wait, so the answer comes at once.
pub trait Checks: Send + Sync {
    /// Whether this may be done.
    fn check(&self, a: &Attributes) -> Verdict;
}

/// A user, and who says what the user may do.
#[derive(Clone)]
pub struct Subject {
    pub user: User,
    pub checks: Arc<dyn Checks>,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "authorizer of {}", self.user.name)
    }
}

/// A check that is being put together.
#[derive(Clone, Debug)]
pub struct ResourceCheck {
    pub subject: Subject,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub fields: Option<String>,
    pub labels: Option<String>,
}

pub(super) const TABLE: &[Row] = &[
    ("path", "Authorizer.(string) PathCheck", path),
    ("group", "Authorizer.(string) GroupCheck", |a| {
        Ok(value(Foreign::GroupCheck(
            subject(a)?.clone(),
            text(a, 1)?.to_string(),
        )))
    }),
    (
        "serviceAccount",
        "Authorizer.(string,string) Authorizer",
        service_account,
    ),
    ("resource", "GroupCheck.(string) ResourceCheck", resource),
    ("subresource", "ResourceCheck.(string) ResourceCheck", |a| {
        with(a, |c, s| c.subresource = s.to_string())
    }),
    ("namespace", "ResourceCheck.(string) ResourceCheck", |a| {
        with(a, |c, s| c.namespace = s.to_string())
    }),
    ("name", "ResourceCheck.(string) ResourceCheck", |a| {
        with(a, |c, s| c.name = s.to_string())
    }),
    (
        "fieldSelector",
        "ResourceCheck.(string) ResourceCheck",
        |a| with(a, |c, s| c.fields = Some(s.to_string())),
    ),
    (
        "labelSelector",
        "ResourceCheck.(string) ResourceCheck",
        |a| with(a, |c, s| c.labels = Some(s.to_string())),
    ),
    ("check", "PathCheck.(string) AuthzDecision", check_path),
    (
        "check",
        "ResourceCheck.(string) AuthzDecision",
        check_resource,
    ),
    ("allowed", "AuthzDecision.() bool", |a| {
        Ok(verdict(a)?.allowed.into())
    }),
    ("reason", "AuthzDecision.() string", |a| {
        Ok(verdict(a)?.reason.as_str().into())
    }),
    ("errored", "AuthzDecision.() bool", |a| {
        Ok(verdict(a)?.error.is_some().into())
    }),
    ("error", "AuthzDecision.() string", |a| {
        Ok(verdict(a)?.error.as_deref().unwrap_or("").into())
    }),
];

/// The value of variable `authorizer`.
pub fn authorizer(subject: Subject) -> Value {
    value(Foreign::Authorizer(subject))
}

/// The value of variable `authorizer.requestResource`.
pub fn request_resource(check: ResourceCheck) -> Value {
    value(Foreign::ResourceCheck(Box::new(check)))
}

fn value(f: Foreign) -> Value {
    Value::Foreign(Arc::new(f))
}

fn subject(a: &[Value]) -> Result<&Subject, EvalError> {
    match foreign(a, 0)? {
        Foreign::Authorizer(s) => Ok(s),
        _ => none(),
    }
}

fn verdict(a: &[Value]) -> Result<&Verdict, EvalError> {
    match foreign(a, 0)? {
        Foreign::Decision(v) => Ok(v),
        _ => none(),
    }
}

fn path(a: &[Value]) -> Answer {
    let path = text(a, 1)?;
    if path.trim().is_empty() {
        return fail("path must not be empty");
    }
    Ok(value(Foreign::PathCheck(
        subject(a)?.clone(),
        path.to_string(),
    )))
}

fn service_account(a: &[Value]) -> Answer {
    let (namespace, name) = (text(a, 1)?, text(a, 2)?);
    if !api::names::subdomain_name(name, false).is_empty() {
        return fail("Invalid service account name");
    }
    if !api::names::label_name(namespace, false).is_empty() {
        return fail("Invalid service account namespace");
    }
    let all = format!("system:serviceaccounts:{namespace}");
    let user = User::new(
        &format!("system:serviceaccount:{namespace}:{name}"),
        &["system:serviceaccounts", &all],
    );
    let checks = subject(a)?.checks.clone();
    Ok(authorizer(Subject { user, checks }))
}

fn resource(a: &[Value]) -> Answer {
    let Foreign::GroupCheck(subject, group) = foreign(a, 0)? else {
        return none();
    };
    let resource = text(a, 1)?;
    if resource.trim().is_empty() {
        return fail("resource must not be empty");
    }
    Ok(request_resource(ResourceCheck {
        subject: subject.clone(),
        group: group.clone(),
        resource: resource.to_string(),
        subresource: String::new(),
        namespace: String::new(),
        name: String::new(),
        fields: None,
        labels: None,
    }))
}

fn with(a: &[Value], set: fn(&mut ResourceCheck, &str)) -> Answer {
    let Foreign::ResourceCheck(check) = foreign(a, 0)? else {
        return none();
    };
    let mut check = check.as_ref().clone();
    set(&mut check, text(a, 1)?);
    Ok(request_resource(check))
}

fn check_path(a: &[Value]) -> Answer {
    let Foreign::PathCheck(subject, path) = foreign(a, 0)? else {
        return none();
    };
    let attributes = Attributes {
        user: subject.user.clone(),
        verb: text(a, 1)?.to_string(),
        path: path.clone(),
        ..Attributes::default()
    };
    Ok(value(Foreign::Decision(subject.checks.check(&attributes))))
}

fn check_resource(a: &[Value]) -> Answer {
    let Foreign::ResourceCheck(check) = foreign(a, 0)? else {
        return none();
    };
    let attributes = Attributes {
        user: check.subject.user.clone(),
        verb: text(a, 1)?.to_string(),
        group: check.group.clone(),
        version: "*".to_string(),
        resource: check.resource.clone(),
        subresource: check.subresource.clone(),
        namespace: check.namespace.clone(),
        name: check.name.clone(),
        is_resource: true,
        field_selector: check.fields.clone(),
        label_selector: check.labels.clone(),
        ..Attributes::default()
    };
    Ok(value(Foreign::Decision(
        check.subject.checks.check(&attributes),
    )))
}

/// Threads that wait for authorizers that ask others. Requests beyond them are told so: a webhook that hangs must not
/// take all threads there are.
static WAITING: Semaphore = Semaphore::const_new(limits::WAITING_CHECKS);

/// The decision of an authorizer that asks others, where this thread may wait for it.
fn waited(decision: impl Future<Output = Decision>) -> Result<Decision, &'static str> {
    use tokio::runtime::{Handle, RuntimeFlavor};
    let at_once = "does not answer at once";
    let handle = Handle::try_current().map_err(|_| at_once)?;
    if handle.runtime_flavor() != RuntimeFlavor::MultiThread {
        return Err(at_once);
    }
    let too_many = "is being waited for by too many already";
    let _one = WAITING.try_acquire().map_err(|_| too_many)?;
    Ok(tokio::task::block_in_place(|| handle.block_on(decision)))
}

/// Checks by an authorizer. Those that read the shared caches answer at once; for webhooks the thread waits.
pub struct Immediate(pub Arc<dyn Authorizer>);

impl Checks for Immediate {
    fn check(&self, a: &Attributes) -> Verdict {
        let mut asked = self.0.authorize(a);
        let decision = match (&mut asked).now_or_never() {
            Some(decision) => Ok(decision),
            None => waited(asked),
        };
        match decision {
            Ok(Decision::Allow(reason)) => Verdict {
                allowed: true,
                reason,
                error: None,
            },
            Ok(Decision::Deny(reason) | Decision::NoOpinion(reason)) => Verdict {
                reason,
                ..Verdict::default()
            },
            Ok(Decision::Failed { reason, error, .. }) => Verdict {
                reason,
                error: Some(error),
                ..Verdict::default()
            },
            Err(why) => Verdict {
                error: Some(format!("authorizer {} {why}", self.0.name())),
                ..Verdict::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;

    /// Answers when somebody else has had a turn.
    struct Elsewhere;

    #[async_trait]
    impl Authorizer for Elsewhere {
        fn name(&self) -> &'static str {
            "elsewhere"
        }

        async fn authorize(&self, _: &Attributes) -> Decision {
            tokio::task::yield_now().await;
            Decision::Allow("asked".into())
        }

        async fn rules(
            &self,
            _: &User,
            _: &str,
        ) -> (Vec<serde_json::Value>, Vec<serde_json::Value>, bool) {
            Default::default()
        }
    }

    #[test]
    fn a_thread_waits_for_those_that_ask_others_but_not_too_many_do() {
        let check = || Immediate(Arc::new(Elsewhere)).check(&Attributes::default());
        let why = |v: Verdict| v.error.unwrap_or_default();
        assert!(why(check()).contains("does not answer at once"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let checked = tokio::spawn(async move { check() }).await.unwrap();
            assert_eq!((checked.allowed, &*checked.reason), (true, "asked"));
            let all = u32::try_from(limits::WAITING_CHECKS).unwrap();
            let taken = WAITING.try_acquire_many(all).unwrap();
            let refused = tokio::spawn(async move { check() }).await.unwrap();
            drop(taken);
            assert!(why(refused).contains("too many"));
        });
    }
}
