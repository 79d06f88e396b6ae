//! A folder with most of what is known, and what upstream's kubectl v1.37 makes of it.

use std::path::Path;

use super::*;

fn folder() -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("testdata/kustomize").display().to_string()
}

#[test]
fn a_folder_becomes_what_upstream_makes_of_it() {
    let built = build(&folder()).unwrap();
    let all: Vec<String> = built.iter().map(yaml::to_string).collect();
    let expected = std::fs::read_to_string(format!("{}/expected.yaml", folder())).unwrap();
    assert_eq!(all.join("---\n"), expected);
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    let error = build(&path).unwrap_err().to_string();
    assert!(
        error.contains("unable to find one of 'kustomization.yaml'"),
        "{error}"
    );
    let write = |text: &str| std::fs::write(dir.path().join("kustomization.yaml"), text).unwrap();
    for (text, why) in [
        ("helmCharts: []", "field \"helmCharts\" is not there yet"),
        ("resources: [nope.yaml]", "nope.yaml"),
        ("resources: ['https://x/y']", "files from the web"),
        ("resources: [.]", "cycle detected"),
        (
            "patches: [{patch: '{kind: Pod, apiVersion: v1, metadata: {name: x}}'}]",
            "no resource matches strategic merge patch",
        ),
    ] {
        write(text);
        let error = build(&path).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}
