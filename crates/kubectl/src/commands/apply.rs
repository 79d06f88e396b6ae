//! `kubectl apply`: three-way by the client, or `--server-side`. Upstream: kubectl/pkg/cmd/apply.

mod last_applied;

use api::schema::{self, Schema};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Command, Run};
use crate::builder::{Files, Info};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::limits;
use crate::object;
use crate::output::{DryRun, Output};
use crate::rest::Call;
use crate::three_way::{self, LAST_APPLIED};

pub const COMMAND: Command = Command::of::<Flags>(
    "apply",
    &[],
    "Apply a configuration to a resource by file name or stdin",
);

/// Flags of `apply`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: Output,
    /// If true, apply runs in the server instead of the client
    #[arg(long)]
    server_side: bool,
    /// If true, server-side apply will force the changes against conflicts
    #[arg(long)]
    force_conflicts: bool,
    /// Name of the manager used to track field ownership
    #[arg(long)]
    field_manager: Option<String>,
    /// strict (or true), warn, ignore (or false)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true")]
    validate: String,
    /// Automatically resolve conflicts between the modified and live configuration
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", action = clap::ArgAction::Set)]
    overwrite: bool,
    /// If true, immediately remove resources from API and bypass graceful deletion
    #[arg(long)]
    force: bool,
    /// Automatically delete resource objects that do not appear in the configs
    #[arg(long)]
    prune: bool,
    /// Only apply objects with these labels
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
    /// If true, wait for resources to be gone before returning
    #[arg(long)]
    wait: bool,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// View the latest last-applied-configuration annotations of a resource/object
    ViewLastApplied(last_applied::View),
    /// Set the last-applied-configuration annotation on a live object to match the contents of a file
    SetLastApplied(last_applied::Set),
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        match self.what {
            Some(What::ViewLastApplied(f)) => return f.run(&cx).await,
            Some(What::SetLastApplied(f)) => return f.run(&cx).await,
            None => {}
        }
        if self.files.is_empty() {
            return Err(Error::text("must specify one of -f and -k"));
        }
        for (set, name) in [(self.prune, "--prune"), (self.force, "--force")] {
            if set {
                return Err(Error::text(format!(
                    "apply {name} is not there yet in this version"
                )));
            }
        }
        if self.force_conflicts && !self.server_side {
            return Err(Error::text(
                "--force-conflicts only works with --server-side",
            ));
        }
        let selector = api::selector::LabelSelector::parse(&self.selector).map_err(Error::text)?;
        let (infos, mut errors) = self.files.infos(&cx).await?;
        for info in infos {
            let labels = &info.object["metadata"]["labels"];
            if !selector.matches(|k| labels[k].as_str()) {
                continue;
            }
            let result = if self.server_side {
                self.by_server(&cx, &info).await
            } else {
                self.by_client(&cx, info).await
            };
            errors.extend(result.err());
        }
        Error::collect(errors)
    }
}

/// The value of `fieldValidation` for `--validate`.
pub fn field_validation(validate: &str) -> Result<&'static str> {
    match validate {
        "true" | "strict" => Ok("Strict"),
        "warn" => Ok("Warn"),
        "false" | "ignore" => Ok("Ignore"),
        other => Err(Error::text(format!(
            "invalid - validate option \"{other}\"; must be one of: strict (or true), warn, ignore (or false)"
        ))),
    }
}

// === Flags ===

impl Flags {
    fn call(&self, call: Call, manager: &str) -> Result<Call> {
        let manager = self.field_manager.as_deref().unwrap_or(manager);
        let call = call
            .query("fieldManager", manager)
            .query("fieldValidation", field_validation(&self.validate)?);
        Ok(match self.output.dry_run()? {
            DryRun::Server => call.query("dryRun", "All"),
            _ => call,
        })
    }

