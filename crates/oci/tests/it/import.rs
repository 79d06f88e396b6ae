//! Archives.

use std::path::Path;

use oci::{Digest, ImageStore, StoreOptions};
use serde_json::json;

use crate::archive::{image, image_for, index, layer, layout, root, tar_of, write};

fn open(dir: &Path) -> ImageStore {
    ImageStore::open(&dir.join("store"), StoreOptions::default()).unwrap()
}

fn layers(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("store/layers")).unwrap().count()
}

#[tokio::test]
async fn a_layout_is_imported_and_kept_across_a_restart() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let base = layer("base", b"1");
    let (a, b) = (
        image(&[base.clone(), layer("a", b"a")]),
        image(&[base, layer("b", b"b")]),
    );
    let other = image_for("s390x", &[layer("no", b"")]);
    // One by an index of two platforms, one directly, by their two annotations.
    let list = index(vec![other.entry(json!(null)), a.entry(json!(null))]);
    let by_index = json!({"mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": Digest::of(&list).to_string(), "size": list.len(),
        "annotations": {"io.containerd.image.name": "q.io/a:1", "org.opencontainers.image.ref.name": "1"}});
    let by_name = b.entry(json!({"org.opencontainers.image.ref.name": "b:2"}));
    let mut blobs = a.blobs();
    blobs.extend(b.blobs());
    blobs.push(&list);
    let path = dir.path().join("x.tar.gz");
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gz, &layout(vec![by_index, by_name], &blobs)).unwrap();
    write(&path, &gz.finish().unwrap());

    let store = open(dir.path());
    assert_eq!(
        store.import(&path).await.unwrap(),
        ["q.io/a:1", "docker.io/library/b:2"]
    );
    drop(store);
    let store = open(dir.path());
    let found = store.resolve("q.io/a:1").unwrap();
    assert_eq!(found.id, a.id());
    assert_eq!(
        found.digest_reference,
        format!("q.io/a@{}", Digest::of(&list))
    );
    assert_eq!(
        found.config.config().as_ref().unwrap().user().as_deref(),
        Some("1000")
    );
    assert_eq!(std::fs::read(found.layers[1].join("a")).unwrap(), b"a");
    let second = store.resolve("b:2").unwrap();
    assert_eq!(
        found.layers[0], second.layers[0],
        "the common layer is there once"
    );
    assert_eq!(layers(dir.path()), 3);
    assert!(store.resolve(&second.id[..20]).is_some());
    assert!(store.resolve("q.io/a:2").is_none());

    // What is removed goes, what another image or a container has stays.
    store.lease("container-1", &found).unwrap();
    store.remove("q.io/a:1").await.unwrap();
    store.remove("q.io/a:1").await.unwrap();
    assert_eq!(layers(dir.path()), 3);
    drop(store);
    let store = open(dir.path());
    assert_eq!(layers(dir.path()), 3, "a lease outlives the process");
    store.release("container-1").unwrap();
    assert_eq!(layers(dir.path()), 2);
    store.remove(&second.id).await.unwrap();
    assert_eq!(layers(dir.path()), 0);
    assert_eq!(
        std::fs::read_dir(dir.path().join("store/blobs/sha256"))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(store.usage(), oci::Usage::default());
}

#[tokio::test]
async fn docker_save_is_imported_with_all_its_names() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let one = image(&[layer("f", b"x")]);
    let manifest = json!([{"Config": "c.json", "RepoTags": ["busybox:1", "q.io/b:2"], "Layers": ["l/layer.tar"]}])
        .to_string();
    let tar = tar_of(&[
        ("l/layer.tar".into(), &one.layers[0]),
        ("c.json".into(), &one.config),
        ("manifest.json".into(), manifest.as_bytes()),
    ]);
    let path = dir.path().join("d.tar");
    write(&path, &tar);
    let store = open(dir.path());
    let names = ["docker.io/library/busybox:1", "q.io/b:2"];
    assert_eq!(store.import(&path).await.unwrap(), names);
    assert_eq!(store.resolve("busybox:1").unwrap().id, one.id());
    assert_eq!(store.list()[0].names, names);
    // The same bundle is not read again, a changed one is.
    assert!(store.import_bundle(&path).await.unwrap().is_some());
    assert!(store.import_bundle(&path).await.unwrap().is_none());
    write(&path, &[tar, vec![0; 1024]].concat());
    assert!(store.import_bundle(&path).await.unwrap().is_some());
    assert!(store.get("busybox:1").unwrap().pinned);
    // Names go one by one, the image with the last.
    store.untag("q.io/b:2").await.unwrap();
    assert!(store.get("busybox:1").is_some());
    store.untag("docker.io/library/busybox:1").await.unwrap();
    assert!(store.list().is_empty());
}

