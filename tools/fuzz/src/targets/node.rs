//! What the node's own servers and its image store read.

use std::sync::{Arc, LazyLock};

use client::Cache;
use client::memory::MemoryCache;
use dns::untrusted::Answers;
use serde_json::json;

use super::{TEXT, TREE, joined, parts, text};
use crate::{Memory, Target};

pub const IMAGE: Target = Target {
    name: "image",
    run: |data| {
        let [document, config] = parts(data);
        oci::untrusted::document(document);
        oci::untrusted::config(config, document);
        oci::untrusted::reference(&text(data));
    },
    seeds: || {
        let d = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{d}","size":7,"platform":{{"os":"linux","architecture":"amd64","variant":"v8"}},"annotations":{{"org.opencontainers.image.ref.name":"x"}}}}]}}"#
        );
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{d}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{d}","size":32}}]}}"#
        );
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["A=b"],"Cmd":["x"],"Entrypoint":null,"User":"1:2","ExposedPorts":{{"80/tcp":{{}}}},"Volumes":{{"/v":{{}}}}}},"rootfs":{{"type":"layers","diff_ids":["{d}"]}},"history":[{{"created":"2026-01-01T00:00:00Z","empty_layer":true}}]}}"#
        );
        vec![
            index.into_bytes(),
            joined(&[&manifest, &config]),
            format!("registry.example:5000/a/b:tag@{d}").into_bytes(),
        ]
    },
    input_max: 4 << 20,
    memory: TREE,
};

/// A Service of the default namespace.
static ANSWERS: LazyLock<Answers> = LazyLock::new(|| {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}});
    let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
    let caches = [Some(service), None, Some(space)].map(|object| {
        let cache = MemoryCache::default();
        if let Some(object) = object {
            // Without it there are other answers.
            let _ = cache.apply(object);
        }
        Arc::new(cache) as Arc<dyn Cache>
    });
    Answers::new(caches)
});

pub const DNS: Target = Target {
    name: "dns",
    run: |data| {
        if let Some((udp, tcp)) = ANSWERS.answer(data) {
            assert!(
                udp.len() <= dns::limits::UDP_BYTES_MAX,
                "{} bytes over UDP",
                udp.len()
            );
            assert!(
                tcp.len() <= usize::from(u16::MAX),
                "{} bytes over TCP",
                tcp.len()
            );
            assert_eq!(udp.get(..2), data.get(..2), "the query's id");
        }
    },
    seeds: || {
        let names = [
            "\u{3}web\u{7}default\u{3}svc\u{7}cluster\u{5}local",
            "\u{5}_http\u{4}_tcp\u{3}web\u{7}default\u{3}svc\u{7}cluster\u{5}local",
            "\u{1}9\u{1}0\u{2}96\u{2}10\u{7}in-addr\u{4}arpa",
            "\u{7}example\u{3}com",
        ];
        let mut all = Vec::new();
        for (name, kind) in names.iter().zip([1u8, 33, 12, 255]) {
            let head = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
            // The question, and EDNS with a payload of 4096 bytes.
            let edns = [0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0];
            all.push([&head, name.as_bytes(), &[0, 0, kind, 0, 1], &edns].concat());
        }
        all
    },
    // Over UDP longer ones are cut, over TCP the length is 16 bits.
    input_max: 65_535,
    memory: Memory {
        base: 1 << 20,
        per_byte: 512,
    },
};

pub const SPDY: Target = Target {
    name: "spdy",
    run: |data| {
        streams::untrusted::spdy(data);
    },
    seeds: || {
        let mut all = vec![vec![
            0, 0, 0, 1, 1, 0, 0, 3, b'a', b'b', b'c', 0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9,
        ]];
        let headers = [("streamtype", "stdin"), ("port", "80"), ("requestid", "0")];
        let headers = headers.map(|(k, v)| (k.to_string(), v.to_string()));
        let block = streams::spdy::Deflater::new().and_then(|mut d| d.block(&headers.into()));
        if let Ok(block) = block {
            let length = (block.len() + 10) as u32;
            let [_, a, b, c] = length.to_be_bytes();
            let head = [0x80, 3, 0, 1, 0, a, b, c, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            all.push([&head, &block[..]].concat());
        }
        all
    },
    input_max: 2 << 20,
    memory: TEXT,
};