    async fn by_server(&self, cx: &Context, info: &Info) -> Result<()> {
        let body = info.object.to_string().into_bytes();
        let call = Call::new("PATCH", info.path()).body("application/apply-patch+yaml", body);
        let call = self
            .call(call, "kubectl")?
            .query("force", self.force_conflicts.to_string());
        if self.output.dry_run()? == DryRun::Client {
            return Err(Error::text(
                "--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)",
            ));
        }
        let done = cx.rest().await?.json(&call).await.map_err(|e| match e {
            e if e.is_conflict() => Error::text(format!(
                "Apply failed with {}\nPlease review the fields above--they currently have other managers. Here\nare the ways you can resolve this warning:\n* If you intend to manage all of these fields, please re-run the apply\n  command with the `--force-conflicts` flag.\n* If you do not intend to manage all of the fields, please edit your\n  manifest to remove references to the fields that should keep their\n  current managers.\n* You may co-own fields by updating your manifest to match the existing\n  value; in this case, you'll become the manager if the other manager(s)\n  stop managing the field (remove it from their configuration).\nSee https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts",
                conflict_text(&e)
            )),
            e => e.when("applying patch for", &info.source),
        })?;
        self.output.print(info, &done, "serverside-applied")
    }

    async fn by_client(&self, cx: &Context, mut info: Info) -> Result<()> {
        if info.name.is_empty() {
            return Err(Error::text(format!(
                "from {}: cannot use generate name with apply",
                info.source
            )));
        }
        let source = info.source.clone();
        three_way::annotate(&mut info.object);
        let current = match info.read(cx).await {
            Ok(v) => v,
            Err(e) if e.is_not_found() => return self.create(cx, &info).await,
            Err(e) => {
                return Err(Error::text(format!(
                    "error when retrieving current configuration of:\n{}\nfrom server for: \"{source}\": {e}",
                    info.display()
                )));
            }
        };
        if current["metadata"]["annotations"][LAST_APPLIED].is_null() {
            eprintln!(
                "Warning: resource {}/{} is missing the {LAST_APPLIED} annotation which is required by kubectl apply. kubectl apply should only be used on resources created declaratively by either kubectl create --save-config or kubectl apply. The missing annotation will be patched automatically.",
                info.resource.plural, info.name
            );
        }
        self.patch(cx, &info, current)
            .await
            .map_err(|e| e.when("applying patch for", &source))
    }

    async fn create(&self, cx: &Context, info: &Info) -> Result<()> {
        if self.output.dry_run()? == DryRun::Client {
            return self.output.print(info, &info.object, "created");
        }
        let path = info.resource.path(info.namespace.as_deref());
        let call = self.call(
            Call::new("POST", path).json(&info.object),
            "kubectl-client-side-apply",
        )?;
        let done = cx
            .rest()
            .await?
            .json(&call)
            .await
            .map_err(|e| e.when("creating", &info.source))?;
        self.output.print(info, &done, "created")
    }

    async fn patch(&self, cx: &Context, info: &Info, mut current: Value) -> Result<()> {
        let r = &info.resource;
        let built_in = schema::lookup(&r.group, &r.version, &r.kind);
        let media = match built_in {
            Some(_) => "application/strategic-merge-patch+json",
            None => "application/merge-patch+json",
        };
        for attempt in 0.. {
            let original = three_way::last_applied(&current).unwrap_or(json!({}));
            let patch = three_way::patch(
                &original,
                &info.object,
                &current,
                built_in.unwrap_or(Schema::any()),
            );
            if patch == json!({}) {
                return self.output.print(info, &current, "unchanged");
            }
            if self.output.dry_run()? == DryRun::Client {
                return self.output.print(info, &info.object, "configured");
            }
            let call = Call::new("PATCH", info.path()).body(media, patch.to_string().into_bytes());
            let call = self.call(call, "kubectl-client-side-apply")?;
            match cx.rest().await?.json(&call).await {
                Ok(done) => {
                    let version =
                        |v: &Value| object::text(v, "/metadata/resourceVersion").to_string();
                    let deed = if version(&done) == version(&current) {
                        "unchanged"
                    } else {
                        "configured"
                    };
                    return self.output.print(info, &done, deed);
                }
                Err(e) if e.is_conflict() && attempt < limits::CONFLICT_RETRIES => {
                    current = info.read(cx).await?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

fn conflict_text(e: &Error) -> String {
    match e {
        Error::Status { status, .. } => object::text(status, "/message")
            .trim_start_matches("Apply failed with ")
            .to_string(),
        other => other.to_string(),
    }
}
