//! Twins of projected_clustertrustbundle.go.

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use crate::certs;
use crate::exercise::Exercise;
use crate::images::AGNHOST_IMAGE;
use crate::rest::Cx;
use crate::waits;

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] CRUD Tests certificates.k8s.io/v1 ClusterTrustBundles [MinimumKubeletVersion:1.37] [Conformance]",
        "projected-clustertrustbundle",
        crud
    ),
    twin!(
        "[sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should be able to mount a single ClusterTrustBundle by name [MinimumKubeletVersion:1.37] [Conformance]",
        "projected-clustertrustbundle",
        by_name
    ),
    twin!(
        "[sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should be able to specify multiple CTB volumes [MinimumKubeletVersion:1.37] [Conformance]",
        "projected-clustertrustbundle",
        many_volumes
    ),
    twin!(
        "[sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should be able to mount a big number (>100) of CTBs [MinimumKubeletVersion:1.37] [Conformance]",
        "projected-clustertrustbundle",
        hundreds
    ),
    twin!(
        "[sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should be capable to mount multiple trust bundles by signer+labels can combine multiple CTBs with signer name and label selector [MinimumKubeletVersion:1.37] [Conformance]",
        "projected-clustertrustbundle",
        by_label
    ),
    twin!(
        "[sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should be capable to mount multiple trust bundles by signer+labels should start if only signer name and nil label selector + optional=true [MinimumKubeletVersion:1.37] [Conformance]",
        "projected-clustertrustbundle",
        nil_selector
    ),
    twin!(
        "[sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should be capable to mount multiple trust bundles by signer+labels should start if only signer name and explicit label selector matches nothing + optional=true [MinimumKubeletVersion:1.37] [Conformance]",
        "projected-clustertrustbundle",
        matches_nothing
    ),
    twin!(
        "[sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should be capable to mount multiple trust bundles by signer+labels can combine all signer CTBs with an empty label selector [MinimumKubeletVersion:1.37] [Conformance]",
        "projected-clustertrustbundle",
        empty_selector
    ),
    twin!(
        "[sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should prevent a pod from starting if: sets optional=false and no trust bundle matches query [MinimumKubeletVersion:1.37] [Conformance]",
        "projected-clustertrustbundle",
        prevented_by_query
    ),
    twin!(
        "[sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should prevent a pod from starting if: sets optional=false and the configured CTB does not exist [MinimumKubeletVersion:1.37] [Conformance]",
        "projected-clustertrustbundle",
        prevented_by_name
    ),
];

const V1: &str = "certificates.k8s.io/v1";
const ALL: &str = "/apis/certificates.k8s.io/v1/clustertrustbundles";

async fn crud(cx: Cx) -> Result<()> {
    let (first, second) = (certs::authority("first")?, certs::authority("second")?);
    let exercise = Exercise {
        group: V1,
        plural: "clustertrustbundles",
        kind: "ClusterTrustBundle",
        namespaced: false,
        name: format!("test-{}", cx.namespace),
        object: json!({"spec": {"trustBundle": first}}),
        update: json!({"spec": {"trustBundle": second}}),
        json_patch: json!([{"op": "replace", "path": "/spec/trustBundle", "value": second}]),
        status: None,
        status_json_patch: Value::Null,
    };
    exercise.run(&cx).await
}

fn one(cx: &Cx) -> String {
    format!("test.test/signer-one{}", cx.namespace)
}

fn four(cx: &Cx) -> String {
    format!("test.test.signer-one.4{}", cx.namespace)
}

/// Makes the ten bundles; their certificates.
async fn bundles(cx: &Cx) -> Result<Vec<String>> {
    let mut roots = Vec::new();
    for i in 0..10 {
        let signer = match i {
            4 => None,
            5 => Some("two"),
            _ => Some("one"),
        };
        let labels = match i {
            1..=5 => json!({"signer.alive": "true"}),
            6 | 7 => json!({"signer.alive": "false"}),
            _ => json!({}),
        };
        let root = certs::authority(&format!("root{i}"))?;
        let mut object = json!({"apiVersion": V1, "kind": "ClusterTrustBundle",
            "metadata": {"name": four(cx), "labels": labels}, "spec": {"trustBundle": root}});
        if let Some(signer) = signer {
            let unique = &cx.namespace;
            object["spec"]["signerName"] = json!(format!("test.test/signer-{signer}{unique}"));
            object["metadata"]["name"] = json!(format!("test.test:signer-{signer}{unique}:{i}"));
        }
        let made = cx.ok(Method::POST, ALL, &object).await?;
        cx.clean(format!("{ALL}/{}", waits::name(&made)));
        roots.push(root);
    }
    Ok(roots)
}

fn container(i: usize) -> String {
    format!("projected-ctb-volume-test-{i}")
}

