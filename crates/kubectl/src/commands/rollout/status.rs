//! Whether a rollout is done. Upstream: polymorphichelpers/rollout_status.go.

use futures::StreamExt;
use serde_json::Value;

use crate::builder::Info;
use crate::context::{Context, timeout};
use crate::error::{Error, Result};
use crate::object;
use crate::rest::Call;

/// Prints how each rollout goes until it is done.
pub async fn run(cx: &Context, infos: &[Info], watch: bool, limit: &str) -> Result<()> {
    let limit = match limit {
        "0s" => None,
        text => timeout(text)?,
    };
    for info in infos {
        let one = follow(cx, info, watch);
        match limit {
            Some(limit) => tokio::time::timeout(limit, one)
                .await
                .map_err(|_| Error::text("timed out waiting for the condition"))??,
            None => one.await?,
        }
    }
    Ok(())
}

async fn follow(cx: &Context, info: &Info, watch: bool) -> Result<()> {
    let (text, done) = status(&info.resource.kind, &info.object)?;
    print!("{text}");
    if done || !watch {
        return Ok(());
    }
    let rest = cx.rest().await?;
    let call = Call::get(info.resource.path(info.namespace.as_deref()))
        .query("watch", "true")
        .query("fieldSelector", format!("metadata.name={}", info.name));
    let mut last = text;
    loop {
        let mut events = rest.watch(&call).await?;
        while let Some(event) = events.next().await {
            let event = event?;
            match object::text(&event, "/type") {
                "DELETED" => return Err(Error::text("object has been deleted")),
                "ADDED" | "MODIFIED" => {}
                _ => break,
            }
            let (text, done) = status(&info.resource.kind, &event["object"])?;
            if text != last {
                print!("{text}");
            }
            last = text;
            if done {
                return Ok(());
            }
        }
    }
}

/// What is said of a rollout, and whether it is done.
pub fn status(kind: &str, o: &Value) -> Result<(String, bool)> {
    let n = |pointer: &str| o.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let name = object::name(o);
    if n("/metadata/generation") > n("/status/observedGeneration") {
        return Ok((
            format!(
                "Waiting for {} spec update to be observed...\n",
                kind_words(kind)
            ),
            false,
        ));
    }
    match kind {
        "Deployment" => {
            let progressing = object::items(o, "/status/conditions")
                .iter()
                .find(|c| c["type"] == "Progressing");
            if progressing.is_some_and(|c| c["reason"] == "ProgressDeadlineExceeded") {
                return Err(Error::text(format!(
                    "deployment \"{name}\" exceeded its progress deadline"
                )));
            }
            let wanted = o["spec"]["replicas"].as_i64().unwrap_or(1);
            let (updated, total, available) = (
                n("/status/updatedReplicas"),
                n("/status/replicas"),
                n("/status/availableReplicas"),
            );
            let head = format!("Waiting for deployment \"{name}\" rollout to finish:");
            Ok(if updated < wanted {
                (
                    format!("{head} {updated} out of {wanted} new replicas have been updated...\n"),
                    false,
                )
            } else if total > updated {
                (
                    format!(
                        "{head} {} old replicas are pending termination...\n",
                        total - updated
                    ),
                    false,
                )
            } else if available < updated {
                (
                    format!("{head} {available} of {updated} updated replicas are available...\n"),
                    false,
                )
            } else {
                (
                    format!("deployment \"{name}\" successfully rolled out\n"),
                    true,
                )
            })
        }
        "DaemonSet" => {
            let wanted = n("/status/desiredNumberScheduled");
            let (updated, available) = (
                n("/status/updatedNumberScheduled"),
                n("/status/numberAvailable"),
            );
            let head = format!("Waiting for daemon set \"{name}\" rollout to finish:");
            Ok(if updated < wanted {
                (
                    format!("{head} {updated} out of {wanted} new pods have been updated...\n"),
                    false,
                )
            } else if available < wanted {
                (
                    format!("{head} {available} of {wanted} updated pods are available...\n"),
                    false,
                )
            } else {
                (
                    format!("daemon set \"{name}\" successfully rolled out\n"),
                    true,
                )
            })
        }
        "StatefulSet" => Ok(stateful_set(o)),
        _ => Err(Error::text(format!(
            "no status viewer has been implemented for {kind}"
        ))),
    }
}

fn kind_words(kind: &str) -> &'static str {
    match kind {
        "DaemonSet" => "daemon set",
        "StatefulSet" => "statefulset",
        _ => "deployment",
    }
}

fn stateful_set(o: &Value) -> (String, bool) {
    let n = |pointer: &str| o.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let wanted = o["spec"]["replicas"].as_i64().unwrap_or(1);
    let (ready, updated) = (n("/status/readyReplicas"), n("/status/updatedReplicas"));
    let partition = n("/spec/updateStrategy/rollingUpdate/partition");
    if ready < wanted {
        return (
            format!("Waiting for {} pods to be ready...\n", wanted - ready),
            false,
        );
    }
    if partition > 0 {
        if updated < wanted - partition {
            return (
                format!(
                    "Waiting for partitioned roll out to finish: {updated} out of {} new pods have been updated...\n",
                    wanted - partition
                ),
                false,
            );
        }
        return (
            format!("partitioned roll out complete: {updated} new pods have been updated...\n"),
            true,
        );
    }
    let (new, old) = (
        object::text(o, "/status/updateRevision"),
        object::text(o, "/status/currentRevision"),
    );
    if new != old {
        return (
            format!(
                "waiting for statefulset rolling update to complete {updated} pods at revision {new}...\n"
            ),
            false,
        );
    }
    (
        format!(
            "statefulset rolling update complete {} pods at revision {old}...\n",
            n("/status/currentReplicas")
        ),
        true,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn deployments_are_done_when_all_is_new_and_available() {
        let d = |updated: i64, total: i64, available: i64| {
            json!({"metadata": {"name": "web", "generation": 1}, "spec": {"replicas": 2},
                "status": {"observedGeneration": 1, "updatedReplicas": updated, "replicas": total, "availableReplicas": available}})
        };
        let text = |o: Value| status("Deployment", &o).unwrap();
        assert_eq!(
            text(d(2, 2, 2)),
            ("deployment \"web\" successfully rolled out\n".into(), true)
        );
        assert!(
            text(d(1, 2, 2))
                .0
                .ends_with("1 out of 2 new replicas have been updated...\n")
        );
        assert!(
            text(d(2, 3, 2))
                .0
                .ends_with("1 old replicas are pending termination...\n")
        );
        assert!(
            text(d(2, 2, 1))
                .0
                .ends_with("1 of 2 updated replicas are available...\n")
        );
    }
}
