//! Volumes of ConfigMaps and Secrets, plain and projected: what a container finds in the files.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::Method;
use serde_json::{Value, json};

use crate::pods::{self, AGNHOST, BUSYBOX, uuid};
use crate::rest::Cx;

/// Names and habits of upstream's tests of one kind of volume.
pub struct Kind {
    secret: bool,
    projected: bool,
    /// Begin of the object's name.
    object: &'static str,
    pod: &'static str,
    volume: &'static str,
    container: &'static str,
    /// The container of the test with two volumes.
    multiple: &'static str,
    read_only: bool,
    grace: Option<i64>,
}

pub static CONFIG_MAP: Kind = Kind {
    secret: false,
    projected: false,
    object: "configmap-test-volume",
    pod: "pod-configmaps",
    volume: "configmap-volume",
    container: "agnhost-container",
    multiple: "configmap-volume-test",
    read_only: true,
    grace: Some(1),
};

pub static PROJECTED_CONFIG_MAP: Kind = Kind {
    secret: false,
    projected: true,
    object: "projected-configmap-test-volume",
    pod: "pod-projected-configmaps",
    volume: "projected-configmap-volume",
    container: "agnhost-container",
    multiple: "projected-configmap-volume-test",
    read_only: true,
    grace: Some(0),
};

pub static SECRET: Kind = Kind {
    secret: true,
    projected: false,
    object: "secret-test",
    pod: "pod-secrets",
    volume: "secret-volume",
    container: "secret-volume-test",
    multiple: "secret-volume-test",
    read_only: false,
    grace: None,
};

pub static PROJECTED_SECRET: Kind = Kind {
    secret: true,
    projected: true,
    object: "projected-secret-test",
    pod: "pod-projected-secrets",
    volume: "projected-secret-volume",
    container: "projected-secret-volume-test",
    multiple: "secret-volume-test",
    read_only: false,
    grace: None,
};

/// What a test of consumption varies.
#[derive(Clone, Copy, Default)]
pub struct Case {
    /// Items map a key to another path.
    pub mapped: bool,
    pub default_mode: Option<i64>,
    pub item_mode: Option<i64>,
    pub user: Option<i64>,
    pub fs_group: Option<i64>,
    /// The mode the container must see; none is `-rw-r--r--`.
    pub seen: Option<&'static str>,
}

// === Kind ===

impl Kind {
    /// The path of the collection.
    fn collection(&self, cx: &Cx) -> String {
        cx.core(if self.secret { "secrets" } else { "configmaps" })
    }

    fn value(&self, text: &str) -> Value {
        match self.secret {
            true => json!(BASE64.encode(text)),
            false => json!(text),
        }
    }

    fn new_object(&self, name: &str, data: &[(&str, &str)]) -> Value {
        let kind = if self.secret { "Secret" } else { "ConfigMap" };
        let data: serde_json::Map<String, Value> = data
            .iter()
            .map(|(k, v)| (k.to_string(), self.value(v)))
            .collect();
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "data": data})
    }

    async fn create(&self, cx: &Cx, name: &str, data: &[(&str, &str)]) -> Result<()> {
        let object = self.new_object(name, data);
        cx.ok(Method::POST, &self.collection(cx), &object).await?;
        Ok(())
    }

    /// The three values that most tests use; those of secrets end with a newline.
    async fn create_three(&self, cx: &Cx, name: &str) -> Result<()> {
        let data = match self.secret {
            false => [
                ("data-1", "value-1"),
                ("data-2", "value-2"),
                ("data-3", "value-3"),
            ],
            true => [
                ("data-1", "value-1\n"),
                ("data-2", "value-2\n"),
                ("data-3", "value-3\n"),
            ],
        };
        self.create(cx, name, &data).await
    }

    /// A volume that shows the object; `more` goes into the source.
    fn volume(&self, volume: &str, object: &str, more: Value, default_mode: Option<i64>) -> Value {
        let key = if self.secret { "secret" } else { "configMap" };
        let name = if self.secret && !self.projected {
            "secretName"
        } else {
            "name"
        };
        let mut source = json!({name: object});
        for (k, v) in more.as_object().into_iter().flatten() {
            source[k] = v.clone();
        }
        let (key, mut source) = match self.projected {
            true => ("projected", json!({"sources": [{key: source}]})),
            false => (key, source),
        };
        if let Some(mode) = default_mode {
            source["defaultMode"] = json!(mode);
        }
        json!({"name": volume, key: source})
    }

    fn mount_path(&self) -> String {
        format!("/etc/{}", self.volume)
    }
}