/// A pod with a volume and a container for each source.
fn pod(sources: &[Value]) -> Value {
    let volume = |(i, source): (usize, &Value)| {
        json!({"name": format!("ctb-volume-{i}"),
            "projected": {"sources": [{"clusterTrustBundle": source}]}})
    };
    let show = |(i, source): (usize, &Value)| {
        let path = format!(
            "/var/run/ctbtest/{}",
            source["path"].as_str().unwrap_or_default()
        );
        json!({"name": container(i), "image": AGNHOST_IMAGE,
            "args": ["mounttest", format!("--file_content={path}"), format!("--file_mode={path}")],
            "volumeMounts": [{"name": format!("ctb-volume-{i}"), "mountPath": "/var/run/ctbtest"}]})
    };
    let volumes: Vec<Value> = sources.iter().enumerate().map(volume).collect();
    let containers: Vec<Value> = sources.iter().enumerate().map(show).collect();
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-projected-ctb-{}", uuid::Uuid::new_v4())},
        "spec": {"restartPolicy": "Never", "containers": containers, "volumes": volumes}})
}

/// Runs a pod; each container must show the certificates, or an empty file where there are none.
async fn shows(cx: &Cx, sources: &[Value], wanted: &[Vec<&String>]) -> Result<()> {
    let pod = pod(sources);
    let name = waits::name(&pod);
    cx.ok(Method::POST, &cx.core("pods"), &pod).await?;
    waits::succeeded(cx, name).await?;
    for (i, (source, roots)) in sources.iter().zip(wanted).enumerate() {
        let log = waits::log(cx, name, &container(i)).await?;
        let path = format!(
            "/var/run/ctbtest/{}",
            source["path"].as_str().unwrap_or_default()
        );
        let mode = format!("mode of file \"{path}\": -rw-r--r--");
        ensure!(log.contains(&mode), "{log}");
        for root in roots {
            ensure!(log.contains(root.as_str()), "{log} lacks {root}");
        }
        if roots.is_empty() {
            let empty = format!("content of file \"{path}\": ");
            let rest = log.split_once(&empty).map(|(_, rest)| rest);
            ensure!(
                rest.is_some_and(|r| r.trim_end_matches('\n').is_empty()),
                "{log}"
            );
        }
    }
    let path = cx.core(&format!("pods/{name}"));
    cx.delete(&path).await?;
    cx.gone(&path, waits::POD_DELETE).await
}

async fn by_name(cx: Cx) -> Result<()> {
    let roots = bundles(&cx).await?;
    let path = "trust-anchors.pem";
    let source = json!({"name": four(&cx), "path": path});
    shows(&cx, &[source], &[vec![&roots[4]]]).await?;
    let source = json!({"name": "does-not-exist.at.all", "optional": true, "path": path});
    shows(&cx, &[source], &[vec![]]).await
}

async fn many_volumes(cx: Cx) -> Result<()> {
    let roots = bundles(&cx).await?;
    let dead = json!({"matchLabels": {"signer.alive": "false"}});
    let sources = [
        json!({"name": four(&cx), "path": "trust-anchors.pem"}),
        json!({"signerName": one(&cx), "labelSelector": dead, "path": "trust-bundle.crt"}),
    ];
    let wanted = [vec![&roots[4]], vec![&roots[6], &roots[7]]];
    shows(&cx, &sources, &wanted).await
}

/// Bundles beyond a hundred.
const MANY: usize = 150;

/// A bundle in many sources of one volume, in many volumes, and many bundles in one file.
async fn hundreds(cx: Cx) -> Result<()> {
    bundles(&cx).await?;
    let unique = &cx.namespace;
    let name = |i: usize| format!("test.test:signer-hundreds{unique}:{i}");
    let signer = format!("test.test/signer-hundreds{unique}");
    let mut roots = Vec::new();
    for i in 0..MANY {
        let root = certs::authority(&format!("hundreds{i}"))?;
        let object = json!({"apiVersion": V1, "kind": "ClusterTrustBundle", "metadata": {"name": name(i)},
            "spec": {"signerName": signer, "trustBundle": root}});
        cx.ok(Method::POST, ALL, &object).await?;
        cx.clean(format!("{ALL}/{}", name(i)));
        roots.push(root);
    }
    let source = |i: usize| json!({"name": name(i), "path": format!("trust-anchors-{i}.pem")});
    let chosen = rand::random_range(0..MANY);
    let shown = |dir: &str| format!("{dir}/trust-anchors-{chosen}.pem");
    let sources: Vec<Value> = (0..MANY)
        .map(|i| json!({"clusterTrustBundle": source(i)}))
        .collect();
    let one = json!({"name": "ctb-volume", "projected": {"sources": sources}});
    let mount = json!({"name": "ctb-volume", "mountPath": "/var/run/ctbtest"});
    let wanted = [&roots[chosen]];
    reads(
        &cx,
        json!([one]),
        json!([mount]),
        &shown("/var/run/ctbtest"),
        &wanted,
    )
    .await?;

    let volume = |i: usize| json!({"name": format!("ctb-volume-{i}"), "projected": {"sources": [{"clusterTrustBundle": source(i)}]}});
    let dir = |i: usize| format!("/var/run/ctbtest-{i}");
    let mount = |i: usize| json!({"name": format!("ctb-volume-{i}"), "mountPath": dir(i)});
    let volumes: Vec<Value> = (0..MANY).map(volume).collect();
    let mounts: Vec<Value> = (0..MANY).map(mount).collect();
    reads(
        &cx,
        json!(volumes),
        json!(mounts),
        &shown(&dir(chosen)),
        &wanted,
    )
    .await?;

    let all: Vec<&String> = roots.iter().collect();
    let source = json!({"signerName": signer, "labelSelector": {}, "path": "trust-anchors.pem"});
    shows(&cx, &[source], &[all]).await
}

