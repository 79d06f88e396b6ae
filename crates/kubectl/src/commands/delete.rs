//! `kubectl delete`. Upstream: kubectl/pkg/cmd/delete/delete.go.

use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use serde_json::{Value, json};

use super::{Command, Run};
use crate::builder::{self, Files, Info, Narrow};
use crate::context::{Context, duration};
use crate::error::{Error, Result};
use crate::object;
use crate::output::{DryRun, Output};
use crate::rest::Call;

pub const COMMAND: Command = Command::of::<Flags>(
    "delete",
    &[],
    "Delete resources by file names, stdin, resources and names, or by resources and label selector",
);

/// Flags of `delete`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    resources: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: Output,
    /// Delete all resources, in the namespace of the specified resource types
    #[arg(long)]
    all: bool,
    /// If present, list the requested object(s) across all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
    /// Selector (field query) to filter on
    #[arg(long, default_value = "", hide_default_value = true)]
    field_selector: String,
    /// Must be "background", "orphan", or "foreground"
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "background", default_value = "background")]
    cascade: String,
    /// If true, immediately remove resources from API and bypass graceful deletion
    #[arg(long)]
    force: bool,
    /// Period of time in seconds given to the resource to terminate gracefully
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    grace_period: i64,
    /// If true, resources are signaled for immediate shutdown
    #[arg(long)]
    now: bool,
    /// Treat "resource not found" as a successful delete
    #[arg(long)]
    ignore_not_found: bool,
    /// The length of time to wait before giving up on a delete, zero means determine a timeout from the size of the object
    #[arg(long, default_value = "0s")]
    timeout: String,
    /// If true, wait for resources to be gone before returning
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", action = clap::ArgAction::Set)]
    wait: bool,
    /// If true, delete resource requires user confirmation
    #[arg(short, long)]
    interactive: bool,
    /// Raw URI to DELETE to the server
    #[arg(long)]
    raw: Option<String>,
}

impl Run for Flags {
    async fn run(mut self, cx: Context) -> Result<()> {
        if let Some(path) = &self.raw {
            print!(
                "{}",
                cx.rest()
                    .await?
                    .text(&Call::new("DELETE", path.clone()))
                    .await?
            );
            return Ok(());
        }
        let mut wait = self.wait;
        self.settle(&mut wait)?;
        let infos = self.infos(&cx).await?;
        if infos.is_empty() {
            println!("No resources found");
            return Ok(());
        }
        if self.interactive && !confirmed(&infos)? {
            println!("deletion is cancelled");
            return Ok(());
        }
        let mut errors = Vec::new();
        let mut going: Vec<(Info, String)> = Vec::new();
        for info in infos {
            match self.delete(&cx, &info).await {
                Ok(uid) => going.push((info, uid)),
                Err(e) if e.is_not_found() && self.ignore_not_found => {}
                Err(e) => errors.push(e),
            }
        }
        if wait && self.output.dry_run()? == DryRun::No {
            let limit = match duration(&self.timeout)? {
                Duration::ZERO => Duration::from_secs(7 * 24 * 3600),
                d => d,
            };
            let deadline = tokio::time::Instant::now() + limit;
            for (info, uid) in going {
                let gone = tokio::time::timeout_at(deadline, gone(&cx, &info, &uid)).await;
                match gone {
                    Ok(Ok(())) => {}
                    // Who may delete but not read can not wait.
                    Ok(Err(e)) if ["Forbidden", "MethodNotAllowed"].contains(&e.reason()) => break,
                    Ok(Err(e)) => errors.push(e),
                    Err(_) => errors.push(Error::text(format!(
                        "timed out waiting for the condition on {}/{}",
                        info.resource.plural, info.name
                    ))),
                }
            }
        }
        Error::collect(errors)
    }
}

// === Flags ===

impl Flags {
    fn settle(&mut self, wait: &mut bool) -> Result<()> {
        if self.all && !self.selector.is_empty() {
            return Err(Error::text(
                "cannot set --all and --selector at the same time",
            ));
        }
        if self.now {
            if self.grace_period != -1 {
                return Err(Error::text(
                    "--now and --grace-period cannot be specified together",
                ));
            }
            self.grace_period = 1;
        }
        if self.grace_period == 0 && !self.force {
            // Without --force a pod may still run: it gets a second.
            self.grace_period = 1;
        } else if self.force && self.grace_period < 0 {
            self.grace_period = 0;
        }
        if self.force && self.grace_period > 0 {
            return Err(Error::text(
                "--force and --grace-period greater than 0 cannot be specified together",
            ));
        }
        if self.grace_period == 0 {
            *wait = false;
            eprintln!(
                "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely."
            );
        }
        if self.all_namespaces
            && !self.all
            && self.selector.is_empty()
            && self.field_selector.is_empty()
            && !self.resources.is_empty()
        {
            return Err(Error::text(
                "a resource cannot be retrieved by name across all namespaces",
            ));
        }
        Ok(())
    }

