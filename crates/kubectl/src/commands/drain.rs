//! `kubectl drain`: cordon, then evict. Upstream: kubectl/pkg/drain.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{Command, Run, cordon, delete, modify};
use crate::builder::{self, Info, Narrow};
use crate::context::{Context, timeout};
use crate::error::{Error, Result};
use crate::object;
use crate::output::{DryRun, Output};
use crate::rest::Call;

pub const COMMAND: Command =
    Command::of::<Flags>("drain", &[], "Drain node in preparation for maintenance");

/// Flags of `drain`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    nodes: Vec<String>,
    #[command(flatten)]
    output: Output,
    /// Continue even if there are pods that do not declare a controller
    #[arg(long)]
    force: bool,
    /// Ignore DaemonSet-managed pods
    #[arg(long)]
    ignore_daemonsets: bool,
    /// Continue even if there are pods using emptyDir
    #[arg(long)]
    delete_emptydir_data: bool,
    /// Force drain to use delete, even if eviction is supported
    #[arg(long)]
    disable_eviction: bool,
    /// Period of time in seconds given to each pod to terminate gracefully
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    grace_period: i64,
    /// The length of time to wait before giving up, zero means infinite
    #[arg(long, default_value = "0s")]
    timeout: String,
    /// Label selector to filter pods on the node
    #[arg(long, default_value = "", hide_default_value = true)]
    pod_selector: String,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let nodes = cordon::chosen(&cx, "drain", &self.nodes, &self.selector).await?;
        let cordoned = ("cordoned", "already cordoned");
        modify::each(
            &cx,
            nodes.clone(),
            "kubectl-drain",
            &self.output,
            cordoned,
            |_, o| {
                o["spec"]["unschedulable"] = json!(true);
                Ok(())
            },
        )
        .await?;
        let limit = match self.timeout.as_str() {
            "0s" => None,
            text => timeout(text)?,
        };
        for node in &nodes {
            let done = self.empty(&cx, node);
            match limit {
                Some(limit) => tokio::time::timeout(limit, done).await.map_err(|_| {
                    Error::text(format!(
                        "unable to drain node \"{}\" due to error: global timeout reached: {}",
                        node.name, self.timeout
                    ))
                })??,
                None => done.await?,
            }
            let object = &node.object;
            self.output.print(node, object, "drained")?;
        }
        Ok(())
    }
}

