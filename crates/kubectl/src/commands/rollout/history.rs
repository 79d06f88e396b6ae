//! Revisions: replica sets of deployments, controller revisions of the others.

use serde_json::{Value, json};

use crate::builder::Info;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::object;
use crate::output::{DryRun, Output};
use crate::rest::Call;
use crate::tabwriter::TabWriter;

const REVISION: &str = "deployment.kubernetes.io/revision";
const CAUSE: &str = "kubernetes.io/change-cause";

/// The revisions of an object, oldest first: number and what holds it.
async fn revisions(cx: &Context, info: &Info) -> Result<Vec<(i64, Value)>> {
    let word = match info.resource.kind.as_str() {
        "Deployment" => "replicasets.apps",
        "DaemonSet" | "StatefulSet" => "controllerrevisions.apps",
        kind => {
            return Err(Error::text(format!(
                "no history viewer has been implemented for {kind}"
            )));
        }
    };
    let path = cx
        .discovery()
        .await?
        .resolve(word)?
        .path(info.namespace.as_deref());
    let list = cx.rest().await?.json(&Call::get(path)).await?;
    let uid = &info.object["metadata"]["uid"];
    let mut all: Vec<(i64, Value)> = object::items(&list, "/items")
        .iter()
        .filter(|o| {
            object::items(o, "/metadata/ownerReferences")
                .iter()
                .any(|r| r["uid"] == *uid)
        })
        .filter_map(|o| {
            let own = o["revision"].as_i64();
            let annotated = || {
                o["metadata"]["annotations"][REVISION]
                    .as_str()?
                    .parse()
                    .ok()
            };
            Some((own.or_else(annotated)?, o.clone()))
        })
        .collect();
    all.sort_by_key(|(n, _)| *n);
    Ok(all)
}

/// `rollout history`.
pub async fn show(cx: &Context, infos: &[Info], revision: i64) -> Result<()> {
    for info in infos {
        let all = revisions(cx, info).await?;
        if revision > 0 {
            let (_, found) = all
                .iter()
                .find(|(n, _)| *n == revision)
                .ok_or_else(|| Error::text("unable to find the specified revision"))?;
            println!("{} with revision #{revision}", info.display());
            println!("{}", crate::describe::template_text(template(info, found)));
            continue;
        }
        println!("{} ", info.display());
        if all.is_empty() {
            println!("No rollout history found.");
            continue;
        }
        let mut text = String::from("REVISION\tCHANGE-CAUSE\n");
        for (n, o) in &all {
            let cause = o["metadata"]["annotations"][CAUSE]
                .as_str()
                .unwrap_or("<none>");
            text.push_str(&format!("{n}\t{cause}\n"));
        }
        println!("{}", TabWriter::describe().layout(&text));
    }
    Ok(())
}

fn template<'a>(info: &Info, holder: &'a Value) -> &'a Value {
    if info.resource.kind == "Deployment" {
        &holder["spec"]["template"]
    } else {
        &holder["data"]["spec"]["template"]
    }
}

/// `rollout undo`.
pub async fn undo(cx: &Context, infos: &[Info], output: &Output, revision: i64) -> Result<()> {
    for info in infos {
        let all = revisions(cx, info).await?;
        let found = if revision > 0 {
            all.iter().find(|(n, _)| *n == revision)
        } else {
            all.len().checked_sub(2).and_then(|i| all.get(i))
        };
        let Some((number, holder)) = found else {
            return Err(Error::text(match revision {
                0 => format!(
                    "no rollout history found for {} \"{}\"",
                    info.resource.singular, info.name
                ),
                n => format!("unable to find specified revision {n} in history"),
            }));
        };
        let deployment = info.resource.kind == "Deployment";
        if deployment && info.object["spec"]["paused"] == true {
            return Err(Error::text(format!(
                "you cannot rollback a paused deployment; resume it first with 'kubectl rollout resume {}' and try again",
                info.display()
            )));
        }
        let mut wanted = template(info, holder).clone();
        if let Some(labels) = wanted
            .pointer_mut("/metadata/labels")
            .and_then(Value::as_object_mut)
        {
            labels.remove("pod-template-hash");
        }
        if wanted == info.object["spec"]["template"] {
            println!(
                "{} skipped rollback (current template already matches revision {number})",
                info.display()
            );
            continue;
        }
        let (media, patch) = if deployment {
            let patch = json!([{"op": "replace", "path": "/spec/template", "value": wanted}]);
            ("application/json-patch+json", patch)
        } else {
            (
                "application/strategic-merge-patch+json",
                holder["data"].clone(),
            )
        };
        let mut call = Call::new("PATCH", info.path())
            .body(media, patch.to_string().into_bytes())
            .query("fieldManager", "kubectl-rollout");
        if output.dry_run()? != DryRun::No {
            call = call.query("dryRun", "All");
        }
        let done = cx.rest().await?.json(&call).await?;
        output.print(info, &done, "rolled back")?;
    }
    Ok(())
}
