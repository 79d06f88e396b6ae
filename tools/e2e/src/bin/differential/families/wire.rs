//! Formats, headers, paths, methods, compression and WebSockets: a table, a few lines a sequence.

use serde_json::json;

use crate::families::{things as path_of, watches};
use crate::step::{Ask, Dice, Sequence, Step};

/// Lines of the table a sequence takes.
const CHUNK: usize = 4;
/// Sequences that the table fills.
pub const SEEDS: u64 = LINES.len().div_ceil(CHUNK) as u64;

/// Method, path (`~` is the collection's path), then headers as `name: value`.
type Line = (&'static str, &'static str, &'static [&'static str]);

const LINES: &[Line] = &[
    ("GET", "~/o", &["accept: application/json"]),
    ("GET", "~/o", &["accept: application/yaml"]),
    (
        "GET",
        "~/o",
        &["accept: application/vnd.kubernetes.protobuf"],
    ),
    (
        "GET",
        "~/o",
        &["accept: application/vnd.kubernetes.protobuf, application/json"],
    ),
    ("GET", "~/o", &["accept: application/cbor"]),
    ("GET", "~/o", &["accept: application/cbor, */*;q=0.1"]),
    ("GET", "~/o", &["accept: application/cbor-seq"]),
    ("GET", "~/o", &["accept: text/html"]),
    ("GET", "~/o", &["accept: */*"]),
    ("GET", "~/o", &["accept: application/*"]),
    ("GET", "~/o", &["accept: text/*"]),
    ("GET", "~/o", &["accept: application/json;q=0"]),
    (
        "GET",
        "~/o",
        &["accept: application/yaml;q=0.9,application/json;q=0.1"],
    ),
    ("GET", "~/o", &["accept: application/json; charset=utf-8"]),
    ("GET", "~/o", &["accept: application/json;pretty=1"]),
    ("GET", "~/o", &["accept: application/json;pretty=0"]),
    ("GET", "~/o", &["accept: APPLICATION/JSON"]),
    ("GET", "~/o", &["accept: nonsense"]),
    ("GET", "~/o", &["accept: "]),
    ("GET", "~/o", &["accept: application/json;stream=watch"]),
    ("GET", "~/o", &["accept: application/json;stream=other"]),
    ("GET", "~/o", &["accept: application/json;sv=v1"]),
    ("GET", "~/o", &["accept: application/json;sv=v2"]),
    ("GET", "~/o", &["accept: application/json;profile=nominal"]),
    ("GET", "~/o?pretty=true", &[]),
    ("GET", "~/o?pretty=1", &[]),
    ("GET", "~/o?pretty", &[]),
    ("GET", "~/o?pretty=false", &["user-agent: curl/7"]),
    ("GET", "~/o", &["user-agent: curl/7"]),
    ("GET", "~/o", &["user-agent: Wget/1"]),
    ("GET", "~/o", &["user-agent: Mozilla/5.0 x"]),
    ("GET", "~/o", &["user-agent: kubectl/v1"]),
    ("GET", "~/o?pretty=true", &["accept: application/yaml"]),
    ("GET", "~?pretty=true", &[]),
    ("GET", "~/missing?pretty=true", &[]),
    ("GET", "~/missing", &["accept: application/yaml"]),
    (
        "GET",
        "~/missing",
        &["accept: application/vnd.kubernetes.protobuf"],
    ),
    (
        "GET",
        "~/missing",
        &["accept: application/json;as=Table;v=v1;g=meta.k8s.io"],
    ),
    (
        "GET",
        "~/missing",
        &["accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/yaml"],
    ),
    ("GET", "~/missing", &["accept: text/html"]),
    (
        "GET",
        "~",
        &["accept: application/json;as=Table;v=v1;g=meta.k8s.io"],
    ),
    (
        "GET",
        "~",
        &["accept: application/json;as=Table;v=v1beta1;g=meta.k8s.io"],
    ),
    (
        "GET",
        "~",
        &["accept: application/json;as=Table;v=v2;g=meta.k8s.io"],
    ),
    ("GET", "~", &["accept: application/json;as=Table;v=v1"]),
    (
        "GET",
        "~",
        &["accept: application/json;as=Table;v=v1;g=other"],
    ),
    (
        "GET",
        "~",
        &["accept: application/yaml;as=Table;v=v1;g=meta.k8s.io"],
    ),
    (
        "GET",
        "~",
        &["accept: application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io"],
    ),
    ("GET", "~", &["accept: */*;as=Table;v=v1;g=meta.k8s.io"]),
    (
        "GET",
        "~?includeObject=Object",
        &["accept: application/json;as=Table;v=v1;g=meta.k8s.io"],
    ),
    (
        "GET",
        "~?includeObject=None",
        &["accept: application/json;as=Table;v=v1;g=meta.k8s.io"],
    ),
    (
        "GET",
        "~?includeObject=Odd",
        &["accept: application/json;as=Table;v=v1;g=meta.k8s.io"],
    ),
    ("GET", "~?includeObject=Odd", &[]),
    (
        "GET",
        "~/o?includeObject=Object",
        &["accept: application/json;as=Table;v=v1;g=meta.k8s.io"],
    ),
    (
        "GET",
        "~/o/status",
        &["accept: application/json;as=Table;v=v1;g=meta.k8s.io"],
    ),
    (
        "GET",
        "~/o/scale",
        &["accept: application/json;as=Table;v=v1;g=meta.k8s.io"],
    ),
    (
        "GET",
        "~/o/scale",
        &["accept: application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"],
    ),
    ("GET", "~/o/scale", &["accept: application/yaml"]),
    (
        "GET",
        "~/o/scale",
        &["accept: application/vnd.kubernetes.protobuf"],
    ),
    ("GET", "~/o/scale", &[]),
    (
        "GET",
        "~",
        &["accept: application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"],
    ),
    (
        "GET",
        "~",
        &["accept: application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"],
    ),
    (
        "GET",
        "~/o",
        &["accept: application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"],
    ),
    (
        "GET",
        "~/o",
        &["accept: application/json;as=PartialObjectMetadata;v=v1beta1;g=meta.k8s.io"],
    ),
    (
        "GET",
        "~/o",
        &["accept: application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"],
    ),
    (
        "GET",
        "~/o",
        &[
            "accept: application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        ],
    ),
    (
        "GET",
        "~",
        &[
            "accept: application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
        ],
    ),
    (
        "GET",
        "~/o",
        &["accept: application/yaml;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"],
    ),
    ("GET", "~?watch=true", &["accept: application/yaml"]),
    ("GET", "~?watch=true", &["accept: text/html"]),
    ("GET", "~?watch=true", &["accept: application/cbor"]),
    ("GET", "~?watch=true", &["accept: application/cbor-seq"]),
    (
        "GET",
        "~?watch=true",
        &["accept: application/vnd.kubernetes.protobuf"],
    ),
    ("GET", "~", &["accept-encoding: gzip"]),
    ("GET", "~/big", &["accept-encoding: gzip"]),
    ("GET", "~/big", &["accept-encoding: gzip;q=1"]),
    ("GET", "~/big", &["accept-encoding: gzip, deflate"]),
    ("GET", "~/big", &["accept-encoding: deflate"]),
    ("GET", "~/big", &["accept-encoding: *"]),
    (
        "GET",
        "~/big",
        &["accept-encoding: gzip", "accept: application/yaml"],
    ),
    (
        "GET",
        "~",
        &[
            "accept-encoding: gzip",
            "accept: application/json;as=Table;v=v1;g=meta.k8s.io",
        ],
    ),
    ("GET", "~/o/", &[]),
    ("GET", "~/", &[]),
    ("GET", "~//o", &[]),
    ("GET", "~/o/unknown", &[]),
    ("GET", "~/o/status/x", &[]),
    ("GET", "~/o%2Fstatus", &[]),
    ("GET", "~/..%2Fx", &[]),
    ("GET", "/apis/peer.example.com/v1/nothings", &[]),
    ("GET", "/apis/peer.example.com/v9/things", &[]),
    ("GET", "/apis/nobody.example.com/v1/things", &[]),
    ("GET", "/apis/nobody.example.com/v1", &[]),
    ("GET", "/apis/nobody.example.com", &[]),
    ("GET", "/apis/peer.example.com/v9", &[]),
    ("GET", "/apis/peer.example.com/v1", &[]),
    ("GET", "/apis/peer.example.com/v1/", &[]),
    ("GET", "/apis/peer.example.com", &[]),
    ("GET", "/apis/turns.example.com", &[]),
    ("GET", "/apis/turns.example.com/v1beta1", &[]),
    (
        "GET",
        "/apis/peer.example.com/v1",
        &["accept: application/yaml"],
    ),
    (
        "GET",
        "/apis/peer.example.com/v1",
        &["accept: application/vnd.kubernetes.protobuf"],
    ),
    ("GET", "/apis/peer.example.com/v1", &["accept: text/html"]),
    (
        "GET",
        "/apis/peer.example.com",
        &["accept: application/vnd.kubernetes.protobuf"],
    ),
    ("GET", "/apis/apiextensions.k8s.io", &[]),
    ("GET", "/apis/apiextensions.k8s.io/v1", &[]),
    (
        "GET",
        "/apis/apiextensions.k8s.io",
        &["accept: application/*"],
    ),
    (
        "GET",
        "/apis/apiextensions.k8s.io",
        &["content-type: text/plain"],
    ),
    (
        "GET",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/none",
        &["accept: application/*"],
    ),
    (
        "PATCH",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/none",
        &["content-type: text/plain"],
    ),
    (
        "POST",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        &["content-type: text/plain"],
    ),
    (
        "GET",
        "/apis/apiextensions.k8s.io/v1",
        &["accept: application/vnd.kubernetes.protobuf"],
    ),
    ("GET", "/apis/apiextensions.k8s.io/v2", &[]),
    ("POST", "/apis/apiextensions.k8s.io/v1", &[]),
    ("POST", "/apis/apiextensions.k8s.io", &[]),
    ("POST", "/apis", &[]),
    ("GET", "/nothing", &[]),
    ("GET", "/nothing/at/all", &[]),
    ("POST", "/nothing", &[]),
    ("GET", "/apisx", &[]),
    ("GET", "/apis/peer.example.com/v1/things/a/b/c/d", &[]),
    ("GET", "/apis/peer.example.com/v1/namespaces", &[]),
    ("GET", "/apis/peer.example.com/v1/namespaces/x", &[]),
    ("GET", "/apis/peer.example.com/v1/namespaces/x/", &[]),
    ("GET", "/apis/peer.example.com/v1/frees/missing", &[]),
    ("GET", "/apis/peer.example.com/v1/namespaces/x/frees", &[]),
    ("GET", "/apis/peer.example.com/v1/namespaces/x/frees/y", &[]),
    (
        "POST",
        "/apis/peer.example.com/v1/things",
        &["content-type: application/json"],
    ),
    ("PUT", "~", &["content-type: application/json"]),
    (
        "PATCH",
        "~",
        &["content-type: application/merge-patch+json"],
    ),
    ("POST", "~/o", &["content-type: application/json"]),
    ("OPTIONS", "~/o", &[]),
    ("HEAD", "~/o", &[]),
    ("HEAD", "~", &[]),
    ("HEAD", "~/missing", &[]),
    ("ODD", "~/o", &[]),
    ("DELETE", "~/o/status", &[]),
    ("POST", "~/o/status", &["content-type: application/json"]),
    ("DELETE", "~/o/scale", &[]),
    ("GET", "~/o?timeout=x", &[]),
    ("GET", "~/o?timeout=10s", &[]),
    ("GET", "~/o?timeout=-1s", &[]),
    ("GET", "~/o?resourceVersion=x", &[]),
    ("GET", "~/o?watch=true&timeoutSeconds=1", &[]),
    (
        "GET",
        "~?watch=maybe&timeoutSeconds=1&resourceVersion=x",
        &[],
    ),
    ("GET", "~?watch=0", &[]),
    ("GET", "~?watch=x", &[]),
    (
        "GET",
        "/apis/peer.example.com/v1/watch/things?resourceVersion=x",
        &[],
    ),
    (
        "GET",
        "/apis/peer.example.com/v1/watch/nothings?resourceVersion=1",
        &[],
    ),
    ("GET", "/apis/peer.example.com/v1/watch", &[]),
    (
        "POST",
        "/apis/peer.example.com/v1/watch/things?timeoutSeconds=1&fieldSelector=metadata.name%3Dnone",
        &[],
    ),
    ("GET", "/healthz", &[]),
    ("GET", "/healthz/ping", &[]),
    ("GET", "/healthz/none", &[]),
    ("GET", "/livez", &[]),
    ("GET", "/livez/ping?verbose", &[]),
    ("POST", "/healthz", &[]),
    ("HEAD", "/healthz", &[]),
    ("GET", "/openapi/v3/none", &[]),
    ("GET", "/openapi/v3/apis/peer.example.com/v9", &[]),
    ("GET", "/openapi/v2", &["accept: text/html"]),
    (
        "GET",
        "/openapi/v3/apis/peer.example.com/v1",
        &["accept: text/html"],
    ),
    ("POST", "/openapi/v2", &["accept: text/html"]),
    ("GET", "~?watch=true", &["accept-encoding: gzip"]),
    (
        "GET",
        "~?watch=true&allowWatchBookmarks=true",
        &["accept-encoding: deflate, gzip"],
    ),
    (
        "GET",
        "~?watch=true&allowWatchBookmarks=true&resourceVersion=x",
        &["accept-encoding: gzip"],
    ),
    (
        "GET",
        "~?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
        &[
            "accept-encoding: gzip",
            "accept: application/json;as=Table;v=v1;g=meta.k8s.io",
        ],
    ),
    (
        "GET",
        "~?watch=true&allowWatchBookmarks=true&includeObject=None",
        &["accept: application/json;as=Table;v=v1;g=meta.k8s.io"],
    ),
    (
        "GET",
        "~?watch=true&allowWatchBookmarks=true&labelSelector=even%3D%3Dtrue,%21missing",
        &["accept: application/json;as=Table;v=v1;g=meta.k8s.io"],
    ),
    (
        "GET",
        "~?watch=true",
        &["websocket: 13", "origin: http://x"],
    ),
    ("GET", "~?watch=true", &["websocket: 13"]),
    (
        "GET",
        "~?watch=true",
        &["websocket: 12", "origin: http://x"],
    ),
    (
        "GET",
        "~?watch=true",
        &[
            "websocket: 13",
            "origin: http://x",
            "sec-websocket-protocol: a",
        ],
    ),
    (
        "GET",
        "~?watch=true",
        &[
            "websocket: 13",
            "origin: http://x",
            "sec-websocket-protocol: a, b",
        ],
    ),
    (
        "GET",
        "~?watch=true&allowWatchBookmarks=true",
        &["websocket: 13", "origin: http://x", "accept-encoding: gzip"],
    ),
    (
        "GET",
        "~?watch=true",
        &[
            "websocket: 13",
            "origin: http://x",
            "accept: application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        ],
    ),
    (
        "GET",
        "~?watch=true",
        &[
            "websocket: 13",
            "origin: http://x",
            "accept: application/json;as=Table;v=v1;g=meta.k8s.io",
        ],
    ),
    (
        "GET",
        "~?watch=true",
        &[
            "websocket: 13",
            "origin: http://x",
            "accept: application/yaml",
        ],
    ),
    (
        "GET",
        "~?watch=true&resourceVersion=x",
        &["websocket: 13", "origin: http://x"],
    ),
    (
        "GET",
        "~?watch=true&timeoutSeconds=1",
        &["websocket: 13", "origin: http://x"],
    ),
];

/// The headers of a WebSocket's handshake, under a version.
fn handshake(ask: Ask, version: &str) -> Ask {
    ask.with("connection", "Upgrade")
        .with("upgrade", "websocket")
        .with("sec-websocket-version", version)
        .with("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
}

/// Lines with the headers of others.
fn mixed(d: &mut Dice) -> Vec<Line> {
    let mut line = || {
        let (method, path, own) = d.pick(LINES);
        let (_, _, given) = d.pick(LINES);
        // Only watches speak over sockets.
        let socket = given.iter().any(|h| h.starts_with("websocket"));
        let headers = if socket && !path.contains("watch=true") {
            own
        } else {
            given
        };
        (method, path, headers)
    };
    (0..2 * CHUNK).map(|_| line()).collect()
}

/// A part of the table, about objects of its own; from where every one has been, lines with the headers of others.
pub fn sequence(seed: u64) -> Sequence {
    let namespace = format!("wire-{seed}");
    let base = path_of(&namespace);
    let mut steps: Vec<Step> = Vec::new();
    for (name, text) in [("o", "x".to_string()), ("big", "y".repeat(140_000))] {
        let body = json!({"apiVersion": "peer.example.com/v1", "kind": "Thing",
            "metadata": {"name": name}, "spec": {"a": text, "n": 5, "replicas": 2, "map": [{"k": "x"}]}});
        steps.push(
            Ask::new("POST", &base)
                .json("application/json", &body)
                .into(),
        );
    }
    let chunk = LINES.chunks(CHUNK).nth(usize::try_from(seed).unwrap_or(0));
    let lines: Vec<Line> = match chunk {
        Some(chunk) => chunk.to_vec(),
        None => mixed(&mut Dice::new(seed + 71_000)),
    };
    for (n, (method, path, headers)) in (0..).zip(&lines) {
        let mut ask = Ask::new(method, path.replace('~', &base));
        for header in *headers {
            let (name, value) = header.split_once(':').unwrap_or((header, ""));
            ask = match name {
                "websocket" => handshake(ask, value.trim()),
                name => ask.with(name, value.trim()),
            };
        }
        let watches = path.contains("watch") && !path.contains("/o?") && !path.ends_with("=0");
        steps.push(if watches && *method == "GET" {
            let till = watches::till(&ask, &base, n);
            Step::Watch(ask, till)
        } else {
            Step::Send(ask)
        });
    }
    Sequence {
        name: String::new(),
        namespace,
        steps,
    }
}
