//! Writes of CustomResourceDefinitions, right and wrong, and what becomes of them.

use serde_json::{Value, json};

use crate::step::{Ask, Dice, Sequence, Step};
use crate::target::Answer;

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

const SPEC: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
const ROOT: &str = "/spec/versions/0/schema/openAPIV3Schema";

/// What is set in a definition that is otherwise right: a JSON pointer and the value there.
const CHANGES: &[(&str, &str)] = &[
    ("/metadata/name", "\"wrong\""),
    ("/spec/group", "\"\""),
    ("/spec/group", "\"UPPER.example.com\""),
    ("/spec/scope", "\"Odd\""),
    ("/spec/scope", "\"\""),
    ("/spec/names/plural", "\"UPPER\""),
    ("/spec/names/kind", "\"\""),
    ("/spec/names/kind", "\"bad kind\""),
    ("/spec/names/shortNames", "[\"UPPER\"]"),
    ("/spec/names/categories", "[\"a b\"]"),
    ("/spec/names/listKind", "\"Kind\""),
    ("/spec/versions", "[]"),
    ("/spec/versions/0/storage", "false"),
    ("/spec/versions/0/served", "false"),
    ("/spec/versions/0/name", "\"V1\""),
    ("/spec/versions/0/schema", "null"),
    ("/spec/versions/0/schema/openAPIV3Schema/type", "\"string\""),
    (SPEC, "{}"),
    (SPEC, "{\"type\":\"odd\"}"),
    (SPEC, "{\"type\":\"array\"}"),
    (
        SPEC,
        "{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"x-kubernetes-list-type\":\"odd\"}",
    ),
    (
        SPEC,
        "{\"type\":\"array\",\"items\":{\"type\":\"object\"},\"x-kubernetes-list-type\":\"map\"}",
    ),
    (
        SPEC,
        "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"k\":{\"type\":\"string\"}}},\"x-kubernetes-list-type\":\"map\",\"x-kubernetes-list-map-keys\":[\"k\"]}",
    ),
    (SPEC, "{\"type\":\"object\",\"default\":5}"),
    (SPEC, "{\"type\":\"string\",\"pattern\":\"[\"}"),
    (
        SPEC,
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}},\"additionalProperties\":{\"type\":\"string\"}}",
    ),
    (SPEC, "{\"type\":\"object\",\"additionalProperties\":false}"),
    (SPEC, "{\"$ref\":\"x\"}"),
    (
        SPEC,
        "{\"type\":\"object\",\"nullable\":true,\"uniqueItems\":true}",
    ),
    (
        SPEC,
        "{\"type\":\"object\",\"x-kubernetes-validations\":[{\"rule\":\"self.x == 1\"}]}",
    ),
    (
        SPEC,
        "{\"type\":\"object\",\"x-kubernetes-validations\":[{\"rule\":\"\"}]}",
    ),
    (
        SPEC,
        "{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"integer\"}},\"x-kubernetes-validations\":[{\"rule\":\"self.x\",\"message\":\"m\"}]}",
    ),
    (
        SPEC,
        "{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"integer\"}},\"x-kubernetes-validations\":[{\"rule\":\"self.x > 1 &&\"}]}",
    ),
    (
        SPEC,
        "{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"integer\"}},\"x-kubernetes-validations\":[{\"rule\":\"self.x > 1\",\"reason\":\"Odd\"}]}",
    ),
    (
        SPEC,
        "{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"x-kubernetes-validations\":[{\"rule\":\"self.all(a, self.all(b, self.all(c, a == b && b == c)))\"}]}}}",
    ),
    (
        "/spec/versions/0/schema/openAPIV3Schema/properties/metadata",
        "{\"type\":\"object\",\"properties\":{\"labels\":{\"type\":\"object\"}}}",
    ),
    (
        "/spec/versions/0/additionalPrinterColumns",
        "[{\"name\":\"A\",\"type\":\"odd\",\"jsonPath\":\".x\"}]",
    ),
    (
        "/spec/versions/0/additionalPrinterColumns",
        "[{\"name\":\"A\",\"type\":\"string\",\"jsonPath\":\"x\"}]",
    ),
    (
        "/spec/versions/0/additionalPrinterColumns",
        "[{\"type\":\"string\"}]",
    ),
    (
        "/spec/versions/0/additionalPrinterColumns",
        "[{\"name\":\"A\",\"type\":\"string\",\"jsonPath\":\".spec.x\",\"format\":\"odd\"}]",
    ),
    ("/spec/versions/0/subresources", "{\"scale\":{}}"),
    (
        "/spec/versions/0/subresources",
        "{\"scale\":{\"specReplicasPath\":\"spec.replicas\",\"statusReplicasPath\":\".status.replicas\"}}",
    ),
    (
        "/spec/versions/0/subresources",
        "{\"scale\":{\"specReplicasPath\":\".status.replicas\",\"statusReplicasPath\":\".spec.replicas\"}}",
    ),
    ("/spec/versions/0/subresources", "{\"status\":{}}"),
    (
        "/spec/versions/0/selectableFields",
        "[{\"jsonPath\":\"x\"}]",
    ),
    (
        "/spec/versions/0/selectableFields",
        "[{\"jsonPath\":\".spec.none\"}]",
    ),
    ("/spec/versions/0/deprecationWarning", "\"old\""),
    ("/spec/versions/0/deprecated", "true"),
    ("/spec/conversion", "{\"strategy\":\"Odd\"}"),
    ("/spec/conversion", "{\"strategy\":\"Webhook\"}"),
    ("/spec/conversion", "{\"strategy\":\"None\",\"webhook\":{}}"),
    // Structure.
    (
        SPEC,
        r#"{"type":"object","x-kubernetes-int-or-string":true,"x-kubernetes-preserve-unknown-fields":true}"#,
    ),
    (
        SPEC,
        r#"{"x-kubernetes-int-or-string":true,"x-kubernetes-embedded-resource":true}"#,
    ),
    (SPEC, r#"{"x-kubernetes-embedded-resource":true}"#),
    (
        SPEC,
        r#"{"type":"object","x-kubernetes-embedded-resource":true}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","x-kubernetes-embedded-resource":true,"additionalProperties":{"type":"string"}}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","x-kubernetes-embedded-resource":true,"properties":{"kind":{"type":"integer"},"metadata":{"type":"string"}}}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","x-kubernetes-preserve-unknown-fields":false}"#,
    ),
    (SPEC, r#"{"type":"null"}"#),
    (
        SPEC,
        r#"{"type":"object","properties":{"a":{"items":{"type":"string"}},"b":{"type":"array","items":{}}}}"#,
    ),
    (SPEC, r#"{"type":"array","items":[{"type":"string"}]}"#),
    (SPEC, r#"{"type":"object","id":"x","$schema":"y"}"#),
    (SPEC, r#"{"type":"object","$schema":"y"}"#),
    (
        SPEC,
        r#"{"type":"object","definitions":{"a":{"type":"odd"}}}"#,
    ),
    (SPEC, r#"{"type":"object","dependencies":{"a":["b"]}}"#),
    (
        SPEC,
        r#"{"type":"object","patternProperties":{"a":{"type":"string"}}}"#,
    ),
    (
        SPEC,
        r#"{"type":"array","items":{"type":"string"},"additionalItems":false}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","anyOf":[{"type":"object"},{"properties":{"x":{"type":"string"}}}]}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","properties":{"x":{"type":"string"}},"allOf":[{"properties":{"x":{"pattern":"["},"y":{"minLength":1}}}]}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","not":{"description":"d","title":"t","nullable":true,"default":1}}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","oneOf":[{"additionalProperties":true},{"x-kubernetes-preserve-unknown-fields":true,"x-kubernetes-list-type":"set"}]}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","anyOf":[{"properties":{"metadata":{"required":["x"]}}},{"items":{"minLength":1}}]}"#,
    ),
    (
        SPEC,
        r#"{"x-kubernetes-int-or-string":true,"anyOf":[{"type":"integer"},{"type":"string"}]}"#,
    ),
    (
        SPEC,
        r#"{"x-kubernetes-int-or-string":true,"anyOf":[{"type":"string"},{"type":"integer"}]}"#,
    ),
    (
        SPEC,
        r#"{"x-kubernetes-int-or-string":true,"allOf":[{"anyOf":[{"type":"integer"},{"type":"string"}]},{"pattern":"a"}]}"#,
    ),
    (SPEC, r#"{"type":"object","x-kubernetes-map-type":"odd"}"#),
    (
        SPEC,
        r#"{"type":"string","x-kubernetes-map-type":"atomic"}"#,
    ),
    (SPEC, r#"{"type":"object","x-kubernetes-list-type":"set"}"#),
    (
        SPEC,
        r#"{"x-kubernetes-preserve-unknown-fields":true,"x-kubernetes-list-type":"atomic"}"#,
    ),
    (
        SPEC,
        r#"{"type":"array","items":{"type":"object"},"x-kubernetes-list-type":"set"}"#,
    ),
    (
        SPEC,
        r#"{"type":"array","items":{"type":"array","items":{"type":"string"},"x-kubernetes-list-type":"set"},"x-kubernetes-list-type":"set"}"#,
    ),
    (
        SPEC,
        r#"{"type":"array","items":{"type":"string","nullable":true},"x-kubernetes-list-type":"set"}"#,
    ),
    (
        SPEC,
        r#"{"type":"array","items":{"type":"object","x-kubernetes-map-type":"atomic"},"x-kubernetes-list-type":"set"}"#,
    ),
    (
        SPEC,
        r#"{"type":"array","items":{"type":"string"},"x-kubernetes-list-map-keys":["a"]}"#,
    ),
    (
        SPEC,
        r#"{"type":"array","items":{"type":"string"},"x-kubernetes-list-map-keys":["a"],"x-kubernetes-list-type":"set"}"#,
    ),
    (
        SPEC,
        r#"{"type":"array","items":{"type":"string"},"x-kubernetes-list-map-keys":["a"],"x-kubernetes-list-type":"map"}"#,
    ),
    (
        SPEC,
        r#"{"type":"array","items":{"type":"object","required":["k"],"properties":{"k":{"type":"object"}}},"x-kubernetes-list-map-keys":["k","k","n"],"x-kubernetes-list-type":"map"}"#,
    ),
    (
        SPEC,
        r#"{"type":"array","items":{"type":"object","nullable":true,"required":["k"],"properties":{"k":{"type":"string","nullable":true}}},"x-kubernetes-list-map-keys":["k"],"x-kubernetes-list-type":"map"}"#,
    ),
    (
        ROOT,
        r#"{"type":"object","additionalProperties":{"type":"string"}}"#,
    ),
    (ROOT, r#"{"type":"object","nullable":true}"#),
    (ROOT, r#"{}"#),
    (
        ROOT,
        r#"{"type":"object","properties":{"metadata":{"type":"object","properties":{"name":{"type":"string","maxLength":5}}},"apiVersion":{"type":"integer"}}}"#,
    ),
    (
        ROOT,
        r#"{"type":"object","properties":{"metadata":{"type":"object","description":"d"}}}"#,
    ),
    (
        ROOT,
        r#"{"type":"object","properties":{"metadata":{"type":"object","default":{}},"kind":{"type":"string","default":"K"}}}"#,
    ),
    (
        ROOT,
        r#"{"type":"object","x-kubernetes-preserve-unknown-fields":true,"x-kubernetes-map-type":"atomic"}"#,
    ),
    (ROOT, r#"{"type":"object","anyOf":[{"required":["a"]}]}"#),
    // Defaults.
    (
        SPEC,
        r#"{"type":"object","default":{"a":1},"properties":{"a":{"type":"string"}}}"#,
    ),
    (SPEC, r#"{"type":"object","default":{"z":1}}"#),
    (
        SPEC,
        r#"{"type":"object","properties":{"a":{"type":"string","maxLength":1,"default":"long"},"b":{"type":"integer","minimum":5,"default":1}}}"#,
    ),
    (
        SPEC,
        r#"{"type":"array","items":{"type":"string","default":5}}"#,
    ),
    (SPEC, r#"{"type":"string","default":null}"#),
    (SPEC, r#"{"type":"string","nullable":true,"default":"x"}"#),
    (
        SPEC,
        r#"{"type":"integer","default":1,"x-kubernetes-validations":[{"rule":"self > 5"}]}"#,
    ),
    (
        SPEC,
        r#"{"type":"integer","default":1,"x-kubernetes-validations":[{"rule":"oldSelf.hasValue()","optionalOldSelf":true}]}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true,"default":{"kind":"bad kind"}}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","x-kubernetes-embedded-resource":true,"properties":{"metadata":{"type":"object","properties":{"name":{"type":"string","default":"a/b"}}}}}"#,
    ),
    // Rules.
    (
        SPEC,
        r#"{"type":"object","properties":{"x":{"type":"integer"}},"x-kubernetes-validations":[{"rule":"self.x > 'a'"}]}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","properties":{"x":{"type":"integer"}},"x-kubernetes-validations":[{"rule":"self.y.z == 1"},{"rule":"nope(self)"},{"rule":"self.x == 1 ? 2 : 3"}]}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","properties":{"x":{"type":"integer"}},"x-kubernetes-validations":[{"rule":"true","messageExpression":"self.x"},{"rule":"true","messageExpression":"self.q"},{"rule":"true","messageExpression":" "}]}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","x-kubernetes-validations":[{"rule":"true","message":" "},{"rule":"true","message":"a\nb"},{"rule":"true &&\n true"}]}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","properties":{"x":{"type":"integer"}},"x-kubernetes-validations":[{"rule":"true","fieldPath":".y"},{"rule":"true","fieldPath":"x"},{"rule":"true","fieldPath":" "},{"rule":"true","fieldPath":"['x']"}]}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","properties":{"x":{"type":"integer"}},"x-kubernetes-validations":[{"rule":"true","optionalOldSelf":true},{"rule":"self.x == 1","optionalOldSelf":false}]}"#,
    ),
    (
        SPEC,
        r#"{"type":"array","items":{"type":"string","x-kubernetes-validations":[{"rule":"self == oldSelf"}]}}"#,
    ),
    (
        SPEC,
        r#"{"type":"array","maxItems":3,"x-kubernetes-list-type":"set","items":{"type":"string","maxLength":3,"x-kubernetes-validations":[{"rule":"self == oldSelf"}]}}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","properties":{"x":{"type":"integer"}},"allOf":[{"x-kubernetes-validations":[{"rule":"true"}]}]}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","properties":{"x":{"x-kubernetes-preserve-unknown-fields":true}},"x-kubernetes-validations":[{"rule":"self.x == 1"}]}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","properties":{"x":{"type":"string","format":"date"}},"x-kubernetes-validations":[{"rule":"self.x == 'a'"}]}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","properties":{"namespace":{"type":"string"},"a-b":{"type":"string"}},"x-kubernetes-validations":[{"rule":"self.__namespace__ == self.a__dash__b"}]}"#,
    ),
    (
        SPEC,
        r#"{"type":"object","properties":{"x":{"type":"string"}},"x-kubernetes-validations":[{"rule":"self.x.matches('[')"}]}"#,
    ),
    (SPEC, r#"{"type":"string","format":"odd"}"#),
    (
        SPEC,
        r#"{"type":"object","properties":{"a":{"type":"integer","format":"date"},"b":{"type":"string","format":"int32"},"c":{"type":"boolean","format":"x<y"}}}"#,
    ),
    (SPEC, r#"{"type":"string","pattern":"(?=a)"}"#),
    (SPEC, r#"{"type":"string","pattern":"a**"}"#),
    (SPEC, r#"{"type":"string","pattern":"\\p{Odd}"}"#),
    (SPEC, r#"{"type":"string","enum":[]}"#),
    (SPEC, r#"{"type":"string","maxLength":"5"}"#),
    (SPEC, r#"{"type":"string","maxLength":5.5}"#),
    (SPEC, r#"{"type":"string","unknown":5}"#),
    (SPEC, r#"5"#),
    (SPEC, r#"{"type":5}"#),
    // Other parts.
    (
        "/spec/versions/0/additionalPrinterColumns",
        r#"[{"name":"A","type":"string","jsonPath":".a[","priority":5}]"#,
    ),
    (
        "/spec/versions/0/additionalPrinterColumns",
        r#"[{"name":"A","jsonPath":""}]"#,
    ),
    (
        "/spec/versions/0/selectableFields",
        r#"[{"jsonPath":".metadata.name"},{"jsonPath":".spec"},{"jsonPath":".spec['x']"},{"jsonPath":""}]"#,
    ),
    (
        "/spec/versions/0/subresources",
        r#"{"scale":{"specReplicasPath":".spec.a","statusReplicasPath":".status.a","labelSelectorPath":"x"}}"#,
    ),
    (
        "/spec/versions/0/subresources",
        r#"{"scale":{"specReplicasPath":".spec.a[0]","statusReplicasPath":".status.a","labelSelectorPath":".metadata.x"}}"#,
    ),
    ("/spec/versions/0/deprecationWarning", r#""a\u0001b""#),
    (
        "/spec/versions/1",
        r#"{"name":"v2","served":true,"storage":true}"#,
    ),
    (
        "/spec/versions/1",
        r#"{"name":"v1","served":true,"storage":false,"schema":{"openAPIV3Schema":{"type":"object"}}}"#,
    ),
    (
        "/spec/versions/1",
        r#"{"name":"v2","served":true,"storage":false,"deprecated":true,"deprecationWarning":"","subresources":{"status":{}},"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"odd"}}}}}"#,
    ),
    (
        "/spec/versions/1",
        r#"{"name":"v2","served":true,"storage":false,"additionalPrinterColumns":[{"name":"A","type":"string","jsonPath":".x"}],"selectableFields":[{"jsonPath":".x"}],"schema":{"openAPIV3Schema":{"type":"object","properties":{"x":{"type":"string"}}}}}"#,
    ),
    (
        "/spec/conversion",
        r#"{"strategy":"Webhook","webhook":{"clientConfig":{},"conversionReviewVersions":[]}}"#,
    ),
    (
        "/spec/conversion",
        r#"{"strategy":"Webhook","webhook":{"clientConfig":{"url":"http://u@h/?q#f"},"conversionReviewVersions":["v2","v2","V3"]}}"#,
    ),
    (
        "/spec/conversion",
        r#"{"strategy":"Webhook","webhook":{"clientConfig":{"service":{"name":"","namespace":"n","path":"a//B","port":0}},"conversionReviewVersions":["v1"]}}"#,
    ),
    (
        "/spec/conversion",
        r#"{"strategy":"None","webhook":{"clientConfig":{"url":"https://h"},"conversionReviewVersions":["v1"]}}"#,
    ),
    ("/spec/group", "\"nodots\""),
    ("/spec/group", "\"x.k8s.io\""),
    (
        "/metadata/annotations",
        r#"{"api-approved.kubernetes.io":"nonsense"}"#,
    ),
    ("/metadata/labels", r#"{"-":"x"}"#),
    ("/metadata/generateName", "\"UPPER\""),
    ("/spec/names/singular", "\"UPPER\""),
    ("/spec/names/unknown", "1"),
    ("/spec/versions", "{}"),
    ("/spec/scope", "5"),
    ("/spec/versions/0/served", "\"true\""),
    ("/spec/preserveUnknownFields", "true"),
    ("/spec/unknown", "true"),
    ("/spec", "null"),
    (
        "/status",
        "{\"acceptedNames\":{\"plural\":\"x\",\"kind\":\"X\"},\"conditions\":[],\"storedVersions\":[\"v9\"]}",
    ),
];

fn definition(name: &str) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{name}s.defined.example.com")},
        "spec": {"group": "defined.example.com", "scope": "Namespaced",
            "names": {"plural": format!("{name}s"), "kind": format!("K{name}")},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {}}}}]}})
}

fn set(object: &mut Value, pointer: &str, value: &str) {
    let value = serde_json::from_str(value).unwrap_or_default();
    let Some((parent, last)) = pointer.rsplit_once('/') else {
        return;
    };
    match object.pointer_mut(parent) {
        Some(Value::Array(list)) => list.push(value),
        Some(parent) => parent[last] = value,
        None => {}
    }
}

/// How many seeds are needed to have every change once alone, and as often with another.
pub const SEEDS: u64 = (2 * CHANGES.len() as u64).div_ceil(DRY) + WHOLE;
/// Dry runs of one seed.
const DRY: u64 = 8;
/// Seeds whose definition is stored.
const WHOLE: u64 = 6;

/// Creates, dry runs, updates and patches of a definition.
pub fn sequence(seed: u64) -> Sequence {
    let mut d = Dice::new(seed + 7_000);
    let name = format!("d{seed}x");
    let steps = match seed.checked_sub(WHOLE) {
        None => whole(&mut d, &name),
        Some(n) => (n * DRY..(n + 1) * DRY)
            .map(|i| dry(&mut d, &name, i))
            .collect(),
    };
    Sequence {
        name: String::new(),
        namespace: String::new(),
        steps,
    }
}

/// A dry run of the change of a number, with another one from where each has been alone.
fn dry(d: &mut Dice, name: &str, i: u64) -> Step {
    let mut object = definition(name);
    let count = CHANGES.len();
    let i = usize::try_from(i).unwrap_or(0);
    let (pointer, value) = CHANGES[i % count];
    set(&mut object, pointer, value);
    if i >= count {
        let (pointer, value) = d.pick(CHANGES);
        set(&mut object, pointer, value);
    }
    let query = d.pick(&["", "&fieldValidation=Strict", "&fieldValidation=Ignore"]);
    let path = format!("{CRDS}?dryRun=All{query}");
    Ask::new("POST", path)
        .json("application/json", &object)
        .into()
}

/// A definition that is stored, established, changed and deleted.
fn whole(d: &mut Dice, name: &str) -> Vec<Step> {
    const MERGES: &[&str] = &[
        r#"{"spec":{"scope":"Cluster"}}"#,
        r#"{"spec":{"group":"other.example.com"}}"#,
        r#"{"spec":{"names":{"kind":"OtherNAME"}}}"#,
        r#"{"spec":{"names":{"plural":"others"}}}"#,
        r#"{"spec":{"names":{"shortNames":["zzNAME"],"categories":["c"]}}}"#,
        r#"{"spec":{"versions":[]}}"#,
        r#"{"spec":{"versions":[{"name":"v2","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}}}]}}"#,
        r#"{"spec":{"preserveUnknownFields":true}}"#,
        r#"{"spec":{"conversion":{"strategy":"Webhook"}}}"#,
        r#"{"spec":{"conversion":null}}"#,
        r#"{"status":{"storedVersions":[]}}"#,
        r#"{"metadata":{"annotations":{"a":"b"},"finalizers":["x.io/y"]}}"#,
        r#"{"metadata":{"finalizers":null}}"#,
    ];
    const STATUSES: &[&str] = &[
        r#"{"status":{"storedVersions":["v9"]}}"#,
        r#"{"status":{"storedVersions":[]}}"#,
        r#"{"status":{"acceptedNames":{"kind":"bad kind"}}}"#,
        r#"{"spec":{"scope":"Cluster"},"status":{"conditions":[]}}"#,
    ];
    let object = definition(name);
    let path = format!("{CRDS}/{name}s.defined.example.com");
    let merge = "application/merge-patch+json";
    let mut steps: Vec<Step> = vec![
        Ask::new("POST", CRDS)
            .json("application/json", &object)
            .into(),
        Step::established(&path),
        Ask::new("POST", CRDS)
            .json("application/json", &object)
            .into(),
    ];
    for _ in 0..5 {
        let query = d.pick(&["", "?dryRun=All"]);
        steps.push(
            Ask::new("PATCH", format!("{path}{query}"))
                .text(merge, &d.pick(MERGES).replace("NAME", name))
                .into(),
        );
        // Names are accepted in their own time.
        steps.push(Step::Until(Ask::new("GET", &path), is_named));
    }
    steps.push(
        Ask::new("PATCH", format!("{path}/status?dryRun=All"))
            .text(merge, d.pick(STATUSES))
            .into(),
    );
    steps.push(Ask::new("DELETE", format!("{path}?dryRun=All")).into());
    let unheld = r#"{"metadata":{"finalizers":null}}"#;
    steps.push(Ask::new("PATCH", &path).text(merge, unheld).into());
    steps.push(Step::Quiet(Ask::new("DELETE", &path)));
    steps.push(Step::Until(Ask::new("GET", &path), |answer| {
        answer.code == 404
    }));
    steps
}

fn is_named(answer: &Answer) -> bool {
    let (status, spec) = (
        &answer.body["status"]["acceptedNames"],
        &answer.body["spec"]["names"],
    );
    answer.code == 404 || status == spec
}
