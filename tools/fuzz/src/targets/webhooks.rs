//! What webhooks answer. Inputs are the answer and the object that it is about.

use super::{POD, TREE, joined, parts, value};
use crate::Target;

pub const ADMISSION_REVIEW: Target = Target {
    name: "admission_review",
    run: |data| {
        let [answer, object] = parts(data);
        admission::untrusted::admission_answer(answer, &value(object, POD));
    },
    seeds: || {
        // [{"op":"add","path":"/metadata/labels/x","value":"y"}]
        let patch = "W3sib3AiOiJhZGQiLCJwYXRoIjoiL21ldGFkYXRhL2xhYmVscy94IiwidmFsdWUiOiJ5In1d";
        let answer = format!(
            r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{{"uid":"uid","allowed":true,"patch":"{patch}","patchType":"JSONPatch","warnings":["w"],"auditAnnotations":{{"a":"b"}}}}}}"#
        );
        let refused = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"uid","allowed":false,"status":{"code":418,"reason":"r","message":"m","details":{"causes":[{"field":"a","message":"b"}]}}}}"#;
        vec![answer.into_bytes(), refused.into()]
    },
    input_max: admission::limits::REVIEW_BYTES,
    memory: TREE,
};

pub const CONVERSION_REVIEW: Target = Target {
    name: "conversion_review",
    run: |data| {
        let [answer, object] = parts(data);
        apiserver::untrusted::conversion_answer(answer, &value(object, BEFORE));
    },
    seeds: || {
        let answer = r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview","response":{"uid":"uid","result":{"status":"Success"},"convertedObjects":[{"apiVersion":"example.com/v2","kind":"Thing","metadata":{"name":"x","uid":"u","labels":{"a":"b"},"annotations":{"c":"d"}},"spec":{}}]}}"#;
        vec![joined(&[answer]), joined(&[answer, BEFORE])]
    },
    input_max: apiserver::limits::CONVERSION_BYTES,
    memory: TREE,
};

const BEFORE: &str = r#"{"apiVersion":"example.com/v1","kind":"Thing","metadata":{"name":"x","uid":"u","labels":{"z":"y"}},"spec":{"a":1}}"#;
