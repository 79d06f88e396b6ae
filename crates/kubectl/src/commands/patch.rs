//! `kubectl patch`.

use clap::Args;
use serde_json::Value;

use super::{Command, Run};
use crate::builder::{self, Files, Narrow};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{DryRun, Output};
use crate::rest::Call;
use crate::yaml;

pub const COMMAND: Command = Command::of::<Flags>("patch", &[], "Update fields of a resource");

/// Flags of `patch`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: Output,
    /// The patch to be applied to the resource JSON file
    #[arg(short, long)]
    patch: Option<String>,
    /// A file with the patch to be applied to the resource
    #[arg(long)]
    patch_file: Option<String>,
    /// The type of patch being provided; one of [json merge strategic]
    #[arg(long = "type", default_value = "strategic")]
    kind: String,
    /// If specified, patch will operate on the subresource of the requested object
    #[arg(long)]
    subresource: Option<String>,
    /// Name of the manager used to track field ownership
    #[arg(long, default_value = "kubectl-patch")]
    field_manager: String,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let text = match (&self.patch, &self.patch_file) {
            (Some(text), None) => text.clone(),
            (None, Some(path)) => std::fs::read_to_string(path)?,
            _ => {
                return Err(Error::text(
                    "must specify --patch or --patch-file containing the contents of the patch",
                ));
            }
        };
        let media = match self.kind.as_str() {
            "json" => "application/json-patch+json",
            "merge" => "application/merge-patch+json",
            "strategic" => "application/strategic-merge-patch+json",
            _ => {
                return Err(Error::text(
                    "--type must be one of [json merge strategic], not \"".to_string()
                        + &self.kind
                        + "\"",
                ));
            }
        };
        let parsed = yaml::parse_all(&text).map_err(|e| {
            let first = e.lines().next().unwrap_or_default();
            Error::text(format!("unable to parse \"{text}\": {first}"))
        })?;
        let patch: Value = parsed.into_iter().next().unwrap_or_default();
        let (infos, mut errors) =
            builder::existing(&cx, &self.words, &self.files, &Narrow::default()).await?;
        for info in infos {
            let mut path = info.path();
            if let Some(sub) = &self.subresource {
                path = format!("{path}/{sub}");
            }
            let mut call = Call::new("PATCH", path)
                .body(media, patch.to_string().into_bytes())
                .query("fieldManager", self.field_manager.clone());
            if self.output.dry_run()? != DryRun::No {
                call = call.query("dryRun", "All");
            }
            match cx.rest().await?.json(&call).await {
                Ok(done) => {
                    let mut info = info;
                    if self.subresource.is_some() {
                        info.of_answer(&done);
                    }
                    let same = content(&done) == content(&info.object);
                    let deed = if same {
                        "patched (no change)"
                    } else {
                        "patched"
                    };
                    self.output.print_plainly(&info, &done, deed)?;
                }
                Err(e) => errors.push(e),
            }
        }
        Error::collect(errors)
    }
}

/// An object without what every write changes, even one that is not carried out.
fn content(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "resourceVersion", "generation"] {
            meta.remove(field);
        }
    }
    object
}
