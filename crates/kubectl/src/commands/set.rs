//! `kubectl set image|env|resources|selector|serviceaccount|subject`.

mod subject;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Command, Run, modify};
use crate::builder::{self, Files, Info, Narrow};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::object;
use crate::output::Output;

pub const COMMAND: Command = Command::of::<Flags>("set", &[], "Set specific features on objects");

/// Flags of `set`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Update the image of a pod template
    Image(Target),
    /// Update environment variables on a pod template
    Env(Target),
    /// Update resource requests/limits on objects with pod templates
    Resources(Target),
    /// Set the selector on a resource
    Selector(Target),
    /// Update the service account of a resource
    #[command(visible_alias = "sa")]
    Serviceaccount(Target),
    /// Update the user, group, or service account in a role binding or cluster role binding
    Subject(subject::Subject),
}

#[derive(Clone, Debug, Args)]
struct Target {
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: Output,
    /// Select all resources, in the namespace of the specified resource types
    #[arg(long)]
    all: bool,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
    /// The names of containers to change, * for all
    #[arg(short, long, visible_alias = "containers", default_value = "*")]
    container: String,
    /// The resource requirement requests, e.g. 'cpu=100m,memory=256Mi'
    #[arg(long)]
    requests: Option<String>,
    /// The resource requirement limits
    #[arg(long)]
    limits: Option<String>,
    /// If true, display the environment and any changes in the standard format
    #[arg(long)]
    list: bool,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        match self.what {
            What::Image(t) => {
                let (changes, t) = t.split();
                let (set, _) = modify::pairs(&changes, "image")?;
                t.each(
                    &cx,
                    "image updated",
                    |c, all| {
                        for (name, image) in &set {
                            if name == "*" || c["name"] == *name {
                                c["image"] = image.clone().into();
                                all.push(name.clone());
                            }
                        }
                    },
                    &set,
                )
                .await
            }
            What::Env(t) if t.list => t.list_env(&cx).await,
            What::Selector(t) => subject::selector(&cx, t).await,
            What::Serviceaccount(t) => subject::service_account(&cx, t).await,
            What::Subject(s) => s.run(cx).await,
            What::Env(t) => {
                let (changes, t) = t.split();
                let (set, removed) = modify::pairs(&changes, "environment variable")?;
                t.each(&cx, "env updated", |c, _| env(c, &set, &removed), &[])
                    .await
            }
            What::Resources(t) => {
                let (requests, limits) = (
                    amounts(t.requests.as_deref())?,
                    amounts(t.limits.as_deref())?,
                );
                if requests.is_empty() && limits.is_empty() {
                    return Err(Error::text(
                        "you must specify an update to requests or limits (in the form of --requests/--limits)",
                    ));
                }
                t.each(
                    &cx,
                    "resource requirements updated",
                    |c, _| {
                        for (all, field) in [(&requests, "requests"), (&limits, "limits")] {
                            for (name, amount) in all {
                                c["resources"][field][name] = amount.clone().into();
                            }
                        }
                    },
                    &[],
                )
                .await
            }
        }
    }
}

fn amounts(text: Option<&str>) -> Result<Vec<(String, String)>> {
    let parts: Vec<String> = text
        .into_iter()
        .flat_map(|t| t.split(','))
        .map(ToString::to_string)
        .collect();
    modify::pairs(&parts, "resource").map(|(set, _)| set)
}

fn env(container: &mut Value, set: &[(String, String)], removed: &[String]) {
    let mut all = object::items(container, "/env").to_vec();
    for (name, value) in set {
        let new = json!({"name": name, "value": value});
        match all.iter_mut().find(|e| e["name"] == *name) {
            Some(old) => *old = new,
            None => all.push(new),
        }
    }
    all.retain(|e| !removed.iter().any(|r| e["name"] == *r));
    container["env"] = all.into();
}

