//! Upstream's generic resource exerciser: every verb and every kind of patch on a resource and its status,
//! watched by informers whose events must fit each step.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::Method;
use serde_json::{Value, json};

use crate::operations::{contains, merge};
use crate::rest::{Cx, FOREVER, Watch, labelled, version};

/// How long the events of a step may take.
const EVENTS: Duration = Duration::from_secs(5);
const LABEL: &str = "e2e-test.kubernetes.io";
const PATCHES: [&str; 4] = ["strategic-merge", "apply", "merge", "json"];

/// A resource and what is done to it.
pub struct Exercise {
    /// Group and version.
    pub group: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
    pub name: String,
    /// Without kind, name and label.
    pub object: Value,
    /// What update and patches change.
    pub update: Value,
    /// The same change as a JSON patch.
    pub json_patch: Value,
    /// What is written to the status, where there is one.
    pub status: Option<Value>,
    /// The same as a JSON patch.
    pub status_json_patch: Value,
}

/// What events a step may cause.
#[derive(Clone, Copy, Debug)]
enum Step {
    Create,
    Read,
    Update,
    Patch,
    Delete,
}

/// An informer: what it saw last, and the events since the last step.
struct Informer {
    watch: Watch,
    last: u64,
    there: bool,
}

// === Step ===

impl Step {
    /// Do these events fit?
    fn fits(self, events: &[String]) -> bool {
        let all = |events: &[String], kind: &str| events.iter().all(|e| e == kind);
        let (first, rest) = match events.split_first() {
            Some((first, rest)) => (first.as_str(), rest),
            None => ("", events),
        };
        match self {
            Self::Create => first == "ADDED" && all(rest, "MODIFIED"),
            Self::Read => all(events, "MODIFIED"),
            Self::Update => !events.is_empty() && all(events, "MODIFIED"),
            Self::Patch => first == "ADDED" && !rest.is_empty() && all(rest, "MODIFIED"),
            Self::Delete => events
                .split_last()
                .is_some_and(|(last, before)| last == "DELETED" && all(before, "MODIFIED")),
        }
    }
}

// === Informer ===

impl Informer {
    /// Lists, which must find nothing, and watches from there.
    async fn start(cx: &Cx, path: &str, selector: &str) -> Result<Self> {
        let list = cx.get(&format!("{path}?{selector}")).await?;
        ensure!(
            list["items"].as_array().is_some_and(Vec::is_empty),
            "{list}"
        );
        let last = version(&list)?;
        let query = format!("{selector}&resourceVersion={last}");
        let watch = cx.watch(path, &query).await?;
        Ok(Self {
            watch,
            last,
            there: false,
        })
    }

    /// Reads events until they fit the step and the newest is the object's.
    async fn follow(&mut self, step: Step, object: &Value) -> Result<()> {
        let wanted = version(object)?;
        let deletes = matches!(step, Step::Delete);
        let mut events = Vec::new();
        loop {
            let caught_up = match deletes {
                true => !self.there,
                false => self.there && self.last >= wanted,
            };
            if caught_up && step.fits(&events) {
                return Ok(());
            }
            let next = self.watch.next(EVENTS).await;
            let (kind, seen) = next.with_context(|| format!("{step:?}: only {events:?}"))?;
            let same = ["name", "uid"]
                .iter()
                .all(|f| seen["metadata"][f] == object["metadata"][f]);
            ensure!(same, "{step:?}: {kind} of another object: {seen}");
            let now = version(&seen)?;
            ensure!(now >= self.last, "{step:?}: {now} after {}", self.last);
            self.last = now;
            self.there = kind != "DELETED";
            events.push(kind);
        }
    }
}

// === Exercise ===

impl Exercise {
    /// Runs all steps.
    pub async fn run(mut self, cx: &Cx) -> Result<()> {
        self.object["apiVersion"] = json!(self.group);
        self.object["kind"] = json!(self.kind);
        self.object["metadata"]["name"] = json!(self.name);
        self.object["metadata"]["labels"][LABEL] = json!(cx.namespace);
        let selector = labelled(&format!("{LABEL}={}", cx.namespace));
        let everywhere = format!("/apis/{}/{}", self.group, self.plural);
        let all = match self.namespaced {
            true => cx.group(self.group, self.plural),
            false => everywhere.clone(),
        };
        let path = format!("{all}/{}", self.name);
        cx.clean(&path);
        let list = cx.get(&format!("/apis/{}", self.group)).await?;
        let listed = list["resources"].as_array();
        ensure!(
            listed.is_some_and(|r| r.iter().any(|r| r["name"] == self.plural)),
            "{list}"
        );
        let mut informers = vec![Informer::start(cx, &everywhere, &selector).await?];
        if self.namespaced {
            informers.push(Informer::start(cx, &all, &selector).await?);
        }
        let run = Run {
            e: &self,
            cx,
            all: &all,
            path: &path,
        };
        run.plain(&mut informers).await?;
        for patch in PATCHES {
            run.patched(&mut informers, patch)
                .await
                .with_context(|| format!("{patch} patch"))?;
        }
        if self.status.is_some() {
            for patch in PATCHES {
                run.status_patched(&mut informers, patch)
                    .await
                    .with_context(|| format!("{patch} patch of the status"))?;
            }
        }
        run.collection(&mut informers, &everywhere, &selector).await
    }
}