/// What is to be done with a pod.
enum Fate {
    /// With a warning.
    Evict(Option<&'static str>),
    Skip(Option<&'static str>),
    Refuse(&'static str),
}

// === Flags ===

impl Flags {
    fn fate(&self, pod: &Info) -> Fate {
        let o = &pod.object;
        if !o["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null() {
            return Fate::Skip(None);
        }
        let finished = ["Succeeded", "Failed"].contains(&object::text(o, "/status/phase"));
        let owner = object::items(o, "/metadata/ownerReferences")
            .iter()
            .find(|r| r["controller"] == true);
        if owner.is_some_and(|r| r["kind"] == "DaemonSet") && !finished {
            return if self.ignore_daemonsets {
                Fate::Skip(Some("ignoring DaemonSet-managed Pods"))
            } else {
                Fate::Refuse(
                    "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore)",
                )
            };
        }
        if finished {
            return Fate::Evict(None);
        }
        if owner.is_none() && !self.force {
            return Fate::Refuse(
                "cannot delete Pods that declare no controller (use --force to override)",
            );
        }
        let local = object::items(o, "/spec/volumes")
            .iter()
            .any(|v| !v["emptyDir"].is_null());
        if local && !self.delete_emptydir_data {
            return Fate::Refuse(
                "cannot delete Pods with local storage (use --delete-emptydir-data to override)",
            );
        }
        Fate::Evict(
            owner
                .is_none()
                .then_some("deleting Pods that declare no controller"),
        )
    }

    async fn empty(&self, cx: &Context, node: &Info) -> Result<()> {
        let pods = cx.discovery().await?.resolve("pods")?.clone();
        let narrow = Narrow {
            labels: self.pod_selector.clone(),
            fields: format!("spec.nodeName={}", node.name),
            all_namespaces: true,
            all: true,
        };
        let (mut going, mut refused, mut warned) = (Vec::new(), Vec::new(), Vec::new());
        for pod in builder::list(cx, &pods, &narrow).await? {
            let place = format!(
                "{}/{}",
                pod.namespace.as_deref().unwrap_or_default(),
                pod.name
            );
            match self.fate(&pod) {
                Fate::Evict(warning) => {
                    going.push(pod);
                    warned.extend(warning.map(|why| (why, place)));
                }
                Fate::Skip(None) => {}
                Fate::Skip(Some(why)) => warned.push((why, place)),
                Fate::Refuse(why) => refused.push((why, place)),
            }
        }
        let (warned, refused) = (by_reason(warned), by_reason(refused));
        if !warned.is_empty() {
            eprintln!("Warning: {}", warned.join("; "));
        }
        if !refused.is_empty() {
            return Err(Error::text(format!(
                "unable to drain node \"{}\" due to error: {}, continuing command...\nThere are pending nodes to be drained:\n {}\n{}",
                node.name,
                refused.join(", "),
                node.name,
                refused.join("\n")
            )));
        }
        if self.output.dry_run()? == DryRun::Client {
            for pod in &going {
                let ns = pod.namespace.as_deref().unwrap_or_default();
                println!("evicting pod {ns}/{} (dry run)", pod.name);
            }
            return Ok(());
        }
        let evictions = going.iter().map(|pod| self.evict(cx, pod));
        futures::future::try_join_all(evictions).await.map(|_| ())
    }

    async fn evict(&self, cx: &Context, pod: &Info) -> Result<()> {
        let mut options = json!({});
        if self.grace_period >= 0 {
            options["gracePeriodSeconds"] = self.grace_period.into();
        }
        let ns = pod.namespace.clone().unwrap_or_default();
        let call = if self.disable_eviction {
            Call::new("DELETE", pod.path()).json(&options)
        } else {
            println!("evicting pod {ns}/{}", pod.name);
            Call::new("POST", format!("{}/eviction", pod.path())).json(&json!({
                "apiVersion": "policy/v1", "kind": "Eviction",
                "metadata": {"name": pod.name, "namespace": ns}, "deleteOptions": options}))
        };
        loop {
            match cx.rest().await?.json(&call).await {
                Ok(_) => break,
                Err(e) if e.is_not_found() => return Ok(()),
                Err(e) if e.reason() == "TooManyRequests" => {
                    eprintln!(
                        "error when evicting pods/\"{}\" -n \"{ns}\" (will retry after 5s): {e}",
                        pod.name
                    );
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
                Err(e) => return Err(e),
            }
        }
        delete::gone(cx, pod, object::text(&pod.object, "/metadata/uid")).await?;
        println!(
            "pod/{} {}",
            pod.name,
            if self.disable_eviction {
                "deleted"
            } else {
                "evicted"
            }
        );
        Ok(())
    }
}

/// `why: place, place`, in the order the reasons came.
fn by_reason(all: Vec<(&'static str, String)>) -> Vec<String> {
    let mut grouped: Vec<(&str, Vec<String>)> = Vec::new();
    for (why, place) in all {
        match grouped.iter_mut().find(|(known, _)| *known == why) {
            Some((_, places)) => places.push(place),
            None => grouped.push((why, vec![place])),
        }
    }
    let text = |(why, places): (&str, Vec<String>)| format!("{why}: {}", places.join(", "));
    grouped.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_grouped_by_reason() {
        let all = [("a", "n/1"), ("b", "n/2"), ("a", "n/3")];
        let all = all.map(|(why, place)| (why, place.to_string())).to_vec();
        assert_eq!(by_reason(all), ["a: n/1, n/3", "b: n/2"]);
    }
}
