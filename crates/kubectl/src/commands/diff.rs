//! `kubectl diff`: what `apply` would change, as the unified difference of the live object and of the one
//! that the server makes of it in a dry run. The comparison is done here: no `diff` program is run.
//! Upstream: kubectl/pkg/cmd/diff.

use api::schema::{self, Schema};
use clap::Args;
use serde_json::{Value, json};

use super::{Command, Run};
use crate::builder::{Files, Info};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::object;
use crate::rest::Call;
use crate::three_way;
use crate::unified;
use crate::yaml;

pub const COMMAND: Command = Command::of::<Flags>(
    "diff",
    &[],
    "Diff the live version against a would-be applied version",
);

/// Flags of `diff`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    files: Files,
    /// If true, apply runs in the server instead of the client
    #[arg(long)]
    server_side: bool,
    /// If true, server-side apply will force the changes against conflicts
    #[arg(long)]
    force_conflicts: bool,
    /// Name of the manager used to track field ownership
    #[arg(long, default_value = "kubectl-client-side-apply")]
    field_manager: String,
    /// If true, include managed fields in the diff
    #[arg(long)]
    show_managed_fields: bool,
    /// If true, do not mask secret values in the diff
    #[arg(long)]
    show_secrets: bool,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
    /// Accepted; objects are compared one by one
    #[arg(long, default_value_t = 1)]
    concurrency: usize,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        match self.all(&cx).await {
            Ok(false) => Ok(()),
            // One means that there are differences.
            Ok(true) => Err(Error::Exit(1)),
            Err(e) => Err(Error::Code(e.to_string(), e.exit_code().max(2))),
        }
    }
}

// === Flags ===

impl Flags {
    /// Prints all differences; whether there are any.
    async fn all(&self, cx: &Context) -> Result<bool> {
        if self.files.is_empty() {
            return Err(Error::text("must specify one of -f and -k"));
        }
        let selector = api::selector::LabelSelector::parse(&self.selector).map_err(Error::text)?;
        let (infos, errors) = self.files.infos(cx).await?;
        Error::collect(errors)?;
        let mut differ = false;
        for info in infos {
            let labels = &info.object["metadata"]["labels"];
            if !selector.matches(|k| labels[k].as_str()) {
                continue;
            }
            differ |= self.one(cx, &info).await?;
        }
        Ok(differ)
    }

    async fn one(&self, cx: &Context, info: &Info) -> Result<bool> {
        let live = match info.read(cx).await {
            Ok(live) => Some(live),
            Err(e) if e.is_not_found() => None,
            Err(e) => return Err(e),
        };
        let mut merged = self.merged(cx, info, live.as_ref()).await?;
        let mut live = live.unwrap_or(Value::Null);
        for side in [&mut live, &mut merged] {
            let meta = side.get_mut("metadata").and_then(Value::as_object_mut);
            if let (false, Some(meta)) = (self.show_managed_fields, meta) {
                meta.remove("managedFields");
            }
        }
        if info.resource.kind == "Secret" && info.resource.group.is_empty() && !self.show_secrets {
            mask(&mut live, &mut merged);
        }
        let text = |side: &Value| match side {
            Value::Null => String::new(),
            other => yaml::to_string(other),
        };
        let hunks = unified::hunks(&text(&live), &text(&merged));
        if hunks.is_empty() {
            return Ok(false);
        }
        let name = file_name(info);
        print!("diff -u -N LIVE/{name} MERGED/{name}\n--- LIVE/{name}\n+++ MERGED/{name}\n{hunks}");
        Ok(true)
    }

    /// What the object would be.
    async fn merged(&self, cx: &Context, info: &Info, live: Option<&Value>) -> Result<Value> {
        let rest = cx.rest().await?;
        let with = |call: Call| {
            call.query("dryRun", "All")
                .query("fieldManager", self.field_manager.clone())
        };
        if self.server_side {
            let body = info.object.to_string().into_bytes();
            let call = Call::new("PATCH", info.path())
                .body("application/apply-patch+yaml", body)
                .query("force", self.force_conflicts.to_string());
            return rest.json(&with(call)).await;
        }
        let Some(live) = live else {
            let path = info.resource.path(info.namespace.as_deref());
            return rest
                .json(&with(Call::new("POST", path).json(&info.object)))
                .await;
        };
        let r = &info.resource;
        let built_in = schema::lookup(&r.group, &r.version, &r.kind);
        let mut wanted = info.object.clone();
        // What was applied last stays as it is: only the object's own fields are compared.
        if wanted["metadata"]["annotations"].is_null() {
            wanted["metadata"]["annotations"] = json!({});
        }
        let original = three_way::last_applied(live).unwrap_or(json!({}));
        let patch = three_way::patch(&original, &wanted, live, built_in.unwrap_or(Schema::any()));
        if patch == json!({}) {
            return Ok(live.clone());
        }
        let media = match built_in {
            Some(_) => "application/strategic-merge-patch+json",
            None => "application/merge-patch+json",
        };
        let body = patch.to_string().into_bytes();
        let call = Call::new("PATCH", info.path()).body(media, body);
        rest.json(&with(call)).await
    }
}

/// `apps.v1.Deployment.default.web`.
fn file_name(info: &Info) -> String {
    let r = &info.resource;
    let group = match r.group.as_str() {
        "" => String::new(),
        group => format!("{group}."),
    };
    let ns = info.namespace.as_deref().unwrap_or_default();
    format!("{group}{}.{}.{ns}.{}", r.version, r.kind, info.name)
}

/// Values of secrets are not shown, only that they differ.
fn mask(live: &mut Value, merged: &mut Value) {
    let before = live["data"].clone();
    let after = merged["data"].clone();
    for (side, own, other, differs) in [
        (live, &before, &after, "*** (before)"),
        (merged, &after, &before, "*** (after)"),
    ] {
        for (key, value) in own.as_object().into_iter().flatten() {
            let changed = other[key].is_string() && other[key] != *value;
            side["data"][key] = if changed { differs } else { "***" }.into();
        }
        // What was applied last holds the values too.
        let annotations = object::text(
            side,
            "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration",
        );
        if !annotations.is_empty() {
            side["metadata"]["annotations"][three_way::LAST_APPLIED] = "***".into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked() {
        let mut live = json!({"data": {"same": "YQ==", "other": "Yg==", "gone": "Yw=="}});
        let mut merged = json!({"data": {"same": "YQ==", "other": "ZA=="}});
        mask(&mut live, &mut merged);
        assert_eq!(
            live["data"],
            json!({"same": "***", "other": "*** (before)", "gone": "***"})
        );
        assert_eq!(
            merged["data"],
            json!({"same": "***", "other": "*** (after)"})
        );
    }
}
