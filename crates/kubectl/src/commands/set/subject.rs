//! `kubectl set selector|serviceaccount|subject`: what is set on the object as a whole.

use clap::Args;
use serde_json::{Value, json};

use super::super::{Run, modify};
use super::Target;
use crate::builder::{self, Files, Narrow};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::object;
use crate::output::Output;

const MANAGER: &str = "kubectl-set";

/// Flags of `set subject`.
#[derive(Clone, Debug, Args)]
pub struct Subject {
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: Output,
    /// Usernames to bind to the role
    #[arg(long)]
    user: Vec<String>,
    /// Groups to bind to the role
    #[arg(long)]
    group: Vec<String>,
    /// Service accounts to bind to the role
    #[arg(long)]
    serviceaccount: Vec<String>,
}

impl Run for Subject {
    async fn run(self, mut cx: Context) -> Result<()> {
        // Its `--user` is a subject, not the one who asks.
        cx.globals.user = None;
        let subjects = self.subjects(&cx)?;
        let (infos, errors) =
            builder::existing(&cx, &self.words, &self.files, &Narrow::default()).await?;
        Error::collect(errors)?;
        let deeds = ("subjects updated", "subjects unchanged");
        modify::each(&cx, infos, MANAGER, &self.output, deeds, |info, o| {
            if !info.resource.kind.ends_with("RoleBinding") {
                return Err(Error::text(
                    "setting subjects is only supported for RoleBinding/ClusterRoleBinding",
                ));
            }
            let mut all = object::items(o, "/subjects").to_vec();
            for new in &subjects {
                if !all.contains(new) {
                    all.push(new.clone());
                }
            }
            o["subjects"] = all.into();
            Ok(())
        })
        .await
    }
}

impl Subject {
    fn subjects(&self, cx: &Context) -> Result<Vec<Value>> {
        let named = |kind: &str, name: &String| json!({"kind": kind, "apiGroup": "rbac.authorization.k8s.io", "name": name});
        let mut all: Vec<Value> = self.user.iter().map(|n| named("User", n)).collect();
        all.extend(self.group.iter().map(|n| named("Group", n)));
        for account in &self.serviceaccount {
            let (ns, name) = match account.split_once(':') {
                Some((ns, name)) => (ns.to_string(), name),
                None => (cx.namespace()?, account.as_str()),
            };
            all.push(json!({"kind": "ServiceAccount", "name": name, "namespace": ns}));
        }
        if all.is_empty() {
            return Err(Error::text(
                "you must specify at least one value of user, group or serviceaccount",
            ));
        }
        Ok(all)
    }
}

async fn infos(cx: &Context, t: &Target) -> Result<Vec<crate::builder::Info>> {
    let narrow = Narrow {
        labels: t.selector.clone(),
        all: t.all,
        ..Narrow::default()
    };
    let (infos, errors) = builder::existing(cx, &t.words, &t.files, &narrow).await?;
    Error::collect(errors)?;
    Ok(infos)
}

/// `set selector`: the last word is the new selector.
pub async fn selector(cx: &Context, t: Target) -> Result<()> {
    let (changes, t) = t.split();
    if changes.is_empty() {
        return Err(Error::text("a selector is required"));
    }
    let mut labels = json!({});
    for pair in changes.iter().flat_map(|c| c.split(',')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        labels[key] = value.into();
    }
    let infos = infos(cx, &t).await?;
    let deeds = ("selector updated", "selector unchanged");
    modify::each(cx, infos, MANAGER, &t.output, deeds, |info, o| {
        if info.resource.kind != "Service" {
            return Err(Error::text(
                "setting a selector is only supported for Services",
            ));
        }
        o["spec"]["selector"] = labels.clone();
        Ok(())
    })
    .await
}

/// `set serviceaccount`: the last word is the account.
pub async fn service_account(cx: &Context, mut t: Target) -> Result<()> {
    let account = t
        .words
        .pop()
        .ok_or_else(|| Error::text("serviceaccount is required"))?;
    let infos = infos(cx, &t).await?;
    let deeds = ("serviceaccount updated", "serviceaccount unchanged");
    modify::each(cx, infos, MANAGER, &t.output, deeds, |info, o| {
        let spec = object::pod_spec_pointer(&info.resource.kind);
        let spec = spec
            .and_then(|p| o.pointer_mut(p))
            .ok_or_else(|| Error::text(format!("{} has no pod template", info.display())))?;
        spec["serviceAccountName"] = json!(account);
        Ok(())
    })
    .await
}
