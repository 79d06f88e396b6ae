//! What URLs and flags say.

use api::selector::{FieldSelector, LabelSelector};
use apiserver::untrusted;

use super::{POD, TEXT, TREE, joined, parts, text, value};
use crate::{Memory, Target};

pub const SELECTOR: Target = Target {
    name: "selector",
    run: |data| {
        let text = text(data);
        if let Ok(selector) = LabelSelector::parse(&text) {
            selector.matches(|key| (key == "app").then_some("web"));
        }
        if let Ok(selector) = FieldSelector::parse(&text) {
            selector.matches(|key| (key == "metadata.name").then_some("web"));
        }
        let _ = api::quantity::Quantity::parse(&text);
        let _ = api::duration::nanoseconds(&text);
    },
    seeds: || {
        let all = [
            "a=b,c!=d,e in (f,g),!h,i,j>1,k notin (,),x.y/z<-5",
            r"metadata.name=a\,b\=c\\,status.phase!=Running,spec.nodeName==",
            "1.5e-3Gi",
            "-1h2m3.5us",
        ];
        all.iter().map(|s| s.as_bytes().to_vec()).collect()
    },
    input_max: 1 << 20,
    memory: TEXT,
};

pub const JSON_PATH: Target = Target {
    name: "json_path",
    run: |data| {
        let [path, object] = parts(data);
        let (path, object) = (text(path), value(object, POD));
        untrusted::column(&path, &object);
        kubectl::untrusted::json_path(&path, &object);
    },
    seeds: || {
        let all = [
            r#".status.conditions[?(@.type=="Ready")].status"#,
            r#"{range .spec.containers[*]}{.name}{"\t"}{.ports[0:2].containerPort}{"\n"}{end}"#,
            "{..name}",
            r#"{.spec.containers[?(@.image!='x')]['name','image']}"#,
            "{.metadata.labels.a\\.b}{$.kind}{.spec.containers[-1:0:-1]}",
            ".metadata.annotations['a/b']",
            // Each finds everything again, the last one more than is allowed.
            "{..[*]..[*]..[*]..}",
            "{..}{..[*]..['name','image']}{..[:]..[:]..[:]..[:]..[:]..[:]..[:]}",
        ];
        all.iter().map(|s| s.as_bytes().to_vec()).collect()
    },
    // kubectl's own argument, or a column of a CRD.
    input_max: 64 << 10,
    memory: Memory {
        // Nothing is kept of what steps find.
        base: 1 << 20,
        per_byte: 1024,
    },
};

pub const REQUEST_LINE: Target = Target {
    name: "request_line",
    run: |data| {
        let [method, path, query] = parts(data);
        let Ok(method) = http::Method::from_bytes(method) else {
            return;
        };
        untrusted::request_line(&method, &text(path), &text(query));
    },
    seeds: || {
        let token = "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MTAsInN0YXJ0IjoiYS9iXHUwMDAwIn0&limit=5&%zz=%4&x=%ff";
        vec![
            joined(&["GET", "/api/v1/namespaces/default/pods/web/log", token]),
            joined(&[
                "GET",
                "/apis/apps/v1/watch/namespaces/default/deployments",
                "watch=1&fieldSelector=metadata.name%3Da",
            ]),
            joined(&[
                "PATCH",
                "/apis/example.com/v1/namespaces/n/things/x/status",
                "fieldManager=m&force=true",
            ]),
            joined(&["DELETE", "/api/v1/proxy/nodes//", ""]),
        ]
    },
    input_max: apiserver::limits::HEADER_BYTES,
    memory: TREE,
};