    async fn infos(&self, cx: &Context) -> Result<Vec<Info>> {
        if !self.files.is_empty() {
            let (infos, errors) = self.files.infos(cx).await?;
            Error::collect(errors)?;
            return Ok(infos);
        }
        if self.resources.is_empty() {
            return Err(Error::text(
                "You must provide one or more resources by argument or filename.\nExample resource specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   '<resource> <name>'\n   '<resource>'",
            ));
        }
        let found = builder::targets(cx, &self.resources).await?;
        let own = cx.namespace()?;
        let mut infos: Vec<Info> = found
            .named
            .into_iter()
            .map(|(resource, name)| Info {
                namespace: resource.namespaced.then(|| own.clone()),
                resource,
                name,
                object: Value::Null,
                source: String::new(),
            })
            .collect();
        let narrow = Narrow {
            labels: self.selector.clone(),
            fields: self.field_selector.clone(),
            all_namespaces: self.all_namespaces,
            all: self.all,
        };
        if !found.types.is_empty()
            && !self.all
            && self.selector.is_empty()
            && self.field_selector.is_empty()
        {
            return Err(Error::text(
                "resource(s) were provided, but no name was specified",
            ));
        }
        for resource in found
            .types
            .iter()
            .filter(|r| r.can("delete") && r.can("list"))
        {
            infos.extend(builder::list(cx, resource, &narrow).await?);
        }
        Ok(infos)
    }

    fn options(&self) -> Result<Value> {
        let policy = match self.cascade.as_str() {
            "true" | "background" => "Background",
            "foreground" => "Foreground",
            "false" | "orphan" => "Orphan",
            other => {
                return Err(Error::text(format!(
                    "invalid cascade value ({other}). Must be \"background\", \"foreground\", or \"orphan\""
                )));
            }
        };
        let mut options =
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy});
        if self.grace_period >= 0 {
            options["gracePeriodSeconds"] = self.grace_period.into();
        }
        if self.output.dry_run()? == DryRun::Server {
            options["dryRun"] = json!(["All"]);
        }
        Ok(options)
    }

    /// Deletes and prints; answers the uid of what goes.
    async fn delete(&self, cx: &Context, info: &Info) -> Result<String> {
        let dry = self.output.dry_run()?;
        let mut uid = String::new();
        if dry != DryRun::Client {
            let call = Call::new("DELETE", info.path()).json(&self.options()?);
            let answer = cx.rest().await?.json(&call).await;
            let answer = answer.map_err(|e| match info.source.as_str() {
                "" => e,
                source => e.when("deleting", source),
            })?;
            let pointer = if answer["kind"] == "Status" {
                "/details/uid"
            } else {
                "/metadata/uid"
            };
            uid = object::text(&answer, pointer).to_string();
        }
        if self.output.output.as_deref() == Some("name") {
            println!("{}", info.display());
            return Ok(uid);
        }
        let mut deed = if self.grace_period == 0 {
            "force deleted"
        } else {
            "deleted"
        }
        .to_string();
        if let Some(ns) = &info.namespace {
            deed = format!("{deed} from {ns} namespace");
        }
        let dry = match dry {
            DryRun::No => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        };
        println!(
            "{} \"{}\" {deed}{dry}",
            info.resource.singular_name(),
            info.name
        );
        Ok(uid)
    }
}

fn confirmed(infos: &[Info]) -> Result<bool> {
    println!(
        "You are about to delete the following {} resource(s):",
        infos.len()
    );
    for info in infos {
        println!("{}", info.display());
    }
    println!("Do you want to continue? (y/N): ");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim().eq_ignore_ascii_case("y"))
}

/// Returns once the object with this uid is gone.
pub async fn gone(cx: &Context, info: &Info, uid: &str) -> Result<()> {
    let rest = cx.rest().await?;
    loop {
        let list = Call::get(info.resource.path(info.namespace.as_deref()))
            .query("fieldSelector", format!("metadata.name={}", info.name));
        let now = rest.json(&list).await?;
        match object::items(&now, "/items").first() {
            None => return Ok(()),
            Some(o) if !uid.is_empty() && object::text(o, "/metadata/uid") != uid => return Ok(()),
            Some(_) => {}
        }
        let watch = list.query("watch", "true").query(
            "resourceVersion",
            object::text(&now, "/metadata/resourceVersion"),
        );
        let mut events = rest.watch(&watch).await?;
        while let Some(event) = events.next().await {
            match object::text(&event?, "/type") {
                "DELETED" => return Ok(()),
                "ERROR" => break,
                _ => {}
            }
        }
    }
}