/// A container with these volumes shows certificates in a file.
async fn reads(
    cx: &Cx,
    volumes: Value,
    mounts: Value,
    path: &str,
    roots: &[&String],
) -> Result<()> {
    let name = format!("pod-projected-ctb-{}", uuid::Uuid::new_v4());
    let args = json!([
        "mounttest",
        format!("--file_content={path}"),
        format!("--file_mode={path}")
    ]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "volumes": volumes, "containers": [
            {"name": container(0), "image": AGNHOST_IMAGE, "args": args, "volumeMounts": mounts}]}});
    cx.ok(Method::POST, &cx.core("pods"), &pod).await?;
    waits::succeeded(cx, &name).await?;
    let log = waits::log(cx, &name, &container(0)).await?;
    let mode = format!("mode of file \"{path}\": -rw-r--r--");
    ensure!(log.contains(&mode), "{log}");
    for root in roots {
        ensure!(log.contains(root.as_str()), "{log} lacks {root}");
    }
    let path = cx.core(&format!("pods/{name}"));
    cx.delete(&path).await?;
    cx.gone(&path, waits::POD_DELETE).await
}

/// One source of signer one with further parameters.
async fn signer(cx: &Cx, more: Value, wanted: &[usize]) -> Result<()> {
    let roots = bundles(cx).await?;
    let mut source = json!({"signerName": one(cx), "path": "trust-bundle.crt"});
    crate::operations::merge(&mut source, &more);
    let wanted = wanted.iter().map(|i| &roots[*i]).collect();
    shows(cx, &[source], &[wanted]).await
}

async fn by_label(cx: Cx) -> Result<()> {
    let alive = json!({"labelSelector": {"matchLabels": {"signer.alive": "true"}}});
    signer(&cx, alive, &[1, 2, 3]).await
}

async fn nil_selector(cx: Cx) -> Result<()> {
    signer(&cx, json!({"optional": true}), &[]).await
}

async fn matches_nothing(cx: Cx) -> Result<()> {
    let selector =
        json!({"optional": true, "labelSelector": {"matchLabels": {"thismatches": "nothing"}}});
    signer(&cx, selector, &[]).await
}

async fn empty_selector(cx: Cx) -> Result<()> {
    signer(&cx, json!({"labelSelector": {}}), &[0, 1, 2, 3, 6, 7, 8, 9]).await
}

/// A pod with a source that nothing fulfils does not start, and says so.
async fn prevented(cx: &Cx, source: Value) -> Result<()> {
    bundles(cx).await?;
    let pod = pod(&[source]);
    let path = cx.core(&format!("pods/{}", waits::name(&pod)));
    cx.ok(Method::POST, &cx.core("pods"), &pod).await?;
    for _ in 0..10 {
        let found = cx.get(&path).await?;
        ensure!(found["status"]["phase"] != "Running", "{found}");
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    let found = cx.get(&path).await?;
    let ready = waits::condition(&found, "Ready")
        .cloned()
        .unwrap_or_default();
    let message = "containers with unready status: [projected-ctb-volume-test-0]";
    ensure!(
        ready["status"] == "False"
            && ready["reason"] == "ContainersNotReady"
            && ready["message"] == message,
        "{found}"
    );
    Ok(())
}

async fn prevented_by_query(cx: Cx) -> Result<()> {
    let unknown = json!({"matchLabels": {"signer.alive": "unknown"}});
    let source = json!({"signerName": one(&cx), "labelSelector": unknown, "optional": false,
        "path": "trust-bundle.crt"});
    prevented(&cx, source).await
}

async fn prevented_by_name(cx: Cx) -> Result<()> {
    let source = json!({"name": "does-not-exist", "optional": false, "path": "trust-bundle.crt"});
    prevented(&cx, source).await
}