/// A variable of a container, or where it comes from.
fn env_line(e: &Value) -> String {
    let name = object::text(e, "/name");
    let from = &e["valueFrom"];
    for (field, kind) in [("configMapKeyRef", "configmap"), ("secretKeyRef", "secret")] {
        if from[field].is_object() {
            let (of, key) = (
                object::text(&from[field], "/name"),
                object::text(&from[field], "/key"),
            );
            return format!("# {name} from {kind} {of}, key {key}");
        }
    }
    for (field, path) in [
        ("fieldRef", "/fieldPath"),
        ("resourceFieldRef", "/resource"),
    ] {
        if from[field].is_object() {
            let path = object::text(&from[field], path);
            return match field {
                "fieldRef" => format!("# {name} from field path {path}"),
                _ => format!("# {name} from resource field {path}"),
            };
        }
    }
    format!("{name}={}", object::text(e, "/value"))
}

// === Target ===

impl Target {
    /// The changes among the words, and the rest.
    fn split(mut self) -> (Vec<String>, Self) {
        let change = |w: &String| w.contains('=') || (w.ends_with('-') && !w.contains('/'));
        let (changes, words) = self.words.into_iter().partition(change);
        self.words = words;
        (changes, self)
    }

    async fn each(
        self,
        cx: &Context,
        deed: &str,
        change: impl Fn(&mut Value, &mut Vec<String>),
        named: &[(String, String)],
    ) -> Result<()> {
        let narrow = Narrow {
            labels: self.selector.clone(),
            all: self.all,
            ..Narrow::default()
        };
        let (infos, errors) = builder::existing(cx, &self.words, &self.files, &narrow).await?;
        Error::collect(errors)?;
        for info in infos {
            let mut after = info.object.clone();
            let found = self.change(&info, &mut after, &change)?;
            if let Some((missing, _)) = named.iter().find(|(n, _)| !found.contains(n)) {
                return Err(Error::text(format!(
                    "unable to find container named \"{missing}\""
                )));
            }
            let (done, changed) =
                modify::send(cx, &info, &after, "kubectl-set", self.output.dry_run()?).await?;
            if changed {
                self.output.print(&info, &done, deed)?;
            }
        }
        Ok(())
    }

    /// Prints the environment of every container.
    async fn list_env(self, cx: &Context) -> Result<()> {
        let narrow = Narrow {
            labels: self.selector.clone(),
            all: self.all,
            ..Narrow::default()
        };
        let (infos, errors) = builder::existing(cx, &self.words, &self.files, &narrow).await?;
        Error::collect(errors)?;
        for info in infos {
            let Some(spec) = object::pod_spec_pointer(&info.resource.kind) else {
                continue;
            };
            for list in ["initContainers", "containers"] {
                for c in object::items(&info.object, &format!("{spec}/{list}")) {
                    let (kind, name) = (&info.resource.kind, object::text(c, "/name"));
                    println!("# {kind} {}, container {name}", info.name);
                    object::items(c, "/env")
                        .iter()
                        .for_each(|e| println!("{}", env_line(e)));
                }
            }
        }
        Ok(())
    }

    fn change(
        &self,
        info: &Info,
        after: &mut Value,
        change: impl Fn(&mut Value, &mut Vec<String>),
    ) -> Result<Vec<String>> {
        let spec = object::pod_spec_pointer(&info.resource.kind).ok_or_else(|| {
            Error::text(format!(
                "{} is not a pod or does not have a pod template",
                info.display()
            ))
        })?;
        let mut found = Vec::new();
        for list in ["initContainers", "containers"] {
            let all = after
                .pointer_mut(&format!("{spec}/{list}"))
                .and_then(Value::as_array_mut);
            for c in all.into_iter().flatten() {
                if self.container == "*" || self.container.split(',').any(|n| c["name"] == n) {
                    change(c, &mut found);
                }
            }
        }
        Ok(found)
    }
}
