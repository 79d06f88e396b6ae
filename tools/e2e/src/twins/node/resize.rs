//! Pod InPlace Resize: amounts change while the containers run on.

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};

use crate::pods::{self, BUSYBOX, START, uuid};
use crate::rest::{Cx, POLL};

/// Requests and limits of a container: `cpu` in thousandths, memory in MiB.
#[derive(Clone, Copy, Default)]
struct Amounts {
    cpu: Option<i64>,
    cpu_limit: Option<i64>,
    memory: Option<i64>,
    memory_limit: Option<i64>,
}

// === Amounts ===

impl Amounts {
    fn json(&self) -> Value {
        let mut all = json!({});
        for (kind, cpu, memory) in [
            ("requests", self.cpu, self.memory),
            ("limits", self.cpu_limit, self.memory_limit),
        ] {
            if let Some(cpu) = cpu {
                all[kind]["cpu"] = json!(format!("{cpu}m"));
            }
            if let Some(memory) = memory {
                all[kind]["memory"] = json!(format!("{memory}Mi"));
            }
        }
        all
    }

    fn shares(&self) -> i64 {
        let milli = self.cpu.or(self.cpu_limit).unwrap_or(0);
        (milli * 1024 / 1000).max(2)
    }

    /// The quotas of 100 ms that the limit allows.
    fn quotas(&self) -> Option<Vec<i64>> {
        self.cpu_limit.map(|milli| {
            let ten = (milli + 9) / 10 * 10;
            vec![(milli * 100).max(1000), (ten * 100).max(1000)]
        })
    }
}

fn container(name: &str, amounts: Amounts) -> Value {
    json!({"name": name, "image": BUSYBOX, "command": ["/bin/sh"],
        "args": ["-c", "grep Cpus_allowed_list /proc/self/status | cut -f2 && sleep 1d"],
        "resources": amounts.json()})
}

async fn start(cx: &Cx, all: &[Amounts]) -> Result<String> {
    let names = (1..).map(|i| format!("c{i}"));
    let containers: Vec<Value> = names.zip(all).map(|(n, a)| container(&n, *a)).collect();
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "resize-test-", "labels": {"time": uuid()}},
        "spec": {"os": {"name": "linux"}, "restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 0,
            "containers": containers}});
    pods::restricted(&mut pod);
    let pod = pods::create_ready(cx, &pod).await?;
    let name = pods::name(&pod).to_string();
    spec_is(&pod, all)?;
    status_is(&pod, all)?;
    cgroups_are(cx, &name, all).await?;
    Ok(name)
}

fn spec_is(pod: &Value, all: &[Amounts]) -> Result<()> {
    ensure!(pod["spec"]["resources"].is_null(), "{}", pod["spec"]);
    let containers = pod["spec"]["containers"].as_array().context("containers")?;
    ensure!(containers.len() == all.len(), "{containers:?}");
    for (container, amounts) in containers.iter().zip(all) {
        ensure!(
            container["resources"] == amounts.json(),
            "{container}, expected {}",
            amounts.json()
        );
        ensure!(container["resizePolicy"].is_null(), "{container}");
    }
    Ok(())
}

fn status_is(pod: &Value, all: &[Amounts]) -> Result<()> {
    let statuses = pod["status"]["containerStatuses"]
        .as_array()
        .context("statuses")?;
    for (i, amounts) in all.iter().enumerate() {
        let name = format!("c{}", i + 1);
        let status = statuses
            .iter()
            .find(|s| s["name"] == json!(name))
            .context("a status")?;
        let wanted = amounts.json();
        ensure!(
            status["allocatedResources"] == wanted["requests"],
            "{status}, expected {wanted}"
        );
        ensure!(status["resources"] == wanted, "{status}, expected {wanted}");
    }
    Ok(())
}

/// What the kernel was told.
async fn cgroups_are(cx: &Cx, pod: &str, all: &[Amounts]) -> Result<()> {
    for (i, amounts) in all.iter().enumerate() {
        let name = format!("c{}", i + 1);
        let unified = cx
            .exec_ok(pod, &name, &["/bin/sh", "-c", "mount -t cgroup2"])
            .await;
        let unified = unified.is_ok_and(|mounts| mounts.contains("/sys/fs/cgroup type"));
        let read = async |file: &str| {
            let line = format!("head -n 1 /sys/fs/cgroup/{file}");
            cx.shell(pod, &name, &line).await
        };
        let bytes = amounts.memory_limit.map(|m| m << 20);
        let (quota, memory, weight) = match unified {
            true => (
                read("cpu.max").await?,
                read("memory.max").await?,
                read("cpu.weight").await?,
            ),
            false => (
                read("cpu/cpu.cfs_quota_us").await?,
                read("memory/memory.limit_in_bytes").await?,
                read("cpu/cpu.shares").await?,
            ),
        };
        let quotas: Vec<String> = match (amounts.quotas(), unified) {
            (Some(all), true) => all.iter().map(|q| format!("{q} 100000")).collect(),
            (Some(all), false) => all.iter().map(i64::to_string).collect(),
            (None, true) => vec!["max 100000".to_string()],
            (None, false) => vec!["-1".to_string()],
        };
        ensure!(
            quotas.contains(&quota),
            "{name}: quota {quota:?}, expected {quotas:?}"
        );
        match (bytes, unified) {
            (Some(bytes), _) => ensure!(memory == bytes.to_string(), "{name}: memory {memory}"),
            (None, true) => ensure!(memory == "max", "{name}: memory {memory}"),
            (None, false) => {}
        }
        let shares = amounts.shares();
        let weights = match unified {
            true => vec![1 + (shares - 2) * 9999 / 262142, newer_weight(shares)],
            false => vec![shares, shares],
        };
        let is = weights.iter().any(|w| w.to_string() == weight);
        ensure!(is, "{name}: weight {weight}, expected {weights:?}");
    }
    Ok(())
}