/// An exercise while it runs.
struct Run<'a> {
    e: &'a Exercise,
    cx: &'a Cx,
    all: &'a str,
    path: &'a str,
}

impl Run<'_> {
    async fn follow(&self, to: &mut [Informer], step: Step, object: &Value) -> Result<()> {
        ensure!(object["metadata"]["name"] == self.e.name, "{object}");
        for informer in to {
            informer.follow(step, object).await?;
        }
        Ok(())
    }

    async fn create(&self) -> Result<Value> {
        let path = format!("{}?fieldValidation=Strict", self.all);
        self.cx.ok(Method::POST, &path, &self.e.object).await
    }

    /// Create, get, update, and the same for the status.
    async fn plain(&self, to: &mut [Informer]) -> Result<()> {
        let made = self.create().await.context("create")?;
        self.follow(to, Step::Create, &made).await?;
        let found = self.cx.get(self.path).await?;
        ensure!(contains(&found, &self.e.object), "{found}");
        self.follow(to, Step::Read, &found).await?;
        let updated = self.update().await.context("update")?;
        ensure!(version(&updated)? > version(&found)?, "{updated}");
        self.follow(to, Step::Update, &updated).await?;
        let Some(status) = &self.e.status else {
            return Ok(());
        };
        let path = format!("{}/status", self.path);
        let written = self.cx.update(&path, |o| merge(&mut o["status"], status));
        let written = written.await.context("update of the status")?;
        ensure!(contains(&written["status"], status), "{written}");
        self.follow(to, Step::Update, &written).await?;
        let found = self.cx.get(&path).await?;
        ensure!(contains(&found["status"], status), "{found}");
        self.follow(to, Step::Read, &found).await
    }

    async fn update(&self) -> Result<Value> {
        let updated = self.cx.update(self.path, |o| merge(o, &self.e.update));
        let updated = updated.await?;
        ensure!(contains(&updated, &self.e.update), "{updated}");
        Ok(updated)
    }

    /// Deletes the object and waits until it is gone.
    async fn anew(&self, to: &mut [Informer]) -> Result<Value> {
        let before = self.cx.get(self.path).await?;
        self.cx.delete(self.path).await?;
        self.cx.gone(self.path, FOREVER).await?;
        self.follow(to, Step::Delete, &before).await?;
        self.create().await
    }

    async fn patched(&self, to: &mut [Informer], patch: &str) -> Result<()> {
        let made = self.anew(to).await?;
        let body = self.body(&made, patch, self.e.update.clone(), &self.e.json_patch);
        let patched = self.patch(self.path, patch, &body).await?;
        ensure!(contains(&patched, &self.e.update), "{patched}");
        self.follow(to, Step::Patch, &patched).await
    }

    async fn status_patched(&self, to: &mut [Informer], patch: &str) -> Result<()> {
        let made = self.anew(to).await?;
        self.update().await?;
        let status = self.e.status.clone().unwrap_or_default();
        let change = json!({"status": status});
        let body = self.body(&made, patch, change, &self.e.status_json_patch);
        let path = format!("{}/status", self.path);
        let patched = self.patch(&path, patch, &body).await?;
        ensure!(contains(&patched["status"], &status), "{patched}");
        self.follow(to, Step::Patch, &patched).await
    }

    /// The body of a patch; all but JSON patch say which object is meant.
    fn body(&self, made: &Value, patch: &str, mut change: Value, json_patch: &Value) -> Value {
        if patch == "json" {
            return json_patch.clone();
        }
        change["apiVersion"] = json!(self.e.group);
        change["kind"] = json!(self.e.kind);
        change["metadata"]["name"] = json!(self.e.name);
        change["metadata"]["uid"] = made["metadata"]["uid"].clone();
        if self.e.namespaced {
            change["metadata"]["namespace"] = json!(self.cx.namespace);
        }
        change
    }

    async fn patch(&self, path: &str, patch: &str, body: &Value) -> Result<Value> {
        let (content, query) = match patch {
            "apply" => (
                "application/apply-patch+yaml".to_string(),
                "&fieldManager=test-apply&force=true",
            ),
            other => (format!("application/{other}-patch+json"), ""),
        };
        let path = format!("{path}?fieldValidation=Strict{query}");
        let answer = self.cx.send(Method::PATCH, &path, &content, Some(body));
        match answer.await? {
            Ok(found) => Ok(found),
            Err(f) => bail!("PATCH {path} with {body}: {f:?}"),
        }
    }

    async fn collection(
        &self,
        to: &mut [Informer],
        everywhere: &str,
        selector: &str,
    ) -> Result<()> {
        let mut paths = vec![everywhere];
        if self.e.namespaced {
            paths.push(self.all);
        }
        for path in paths {
            let found = self.cx.items(&format!("{path}?{selector}")).await?;
            ensure!(found.len() == 1, "{path}: {found:?}");
        }
        let before = self.cx.get(self.path).await?;
        self.cx.delete(&format!("{}?{selector}", self.all)).await?;
        self.cx.gone(self.path, FOREVER).await?;
        self.follow(to, Step::Delete, &before).await
    }
}
