//! What real kubectl programs see.

use crate::env::{Env, kubectls};

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\ndata:\n  a: \"1\"\n";

const OTHER: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata:\n  a: b\n";

const CHANGED: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\ndata:\n  a: \"9\"\n";

const BAD: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: bad\nnope: 1\n";

/// Arguments, standard input, whether it succeeds, and a text it writes.
type Step = (&'static str, &'static str, bool, &'static str);

const STEPS: &[Step] = &[
    ("version", "", true, "v1.37.0+k0s"),
    ("create -f -", OTHER, true, "configmap/c created"),
    (
        "create -f -",
        OTHER,
        false,
        "Error from server (AlreadyExists)",
    ),
    ("get configmap", "", true, "DATA"),
    ("get cm c -o yaml", "", true, "  a: b"),
    ("apply -f -", MAP, true, "configmap/m created"),
    ("apply -f -", MAP, true, "configmap/m unchanged"),
    ("get cm -o name", "", true, "configmap/m"),
    (
        "get cm --field-selector=metadata.name=m -o name",
        "",
        true,
        "configmap/m",
    ),
    ("label cm m x=y", "", true, "configmap/m labeled"),
    ("get cm -l x=y -o name", "", true, "configmap/m"),
    ("annotate cm m x=y", "", true, "configmap/m annotate"),
    (
        "patch cm m -p {\"data\":{\"a\":\"2\"}}",
        "",
        true,
        "configmap/m patched",
    ),
    (
        "patch cm m --type=json -p [{\"op\":\"test\",\"path\":\"/data/a\",\"value\":\"2\"}]",
        "",
        true,
        "(no change)",
    ),
    ("get cm m -o jsonpath={.data.a}", "", true, "2"),
    (
        "wait cm/m --for=jsonpath={.data.a}=2 --timeout=5s",
        "",
        true,
        "condition met",
    ),
    ("api-resources", "", true, "configmaps"),
    ("get cm --chunk-size=1 -o name", "", true, "configmap/m"),
    ("delete cm m", "", true, "configmap \"m\" deleted"),
    (
        "get cm m",
        "",
        false,
        "Error from server (NotFound): configmaps \"m\" not found",
    ),
    ("auth whoami", "", false, ""),
    (
        "explain configmap.data",
        "",
        true,
        "data <map[string]string>",
    ),
    (
        "explain configmap.metadata.labels",
        "",
        true,
        "map[string]string",
    ),
    (
        "create --validate=strict -f -",
        BAD,
        false,
        "strict decoding error: unknown field \"nope\"",
    ),
    (
        "create --validate=warn -f -",
        BAD,
        true,
        "unknown field \"nope\"",
    ),
    (
        "apply --server-side -f -",
        MAP,
        true,
        "configmap/m serverside-applied",
    ),
    (
        "apply --server-side --field-manager=other -f -",
        CHANGED,
        false,
        "Apply failed with 1 conflict: conflict with \"kubectl\": .data.a",
    ),
    (
        "apply --server-side --field-manager=other --force-conflicts -f -",
        CHANGED,
        true,
        "configmap/m serverside-applied",
    ),
    (
        "get cm m -o yaml --show-managed-fields",
        "",
        true,
        "manager: other",
    ),
    ("apply -f -", MAP, true, "configmap/m configured"),
    ("diff -f -", CHANGED, false, "+  a: \"9\""),
    (
        "create --raw /api/v1/namespaces/default/configmaps -f -",
        "{",
        false,
        "",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works() {
    for program in kubectls() {
        let env = Env::start().await;
        for (args, stdin, succeeds, text) in STEPS {
            let (ok, out) = env.kubectl(&program, args, stdin).await;
            assert_eq!(ok, *succeeds, "{program} {args}: {out}");
            assert!(out.contains(text), "{program} {args}: {out}");
        }
    }
}