/// A container of the test server that has a volume.
fn reader(name: &str, args: &[String], mounts: Value) -> Value {
    json!({"name": name, "image": AGNHOST, "imagePullPolicy": "IfNotPresent", "args": args,
        "volumeMounts": mounts})
}

/// The pod of one container that shows a file's content and mode.
fn consumer(kind: &Kind, object: &str, case: &Case) -> (Value, String) {
    let (key, file) = match (case.mapped, kind.secret) {
        (false, _) => ("data-1", "data-1"),
        (true, false) => ("data-2", "path/to/data-2"),
        (true, true) => ("data-1", "new-path-data-1"),
    };
    let mut more = json!({});
    if case.mapped {
        more["items"] = json!([{"key": key, "path": file}]);
    }
    if let Some(mode) = case.item_mode {
        more["items"][0]["mode"] = json!(mode);
    }
    let path = format!("{}/{file}", kind.mount_path());
    let args = [
        "mounttest".to_string(),
        format!("--file_content={path}"),
        format!("--file_mode={path}"),
    ];
    let mounts =
        json!([{"name": kind.volume, "mountPath": kind.mount_path(), "readOnly": kind.read_only}]);
    let mut pod = pods::pod(
        &format!("{}-{}", kind.pod, uuid()),
        json!({"restartPolicy": "Never", "securityContext": {},
            "volumes": [kind.volume(kind.volume, object, more, case.default_mode)],
            "containers": [reader(kind.container, &args, mounts)]}),
    );
    if let Some(user) = case.user {
        pod["spec"]["securityContext"]["runAsUser"] = json!(user);
    }
    if let Some(group) = case.fs_group {
        pod["spec"]["securityContext"]["fsGroup"] = json!(group);
    }
    if let Some(grace) = kind.grace {
        pod["spec"]["terminationGracePeriodSeconds"] = json!(grace);
    }
    (pod, path)
}

/// A file's content and mode are as the object and the volume say.
pub async fn consumable(cx: Cx, kind: &Kind, case: Case) -> Result<()> {
    let map = if case.mapped { "-map" } else { "" };
    let object = format!("{}{map}-{}", kind.object, uuid());
    kind.create_three(&cx, &object).await?;
    seen(&cx, kind, &object, &case).await
}

async fn seen(cx: &Cx, kind: &Kind, object: &str, case: &Case) -> Result<()> {
    let (pod, path) = consumer(kind, object, case);
    let value = if case.mapped && !kind.secret {
        "value-2"
    } else {
        "value-1"
    };
    let content = format!("content of file \"{path}\": {value}");
    let mode = format!(
        "mode of file \"{path}\": {}",
        case.seen.unwrap_or("-rw-r--r--")
    );
    pods::output(cx, &pod, kind.container, &[&content, &mode]).await
}

/// Upstream sets the volume's mode, although its name says the item's; both must work.
pub async fn projected_item_mode(cx: Cx, kind: &Kind) -> Result<()> {
    let seen = Some("-r--------");
    let case = Case {
        mapped: true,
        seen,
        ..Case::default()
    };
    consumable(
        cx.clone(),
        kind,
        Case {
            default_mode: Some(0o400),
            ..case
        },
    )
    .await?;
    consumable(
        cx,
        kind,
        Case {
            item_mode: Some(0o400),
            ..case
        },
    )
    .await
}

/// A secret of the same name in another namespace does not matter.
pub async fn other_namespace(cx: Cx) -> Result<()> {
    let object = format!("{}-{}", SECRET.object, uuid());
    let other = Cx::new(cx.client.clone(), "secret-namespace").await?;
    let foreign = [(
        "this_should_not_match_content_of_other_secret",
        "similarly_this_should_not_match_content_of_other_secret\n",
    )];
    SECRET.create(&other, &object, &foreign).await?;
    SECRET.create_three(&cx, &object).await?;
    let done = seen(&cx, &SECRET, &object, &Case::default()).await;
    cx.delete(&format!("/api/v1/namespaces/{}", other.namespace))
        .await?;
    done
}