/// The weight that newer versions of runc make of shares.
fn newer_weight(shares: i64) -> i64 {
    let l = (shares as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    10f64.powf(exponent).ceil() as i64
}

fn resizing(pod: &Value) -> bool {
    let mut all = pod["status"]["conditions"].as_array().into_iter().flatten();
    all.any(|c| c["type"] == "PodResizePending" || c["type"] == "PodResizeInProgress")
}

/// Waits until the node has done what the spec wants, and looks whether it has.
async fn actuated(cx: &Cx, name: &str, all: &[Amounts]) -> Result<()> {
    let done = |pod: &Value| {
        let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let infeasible = |c: &Value| c["type"] == "PodResizePending" && c["reason"] == "Infeasible";
        ensure!(!conditions.any(infeasible), "{}", pod["status"]);
        let observed = pod["status"]["observedGeneration"].as_i64();
        let generation = pod["metadata"]["generation"].as_i64();
        Ok(observed >= generation && !resizing(pod) && pods::condition(pod, "Ready"))
    };
    let pod = pods::wait(cx, name, START, "resized", done).await?;
    cgroups_are(cx, name, all).await?;
    status_is(&pod, all)?;
    ensure!(pods::restarts(&pod) == 0, "{}", pod["status"]);
    Ok(())
}

async fn patched(cx: &Cx, name: &str, all: &[Amounts]) -> Result<()> {
    let pod = pods::get(cx, name).await?;
    let mut containers = Vec::new();
    for (i, amounts) in all.iter().enumerate() {
        // As a difference of two specs says it: what is gone is null.
        let mut resources = amounts.json();
        let old = &pod["spec"]["containers"][i]["resources"];
        for (kind, values) in old.as_object().into_iter().flatten() {
            for key in values.as_object().into_iter().flatten().map(|(k, _)| k) {
                if resources[kind][key].is_null() {
                    resources[kind][key] = Value::Null;
                }
            }
        }
        containers.push(json!({"name": format!("c{}", i + 1), "resources": resources}));
    }
    let path = format!("{}/resize", pods::path(cx, name));
    let patch = json!({"spec": {"containers": containers}});
    let pod = cx.patch(&path, "strategic-merge", &patch).await?;
    spec_is(&pod, all)?;
    actuated(cx, name, all).await
}

pub async fn many(cx: Cx) -> Result<()> {
    let cpu = |cpu: i64| Amounts {
        cpu: Some(cpu),
        ..Amounts::default()
    };
    let memory = |memory: i64| Amounts {
        memory: Some(memory),
        ..Amounts::default()
    };
    let both = |cpu: i64, memory: i64| Amounts {
        cpu: Some(cpu),
        memory: Some(memory),
        ..Amounts::default()
    };
    let from = [cpu(20), memory(35), both(20, 35), cpu(20), memory(35)];
    let to = [
        Amounts {
            cpu_limit: Some(35),
            ..cpu(25)
        },
        Amounts {
            memory_limit: Some(50),
            ..memory(30)
        },
        both(20, 30),
        both(15, 35),
        both(20, 40),
    ];
    let name = start(&cx, &from).await?;
    patched(&cx, &name, &to).await?;
    pods::remove(&cx, &name, json!({})).await
}

pub async fn equivalents(cx: Cx) -> Result<()> {
    let amounts = |cpu, limit| {
        [Amounts {
            cpu: Some(cpu),
            cpu_limit: Some(limit),
            ..Amounts::default()
        }]
    };
    let name = start(&cx, &amounts(2, 10)).await?;
    patched(&cx, &name, &amounts(1, 5)).await?;
    patched(&cx, &name, &amounts(2, 10)).await?;
    pods::remove(&cx, &name, json!({})).await
}

pub async fn replaced(cx: Cx) -> Result<()> {
    let amounts = |cpu, memory| {
        [Amounts {
            cpu: Some(cpu),
            memory: Some(memory),
            ..Amounts::default()
        }]
    };
    let name = start(&cx, &amounts(20, 35)).await?;
    let path = pods::path(&cx, &name);
    let resize = format!("{path}/resize");
    let mut pod = cx.get(&path).await?;
    ensure!(pod["metadata"]["generation"] == 1, "{pod}");
    let wanted = amounts(25, 40);
    pod["spec"]["containers"][0]["resources"] = wanted[0].json();
    cx.ok(Method::PUT, &resize, &pod).await?;
    let pod = cx.get(&path).await?;
    spec_is(&pod, &wanted)?;
    ensure!(pod["metadata"]["generation"] == 2, "{pod}");
    actuated(&cx, &name, &wanted).await?;
    cx.eventually(POLL, START, "both ways show the same pod", || async {
        Ok(cx.get(&path).await? == cx.get(&resize).await?)
    })
    .await?;
    pods::remove(&cx, &name, json!({})).await
}
