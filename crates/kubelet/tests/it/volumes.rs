//! Volumes that need the kernel: tmpfs and bind mounts.

use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::Env;

fn may_mount() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let may = linux::volume::mount_tmpfs(dir.path(), "size=4096").is_ok();
    if may {
        linux::volume::unmount(dir.path()).unwrap();
    } else {
        eprintln!("SKIPPED: mounts need privileges");
    }
    may
}

#[tokio::test]
async fn secrets_tokens_and_sub_paths_come_and_go() {
    if !may_mount() {
        return;
    }
    let env = Env::start().await;
    let secret = json!({"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","namespace":"ns"},"data":{"k":"djE="}});
    env.api.put("secrets", secret);
    let pod = json!({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"ns","uid":"u1","generation":1,
            "labels":{"app":"web"}},
        "spec":{"nodeName":"n1","serviceAccountName":"sa","securityContext":{"fsGroup":1234},
        "volumes":[
            {"name":"s","secret":{"secretName":"s","defaultMode":256}},
            {"name":"all","projected":{"sources":[
                {"serviceAccountToken":{"path":"token"}},
                {"downwardAPI":{"items":[{"path":"labels","fieldRef":{"fieldPath":"metadata.labels"}}]}}]}},
            {"name":"m","emptyDir":{"medium":"Memory","sizeLimit":"1Mi"}}],
        "containers":[{"name":"a","image":"img","env":[{"name":"N","value":"sub"}],"volumeMounts":[
            {"name":"s","mountPath":"/s"},{"name":"all","mountPath":"/all"},
            {"name":"m","mountPath":"/m"},{"name":"m","mountPath":"/sub","subPathExpr":"deep/$(N)"}]}]},
        "status":{"phase":"Pending"}});
    env.api.put("pods", pod);
    env.phase("Running").await;
    let config = env.runtime.config("a");
    let at = |path: &str| {
        let found = config.mounts.iter().find(|m| m.container_path == path);
        std::path::PathBuf::from(&found.unwrap().host_path)
    };
    for mounted in ["/s", "/all", "/m", "/sub"] {
        assert!(
            linux::volume::is_mount_point(&at(mounted)).unwrap(),
            "{mounted}"
        );
    }
    let key = std::fs::metadata(at("/s").join("k")).unwrap();
    assert_eq!((key.mode() & 0o777, key.gid()), (0o440, 1234));
    assert_eq!(
        std::fs::read_to_string(at("/all").join("token")).unwrap(),
        "token-of-sa"
    );
    assert_eq!(
        std::fs::read_to_string(at("/all").join("labels")).unwrap(),
        "app=\"web\""
    );
    std::fs::write(at("/sub").join("f"), "x").unwrap();
    assert!(at("/m").join("deep/sub/f").exists());
    env.api.delete_pod("p", 1);
    env.until("gone", || env.api.get("pods", "ns", "p").is_none())
        .await;
    assert!(
        linux::volume::mounts_below(env.dir.path())
            .unwrap()
            .is_empty()
    );
}