/// One object in two volumes of a pod.
pub async fn multiple_volumes(cx: Cx, kind: &Kind) -> Result<()> {
    let object = format!("{}-{}", kind.object, uuid());
    kind.create_three(&cx, &object).await?;
    let second = format!("{}-2", kind.volume);
    let file = format!("{}/data-1", kind.mount_path());
    let mut args = vec!["mounttest".to_string(), format!("--file_content={file}")];
    let content = format!("content of file \"{file}\": value-1");
    let mode = format!("mode of file \"{file}\": -rw-r--r--");
    let mut texts = vec![content.as_str()];
    if kind.secret {
        args.push(format!("--file_mode={file}"));
        texts.push(&mode);
    }
    let mounts = json!([
        {"name": kind.volume, "mountPath": kind.mount_path(), "readOnly": true},
        {"name": second, "mountPath": format!("/etc/{second}"), "readOnly": true}]);
    let pod = pods::pod(
        &format!("{}-{}", kind.pod, uuid()),
        json!({"restartPolicy": "Never",
            "volumes": [kind.volume(kind.volume, &object, json!({}), None),
                kind.volume(&second, &object, json!({}), None)],
            "containers": [reader(kind.multiple, &args, mounts)]}),
    );
    pods::output(&cx, &pod, kind.multiple, &texts).await
}

/// How long a change may take to be seen, and how long the readers live.
async fn window(cx: &Cx) -> Result<u64> {
    let nodes = cx.get("/api/v1/nodes").await?;
    let node = nodes["items"].get(0).context("a node")?;
    let ttl = node["metadata"]["annotations"]["node.alpha.kubernetes.io/ttl"].as_str();
    Ok(240 + ttl.map_or(Ok(0), str::parse::<u64>)?)
}

fn loop_args(seconds: u64, file: &str) -> [String; 4] {
    [
        "mounttest".to_string(),
        "--break_on_expected_content=false".to_string(),
        format!("--retry_time={seconds}"),
        format!("--file_content_in_loop={file}"),
    ]
}

/// A changed ConfigMap is seen by a running container.
pub async fn updates(cx: Cx, kind: &Kind) -> Result<()> {
    let object = format!("{}-{}", kind.object.replace("-volume", "-upd"), uuid());
    kind.create(&cx, &object, &[("data-1", "value-1")]).await?;
    let seconds = window(&cx).await?;
    let within = Duration::from_secs(seconds);
    let file = format!("{}/data-1", kind.mount_path());
    let mounts = json!([{"name": kind.volume, "mountPath": kind.mount_path(), "readOnly": true}]);
    let pod = pods::pod(
        &format!("{}-{}", kind.pod, uuid()),
        json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "volumes": [kind.volume(kind.volume, &object, json!({}), None)],
            "containers": [reader(kind.container, &loop_args(seconds, &file), mounts)]}),
    );
    let pod = pods::create_ready(&cx, &pod).await?;
    let pod = pods::name(&pod);
    pods::log_has(&cx, pod, kind.container, "value-1", within).await?;
    let path = format!("{}/{object}", kind.collection(&cx));
    let changed = kind.new_object(&object, &[("data-1", "value-2")]);
    cx.ok(Method::PUT, &path, &changed).await?;
    pods::log_has(&cx, pod, kind.container, "value-2", within).await
}

/// Bytes that are no text are shown as they are.
pub async fn binary_data(cx: Cx) -> Result<()> {
    let kind = &CONFIG_MAP;
    let object = format!("configmap-test-upd-{}", uuid());
    let mut map = kind.new_object(&object, &[("data-1", "value-1")]);
    map["binaryData"] = json!({"dump.bin": "3sr+utD+/w=="});
    cx.ok(Method::POST, &kind.collection(&cx), &map).await?;
    let seconds = window(&cx).await?;
    let within = Duration::from_secs(seconds);
    let mounts = json!([{"name": kind.volume, "mountPath": kind.mount_path(), "readOnly": true}]);
    let args = loop_args(seconds, "/etc/configmap-volume/data-1");
    let dump = json!({"name": "configmap-volume-binary-test", "image": BUSYBOX, "volumeMounts": mounts,
        "command": ["hexdump", "-C", "/etc/configmap-volume/dump.bin"]});
    let pod = pods::pod(
        &format!("{}-{}", kind.pod, uuid()),
        json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "volumes": [kind.volume(kind.volume, &object, json!({}), None)],
            "containers": [reader(kind.container, &args, mounts), dump]}),
    );
    let pod = pods::create(&cx, &pod).await?;
    let pod = pods::name(&pod);
    pods::running(&cx, pod, pods::START).await?;
    pods::log_has(&cx, pod, kind.container, "value-1", within).await?;
    let bytes = "de ca fe ba d0 fe ff";
    pods::log_has(&cx, pod, "configmap-volume-binary-test", bytes, within).await
}

