//! `kubectl replace`.

use clap::Args;
use serde_json::json;

use super::apply::field_validation;
use super::{Command, Run, delete};
use crate::builder::Files;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::object;
use crate::output::{DryRun, Output};
use crate::rest::Call;

pub const COMMAND: Command =
    Command::of::<Flags>("replace", &[], "Replace a resource by file name or stdin");

/// Flags of `replace`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: Output,
    /// If true, delete and create anew
    #[arg(long)]
    force: bool,
    /// Period of time in seconds given to the resource to terminate gracefully
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    grace_period: i64,
    /// strict (or true), warn, ignore (or false)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true")]
    validate: String,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        if self.files.is_empty() {
            return Err(Error::text("must specify one of -f and -k"));
        }
        let (infos, mut errors) = self.files.infos(&cx).await?;
        let rest = cx.rest().await?;
        for info in infos {
            let done = async {
                let mut call = Call::new("PUT", info.path());
                if self.force {
                    let mut options = json!({"propagationPolicy": "Background"});
                    if self.grace_period >= 0 {
                        options["gracePeriodSeconds"] = self.grace_period.into();
                    }
                    let gone = rest
                        .json(&Call::new("DELETE", info.path()).json(&options))
                        .await;
                    match gone {
                        Ok(v) => {
                            let place = match &info.namespace {
                                Some(ns) => format!(" from {ns} namespace"),
                                None => String::new(),
                            };
                            println!(
                                "{} \"{}\" deleted{place}",
                                info.resource.singular_name(),
                                info.name
                            );
                            let uid = object::text(&v, "/metadata/uid");
                            delete::gone(&cx, &info, uid).await?;
                        }
                        Err(e) if e.is_not_found() => {}
                        Err(e) => return Err(e),
                    }
                    call = Call::new("POST", info.resource.path(info.namespace.as_deref()));
                }
                let mut call = call
                    .json(&info.object)
                    .query("fieldManager", "kubectl-replace")
                    .query("fieldValidation", field_validation(&self.validate)?);
                if self.output.dry_run()? != DryRun::No {
                    call = call.query("dryRun", "All");
                }
                let object = rest.json(&call).await?;
                self.output.print(&info, &object, "replaced")
            };
            errors.extend(done.await.err().map(|e| e.when("replacing", &info.source)));
        }
        Error::collect(errors)
    }
}