#[tokio::test]
async fn many_imports_at_once_unpack_each_layer_once() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let base = layer("base", &[7; 300_000]);
    let store = open(dir.path());
    let mut imports = Vec::new();
    for n in 0..8 {
        let one = image(&[base.clone(), layer("f", &[n])]);
        let entry = one.entry(json!({"io.containerd.image.name": format!("q.io/n:{n}")}));
        let path = dir.path().join(format!("{n}.tar"));
        write(&path, &layout(vec![entry], &one.blobs()));
        let store = store.clone();
        imports.push(tokio::spawn(async move { store.import(&path).await }));
    }
    for import in imports {
        import.await.unwrap().unwrap();
    }
    assert_eq!(store.list().len(), 8);
    assert_eq!(layers(dir.path()), 9);
    assert_eq!(
        std::fs::read_dir(dir.path().join("store/ingest"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn damaged_archives_leave_nothing() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let one = image(&[layer("f", b"x")]);
    let entry = one.entry(json!({"io.containerd.image.name": "q.io/a:1"}));
    let whole = layout(vec![entry.clone()], &one.blobs());
    let forged = tar_of(&[
        ("index.json".into(), &index(vec![entry.clone()])),
        (
            format!("blobs/sha256/{}", Digest::of(&one.manifest).hex()),
            &one.manifest,
        ),
        (
            format!("blobs/sha256/{}", Digest::of(&one.config).hex()),
            &one.config,
        ),
        (
            format!("blobs/sha256/{}", Digest::of(&one.layers[0]).hex()),
            &layer("f", b"y"),
        ),
    ]);
    let foreign = image_for("s390x", &[layer("f", b"x")]);
    let elsewhere = layout(vec![foreign.entry(json!(null))], &foreign.blobs());
    let no_layer = layout(vec![entry], &[&one.manifest, &one.config]);
    let store = open(dir.path());
    for (what, data, text) in [
        ("cut", whole[..whole.len() / 2].to_vec(), "unexpected"),
        ("forged", forged, "unexpected commit digest"),
        ("foreign", elsewhere, "no match for platform"),
        ("incomplete", no_layer, "not found"),
        ("empty", Vec::new(), "unrecognized image format"),
        ("text", b"not an archive".to_vec(), "unexpected"),
    ] {
        let path = dir.path().join(what);
        write(&path, &data);
        let error = store
            .import(&path)
            .await
            .unwrap_err()
            .to_string()
            .to_lowercase();
        assert!(error.contains(text), "{what}: {error}");
        assert!(store.list().is_empty(), "{what}");
        assert_eq!(layers(dir.path()), 0, "{what}");
        assert_eq!(
            std::fs::read_dir(dir.path().join("store/ingest"))
                .unwrap()
                .count(),
            0,
            "{what}"
        );
    }
}

/// Archives that lie, or reach for the machine's own files.
#[tokio::test]
async fn hostile_archives_leave_nothing() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret"), layer("f", b"secret")).unwrap();
    let one = image(&[layer("f", b"x")]);
    let entry = || one.entry(json!(null));
    let with = |key: &str, value: serde_json::Value| {
        let mut entry = entry();
        entry[key] = value;
        layout(vec![entry], &one.blobs())
    };
    let docker = |config: &str, layers: &[&str]| {
        let list =
            json!([{"Config": config, "RepoTags": ["q.io/a:1"], "Layers": layers}]).to_string();
        tar_of(&[
            ("manifest.json".into(), list.as_bytes()),
            ("config.json".into(), &one.config),
            ("layer.tar".into(), &one.layers[0]),
        ])
    };
    let named = |data: &[u8]| Digest::of(data).to_string();
    let wrap = |inner: serde_json::Value| {
        json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": named(inner.to_string().as_bytes()),
            "size": inner.to_string().len()})
    };
    // Six indexes, one in the other.
    let mut inner = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry()]});
    let mut blobs: Vec<Vec<u8>> = one.blobs().iter().map(|b| b.to_vec()).collect();
    for _ in 0..6 {
        blobs.push(inner.to_string().into_bytes());
        inner = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [wrap(inner)]});
    }
    let outer: Vec<serde_json::Value> = inner["manifests"].as_array().unwrap().clone();
    let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
    let many: Vec<serde_json::Value> = (0..5_000).map(|_| entry()).collect();
    let short = named(b"x")[..40].to_string();
    let big = vec![b' '; 5 << 20];
    let pipe = dir.path().join("folder/index.json");
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let linked = dir.path().join("linked");
    std::fs::create_dir(&linked).unwrap();
    std::fs::write(
        linked.join("manifest.json"),
        json!([{"Config": "config.json", "Layers": ["layer.tar"]}]).to_string(),
    )
    .unwrap();
    std::fs::write(linked.join("config.json"), &one.config).unwrap();
    std::os::unix::fs::symlink(dir.path().join("secret"), linked.join("layer.tar")).unwrap();
    let store = open(dir.path());
    for (what, data, text) in [
        (
            "digest up",
            with("digest", json!("sha256:../../../secret")),
            "digest",
        ),
        ("digest short", with("digest", json!(short)), "digest"),
        ("digest other", with("digest", json!("md5:00")), "digest"),
        (
            "digest absent",
            with("digest", json!(named(b"nothing"))),
            "not found",
        ),
        (
            "no manifests",
            layout(vec![], &one.blobs()),
            "no match for platform",
        ),
        ("negative size", with("size", json!(-1)), "expected u64"),
        ("too many", layout(many, &one.blobs()), "limit"),
        ("too deep", layout(outer, &blobs), "limit"),
        (
            "index text",
            tar_of(&[("index.json".into(), b"{")]),
            "eof while parsing",
        ),
        (
            "index null",
            tar_of(&[("index.json".into(), b"null")]),
            "invalid type",
        ),
        ("index big", tar_of(&[("index.json".into(), &big)]), "limit"),
        (
            "layer up",
            docker("config.json", &["../secret"]),
            "not found",
        ),
        (
            "layer absolute",
            docker("config.json", &["/etc/passwd"]),
            "not found",
        ),
        (
            "config up",
            docker("../../secret", &["layer.tar"]),
            "not found",
        ),
        (
            "config is no config",
            docker("layer.tar", &["layer.tar"]),
            "expected ident",
        ),
        (
            "layers differ",
            docker("config.json", &["layer.tar", "layer.tar"]),
            "mismatched",
        ),
        (
            "layer is no layer",
            docker("config.json", &["config.json"]),
            "unexpected eof",
        ),
        (
            "docker text",
            tar_of(&[("manifest.json".into(), b"[{}]")]),
            "missing field",
        ),
    ] {
        let path = dir.path().join(what);
        write(&path, &data);
        let error = store.import(&path).await.unwrap_err().to_string();
        assert!(error.to_lowercase().contains(text), "{what}: {error}");
        nothing_is_left(&store, dir.path(), what);
    }
    for what in ["folder", "linked"] {
        assert!(
            store.import(&dir.path().join(what)).await.is_err(),
            "{what}"
        );
        nothing_is_left(&store, dir.path(), what);
    }
}

fn nothing_is_left(store: &ImageStore, dir: &Path, what: &str) {
    assert!(store.list().is_empty(), "{what}");
    assert_eq!(layers(dir), 0, "{what}");
    let ingest = std::fs::read_dir(dir.join("store/ingest")).unwrap();
    assert_eq!(ingest.count(), 0, "{what}");
}

/// Whatever byte of an archive is wrong: an answer, and never half an image.
#[tokio::test]
async fn no_flipped_byte_panics() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let one = image(&[layer("f", b"x")]);
    let whole = layout(
        vec![one.entry(json!({"io.containerd.image.name": "q.io/a:1"}))],
        &one.blobs(),
    );
    let path = dir.path().join("archive");
    for at in (0..whole.len()).step_by(101) {
        let mut bent = whole.clone();
        bent[at] ^= 0x41;
        write(&path, &bent);
        let fresh = tempfile::tempdir().unwrap();
        let store = open(fresh.path());
        match store.import(&path).await {
            // The byte did not matter.
            Ok(_) => assert_eq!(store.list().len(), 1, "at {at}"),
            Err(_) => nothing_is_left(&store, fresh.path(), &at.to_string()),
        }
    }
}
