//! Volumes of the downward API, plain and projected.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::pods::{self, AGNHOST, uuid};
use crate::rest::Cx;

const CONTAINER: &str = "client-container";

/// What a test varies.
#[derive(Clone, Copy, Default)]
pub struct Modes {
    pub default: Option<i64>,
    pub item: Option<i64>,
}

fn items(modes: Modes, more: Option<(&str, &str)>) -> Value {
    let mut items = vec![
        json!({"path": "podname", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}),
    ];
    if let Some(mode) = modes.item {
        items[0]["mode"] = json!(mode);
    }
    for (path, resource) in [
        ("cpu_limit", "limits.cpu"),
        ("cpu_request", "requests.cpu"),
        ("memory_limit", "limits.memory"),
        ("memory_request", "requests.memory"),
    ] {
        let reference = json!({"containerName": CONTAINER, "resource": resource});
        items.push(json!({"path": path, "resourceFieldRef": reference}));
    }
    if let Some((path, field)) = more {
        let reference = json!({"apiVersion": "v1", "fieldPath": field});
        items.push(json!({"path": path, "fieldRef": reference}));
    }
    json!(items)
}

fn pod(
    name: &str,
    projected: bool,
    modes: Modes,
    more: Option<(&str, &str)>,
    args: &[&str],
) -> Value {
    let items = items(modes, more);
    let (key, mut source) = match projected {
        true => (
            "projected",
            json!({"sources": [{"downwardAPI": {"items": items}}]}),
        ),
        false => ("downwardAPI", json!({"items": items})),
    };
    if let Some(mode) = modes.default {
        source["defaultMode"] = json!(mode);
    }
    let mut all = vec!["mounttest"];
    all.extend(args);
    pods::pod(
        name,
        json!({"restartPolicy": "Never", "volumes": [{"name": "podinfo", key: source}],
            "containers": [{"name": CONTAINER, "image": AGNHOST, "args": all,
                "volumeMounts": [{"name": "podinfo", "mountPath": "/etc/podinfo"}]}]}),
    )
}

fn new_name() -> String {
    format!("downwardapi-volume-{}", uuid())
}

/// Both kinds of volume: upstream's tests of projected volumes use plain ones in part; ours use both then.
fn kinds(projected: bool) -> &'static [bool] {
    if projected { &[false, true] } else { &[false] }
}

pub async fn pod_name(cx: Cx, projected: bool) -> Result<()> {
    for kind in kinds(projected) {
        let name = new_name();
        let args = ["--file_content=/etc/podinfo/podname"];
        let pod = pod(&name, *kind, Modes::default(), None, &args);
        pods::output(&cx, &pod, CONTAINER, &[&format!("{name}\n")]).await?;
    }
    Ok(())
}

pub async fn mode(cx: Cx, projected: bool, modes: Modes) -> Result<()> {
    let args = ["--file_mode=/etc/podinfo/podname"];
    let pod = pod(&new_name(), projected, modes, None, &args);
    let text = "mode of file \"/etc/podinfo/podname\": -r--------";
    pods::output(&cx, &pod, CONTAINER, &[text]).await
}

/// A file of an amount that the container states.
pub async fn amount(cx: Cx, projected: bool, file: &str, value: &str) -> Result<()> {
    for kind in kinds(projected) {
        let args = [format!("--file_content=/etc/podinfo/{file}")];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut pod = pod(&new_name(), *kind, Modes::default(), None, &args);
        pod["spec"]["containers"][0]["resources"] = json!({
            "requests": {"cpu": "250m", "memory": "32Mi"},
            "limits": {"cpu": "1250m", "memory": "128Mi"}});
        let text = format!("content of file \"/etc/podinfo/{file}\": {value}\n");
        pods::output(&cx, &pod, CONTAINER, &[&text]).await?;
    }
    Ok(())
}

/// A limit that the container does not state is what the node has to give. Upstream only wants a digit.
pub async fn allocatable(cx: Cx, projected: bool, resource: &str) -> Result<()> {
    let nodes = cx.get("/api/v1/nodes").await?;
    let amount = &nodes["items"][0]["status"]["allocatable"][resource];
    let value = whole(amount.as_str().context("allocatable")?)?;
    for kind in kinds(projected) {
        let args = [format!("--file_content=/etc/podinfo/{resource}_limit")];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let pod = pod(&new_name(), *kind, Modes::default(), None, &args);
        let text = format!("content of file \"/etc/podinfo/{resource}_limit\": {value}\n");
        pods::output(&cx, &pod, CONTAINER, &[&text]).await?;
    }
    Ok(())
}

/// A quantity in whole units, rounded up.
fn whole(quantity: &str) -> Result<u64> {
    let end = quantity.find(|c: char| !c.is_ascii_digit());
    let (digits, unit) = quantity.split_at(end.unwrap_or(quantity.len()));
    let number: u64 = digits.parse()?;
    Ok(match unit {
        "" => number,
        "m" => number.div_ceil(1000),
        "Ki" => number << 10,
        "Mi" => number << 20,
        "Gi" => number << 30,
        other => anyhow::bail!("unit {other} of {quantity}"),
    })
}

pub async fn labels_update(cx: Cx, projected: bool) -> Result<()> {
    let labels = json!({"labels": {"key1": "value1", "key2": "value2"}});
    let change = json!({"metadata": {"labels": {"key3": "value3"}}});
    let lines = ["key1=\"value1\"\n", "key3=\"value3\"\n"];
    update(&cx, projected, "labels", labels, change, lines).await
}

pub async fn annotations_update(cx: Cx, projected: bool) -> Result<()> {
    let annotations = json!({"annotations": {"builder": "bar"}});
    let change = json!({"metadata": {"annotations": {"builder": "foo"}}});
    let lines = ["builder=\"bar\"\n", "builder=\"foo\"\n"];
    update(&cx, projected, "annotations", annotations, change, lines).await
}

async fn update(
    cx: &Cx,
    projected: bool,
    what: &str,
    metadata: Value,
    change: Value,
    [before, after]: [&str; 2],
) -> Result<()> {
    let kind = if what == "labels" { what } else { "annotation" };
    let name = format!("{kind}update{}", uuid());
    // Projected ones read for longer but must show the change sooner.
    let (seconds, within) = if projected { (1200, 120) } else { (120, 180) };
    let within = Duration::from_secs(within);
    let args = [
        "--break_on_expected_content=false".to_string(),
        format!("--retry_time={seconds}"),
        format!("--file_content_in_loop=/etc/podinfo/{what}"),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let field = format!("metadata.{what}");
    let more = Some((what, field.as_str()));
    let mut pod = pod(&name, projected, Modes::default(), more, &args);
    for (key, value) in metadata.as_object().into_iter().flatten() {
        pod["metadata"][key] = value.clone();
    }
    pods::create_ready(cx, &pod).await?;
    pods::log_has(cx, &name, CONTAINER, before, within).await?;
    let path = pods::path(cx, &name);
    cx.update(&path, |pod| {
        for (key, values) in change["metadata"].as_object().into_iter().flatten() {
            for (k, v) in values.as_object().into_iter().flatten() {
                pod["metadata"][key][k] = v.clone();
            }
        }
    })
    .await?;
    pods::log_has(cx, &name, CONTAINER, after, within).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_rounded_up_to_whole_units() {
        assert_eq!(whole("1250m").expect("an amount"), 2);
        assert_eq!(whole("2").expect("an amount"), 2);
        assert_eq!(whole("32Ki").expect("an amount"), 32768);
        assert!(whole("1Xi").is_err());
    }
}