/// Objects that a volume does not insist on come, change and go while a pod runs.
pub async fn optional_updates(cx: Cx, kind: &Kind) -> Result<()> {
    let (short, s) = if kind.secret {
        ("s", "s")
    } else {
        ("cm", "cm")
    };
    let [deleted, updated, created] =
        ["del", "upd", "create"].map(|what| format!("{short}-test-opt-{what}-{}", uuid()));
    kind.create(&cx, &deleted, &[("data-1", "value-1")]).await?;
    kind.create(&cx, &updated, &[("data-1", "value-1")]).await?;
    let root = format!("{}s", kind.mount_path());
    let seconds = window(&cx).await?;
    let (mut volumes, mut containers) = (Vec::new(), Vec::new());
    for (what, container, object, file) in [
        ("delete", format!("del{s}-volume-test"), &deleted, "data-1"),
        ("update", format!("upd{s}-volume-test"), &updated, "data-3"),
        (
            "create",
            format!("create{s}-volume-test"),
            &created,
            "data-1",
        ),
    ] {
        let volume = format!("{what}{s}-volume");
        volumes.push(kind.volume(&volume, object, json!({"optional": true}), None));
        let place = format!("{root}/{what}");
        let args = loop_args(seconds, &format!("{place}/{file}"));
        let mounts = json!([{"name": volume, "mountPath": place, "readOnly": true}]);
        containers.push(reader(&container, &args, mounts));
    }
    let pod = pods::pod(
        &format!("{}-{}", kind.pod, uuid()),
        json!({"restartPolicy": "Never", "volumes": volumes, "containers": containers}),
    );
    let pod = pods::create_ready(&cx, &pod).await?;
    let pod = pods::name(&pod);
    let [del, upd, create] = ["del", "upd", "create"].map(|what| format!("{what}{s}-volume-test"));
    let within = Duration::from_secs(seconds);
    let missing = |file: &str| format!("Error reading file {root}/{file}");
    pods::log_has(&cx, pod, &create, &missing("create/data-1"), within).await?;
    pods::log_has(&cx, pod, &upd, &missing("update/data-3"), within).await?;
    pods::log_has(&cx, pod, &del, "value-1", within).await?;
    let all = kind.collection(&cx);
    cx.delete(&format!("{all}/{deleted}")).await?;
    let changed = kind.new_object(&updated, &[("data-3", "value-3")]);
    cx.ok(Method::PUT, &format!("{all}/{updated}"), &changed)
        .await?;
    kind.create(&cx, &created, &[("data-1", "value-1")]).await?;
    pods::log_has(&cx, pod, &create, "value-1", within).await?;
    pods::log_has(&cx, pod, &upd, "value-3", within).await?;
    pods::log_has(&cx, pod, &del, &missing("delete/data-1"), within).await
}

/// ConfigMap, Secret and downward API in one volume.
pub async fn combined(cx: Cx) -> Result<()> {
    let id = uuid();
    let map = format!("configmap-projected-all-test-volume-{id}");
    let secret = format!("secret-projected-all-test-volume-{id}");
    CONFIG_MAP
        .create(&cx, &map, &[("configmap-data", "configmap-value-1")])
        .await?;
    SECRET
        .create(&cx, &secret, &[("secret-data", "secret-value-1")])
        .await?;
    let name = format!("projected-volume-{id}");
    let sources = json!([
        {"downwardAPI": {"items": [{"path": "podname", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}]}},
        {"secret": {"name": secret}},
        {"configMap": {"name": map}}]);
    let pod = pods::pod(
        &name,
        json!({"restartPolicy": "Never", "volumes": [{"name": "podinfo", "projected": {"sources": sources}}],
            "containers": [{"name": "projected-all-volume-test", "image": BUSYBOX,
                "command": ["sh", "-c", "cat /all/podname && cat /all/secret-data && cat /all/configmap-data"],
                "volumeMounts": [{"name": "podinfo", "mountPath": "/all"}]}]}),
    );
    let texts = [name.as_str(), "secret-value-1", "configmap-value-1"];
    pods::output(&cx, &pod, "projected-all-volume-test", &texts).await
}
