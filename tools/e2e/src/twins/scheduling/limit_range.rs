//! LimitRange.

use super::*;

/// cpu, memory and ephemeral-storage.
fn amounts(text: &str) -> Value {
    let mut parts = text.split('/');
    let mut next = || parts.next().unwrap_or_default().to_string();
    json!({"cpu": next(), "memory": next(), "ephemeral-storage": next()})
}

fn limit_range(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": name, "labels": labels},
        "spec": {"limits": [item()]}})
}

fn item() -> Value {
    json!({"type": "Container",
        "min": amounts("50m/100Mi/100Gi"),
        "max": amounts("500m/500Mi/500Gi"),
        "default": amounts("500m/500Mi/500Gi"),
        "defaultRequest": amounts("100m/200Mi/200Gi"),
        "maxLimitRequestRatio": {}})
}

fn pod(name: &str, requests: Value, limits: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "pause", "image": PAUSE,
            "resources": {"requests": requests, "limits": limits}}]}})
}

async fn check_pod(cx: &Cx, pod: &Value, requests: &str, limits: &str) -> Result<()> {
    create_pod(cx, pod).await?;
    let found = cx.get(&cx.core(&format!("pods/{}", name(pod)))).await?;
    let resources = &found["spec"]["containers"][0]["resources"];
    ensure!(resources["requests"] == amounts(requests), "{resources}");
    ensure!(resources["limits"] == amounts(limits), "{resources}");
    Ok(())
}

pub async fn limit_range_defaults(cx: Cx) -> Result<()> {
    let ranges = cx.core("limitranges");
    let time = uuid();
    let selector = format!("labelSelector=time%3D{time}");
    let selected = format!("{ranges}?{selector}");
    let before = cx.get(&selected).await?;
    ensure!(before["items"] == json!([]), "{before}");
    let from = before["metadata"]["resourceVersion"].as_str().unwrap_or("");
    let mut watch = cx
        .watch(&ranges, &format!("{selector}&resourceVersion={from}"))
        .await?;
    let object = limit_range("limit-range", json!({"time": time}));
    cx.ok(Method::POST, &ranges, &object).await?;
    let (kind, _) = watch.next(Duration::from_secs(120)).await?;
    ensure!(kind == "ADDED", "got {kind}");
    let path = format!("{ranges}/limit-range");
    let found = cx.get(&path).await?;
    for key in ["default", "defaultRequest"] {
        let (is, wanted) = (&found["spec"]["limits"][0][key], &item()[key]);
        ensure!(is == wanted, "{key} is {is}");
    }
    check_pod(
        &cx,
        &pod("pod-no-resources", json!({}), json!({})),
        "100m/200Mi/200Gi",
        "500m/500Mi/500Gi",
    )
    .await?;
    let partial = json!({"memory": "150Mi", "ephemeral-storage": "150Gi"});
    check_pod(
        &cx,
        &pod("pod-partial-resources", partial, json!({"cpu": "300m"})),
        "300m/150Mi/150Gi",
        "300m/500Mi/500Gi",
    )
    .await?;
    let small = |name| pod(name, amounts("10m/50Mi/50Gi"), json!({}));
    let large = |name| pod(name, amounts("600m/600Mi/600Gi"), json!({}));
    let pods = cx.core("pods");
    cx.refused(Method::POST, &pods, &small("pfpod")).await?;
    cx.refused(Method::POST, &pods, &large("pfpod")).await?;
    let min = amounts("9m/49Mi/49Gi");
    cx.update(&path, |o| o["spec"]["limits"][0]["min"] = min.clone())
        .await?;
    cx.eventually(POLL, Duration::from_secs(20), "the new minimum", || async {
        Ok(cx.get(&path).await?["spec"]["limits"][0]["min"] == min)
    })
    .await?;
    cx.ok(Method::POST, &pods, &small("pfpod")).await?;
    cx.refused(Method::POST, &pods, &large("pfpod")).await?;
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 30});
    cx.ok(Method::DELETE, &path, &options).await?;
    let five = Duration::from_secs(5);
    cx.eventually(five, Duration::from_secs(120), "no limit range", || async {
        Ok(cx.get(&selected).await?["items"] == json!([]))
    })
    .await?;
    cx.eventually(
        five,
        Duration::from_secs(30),
        "a large pod accepted",
        || async {
            let sent = cx
                .send(
                    Method::POST,
                    &pods,
                    "application/json",
                    Some(&large("pfpod2")),
                )
                .await?;
            Ok(sent.is_ok())
        },
    )
    .await
}

pub async fn limit_range_collection(cx: Cx) -> Result<()> {
    let other = cx.another("limitrange", json!({})).await?;
    let random = uuid();
    let name = format!("e2e-limitrange-{}", &random[..5]);
    let labels = json!({"e2e-test": name, name.as_str(): "created"});
    let count = |path: String| {
        let cx = cx.clone();
        async move {
            let list = cx.get(&path).await?;
            anyhow::Ok(list["items"].as_array().map_or(0, Vec::len))
        }
    };
    for cx in [&cx, &other] {
        let object = limit_range(&name, labels.clone());
        let made = cx
            .ok(Method::POST, &cx.core("limitranges"), &object)
            .await?;
        version(&made)?;
    }
    let everywhere = format!("/api/v1/limitranges?labelSelector=e2e-test%3D{name}");
    ensure!(
        count(everywhere.clone()).await? == 2,
        "not two limit ranges"
    );
    let path = cx.core(&format!("limitranges/{name}"));
    let before = cx.get(&path).await?;
    let mut item = item();
    item["min"] = amounts("9m/49Mi/49Gi");
    let patch = json!({
        "metadata": {"creationTimestamp": before["metadata"]["creationTimestamp"], "labels": {name.as_str(): "patched"}},
        "spec": {"limits": [item]},
    });
    let patched = cx.patch(&path, "strategic-merge", &patch).await?;
    ensure!(
        patched["metadata"]["labels"][&name] == "patched",
        "{patched}"
    );
    ensure!(
        patched["spec"]["limits"][0]["min"] == item["min"],
        "{patched}"
    );
    ensure!(
        version(&patched)? > version(&before)?,
        "the version did not grow"
    );
    let here = cx.core(&format!("limitranges?labelSelector={name}%3Dpatched"));
    cx.delete(&here).await?;
    let second = Duration::from_secs(1);
    cx.eventually(second, second * 10, "no limit range here", || async {
        Ok(count(here.clone()).await? == 0)
    })
    .await?;
    ensure!(count(everywhere).await? == 1, "not one limit range left");
    other
        .delete(&format!("/api/v1/namespaces/{}", other.namespace))
        .await?;
    Ok(())
}
