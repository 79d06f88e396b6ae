//! `kubectl autoscale`: a horizontal pod autoscaler for a workload.

use clap::Args;
use serde_json::{Value, json};

use super::create::{Common, generated, post};
use super::{Command, Run};
use crate::builder::{self, Files, Info, Narrow};
use crate::context::Context;
use crate::error::{Error, Result};

pub const COMMAND: Command = Command::of::<Flags>(
    "autoscale",
    &[],
    "Auto-scale a deployment, replica set, stateful set, or replication controller",
);

/// Flags of `autoscale`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    common: Common,
    /// The lower limit for the number of pods that can be set by the autoscaler
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    min: i64,
    /// The upper limit for the number of pods that can be set by the autoscaler
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    max: i64,
    /// Target CPU utilization over all the pods: a percentage, or an amount
    #[arg(long)]
    cpu: Option<String>,
    /// Target memory utilization over all the pods: a percentage, or an amount
    #[arg(long)]
    memory: Option<String>,
    /// The target average CPU utilization (represented as a percent of requested CPU)
    #[arg(long, hide = true)]
    cpu_percent: Option<i64>,
    /// The name for the newly created object
    #[arg(long)]
    name: Option<String>,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        if self.max < 1 {
            return Err(Error::text(format!(
                "--max=MAXPODS is required and must be at least 1, max: {}",
                self.max
            )));
        }
        if self.max < self.min {
            return Err(Error::text(format!(
                "--max=MAXPODS must be larger or equal to --min=MINPODS, max: {}, min: {}",
                self.max, self.min
            )));
        }
        let (infos, errors) =
            builder::existing(&cx, &self.words, &self.files, &Narrow::default()).await?;
        Error::collect(errors)?;
        for info in infos {
            if !info.resource.subresources.iter().any(|s| s == "scale") {
                return Err(Error::text(format!(
                    "cannot autoscale a {}: no kind is registered for it that scales",
                    info.resource.kind
                )));
            }
            post(
                &cx,
                generated(&cx, self.autoscaler(&info))?,
                &self.common,
                "autoscaled",
            )
            .await?;
        }
        Ok(())
    }
}

// === Flags ===

impl Flags {
    fn autoscaler(&self, info: &Info) -> Value {
        let name = self.name.as_deref().unwrap_or(&info.name);
        let mut spec = json!({"maxReplicas": self.max, "scaleTargetRef": {
            "apiVersion": info.resource.api_version(), "kind": info.resource.kind, "name": info.name}});
        if self.min > 0 {
            spec["minReplicas"] = self.min.into();
        }
        let percent = self.cpu_percent.map(|p| format!("{p}%"));
        let metrics: Vec<Value> = [
            ("cpu", self.cpu.as_ref().or(percent.as_ref())),
            ("memory", self.memory.as_ref()),
        ]
        .into_iter()
        .filter_map(|(resource, target)| Some(metric(resource, target?)))
        .collect();
        if !metrics.is_empty() {
            spec["metrics"] = metrics.into();
        }
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": name}, "spec": spec,
            "status": {"currentMetrics": null, "desiredReplicas": 0}})
    }
}

fn metric(resource: &str, target: &str) -> Value {
    let percent = target.strip_suffix('%').and_then(|p| p.parse::<i64>().ok());
    let target = match percent {
        Some(percent) => json!({"type": "Utilization", "averageUtilization": percent}),
        None => json!({"type": "AverageValue", "averageValue": target}),
    };
    json!({"type": "Resource", "resource": {"name": resource, "target": target}})
}
