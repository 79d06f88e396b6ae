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
