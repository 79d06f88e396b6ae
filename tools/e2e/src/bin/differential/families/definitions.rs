//! Writes of CustomResourceDefinitions, right and wrong, and what becomes of them.

use serde_json::{Value, json};

use crate::step::{Ask, Dice, Sequence, Step};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

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
    (
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "{}",
    ),
    (
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "{\"type\":\"odd\"}",
    ),
    (
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "{\"type\":\"array\"}",
    ),
    (
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"x-kubernetes-list-type\":\"odd\"}",
    ),
    (
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "{\"type\":\"array\",\"items\":{\"type\":\"object\"},\"x-kubernetes-list-type\":\"map\"}",
    ),
    (
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"k\":{\"type\":\"string\"}}},\"x-kubernetes-list-type\":\"map\",\"x-kubernetes-list-map-keys\":[\"k\"]}",
    ),
    (
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "{\"type\":\"object\",\"default\":5}",
    ),
    (
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "{\"type\":\"string\",\"pattern\":\"[\"}",
    ),
    (
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}},\"additionalProperties\":{\"type\":\"string\"}}",
    ),
    (
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "{\"type\":\"object\",\"additionalProperties\":false}",
    ),
    (
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "{\"$ref\":\"x\"}",
    ),
    (
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "{\"type\":\"object\",\"nullable\":true,\"uniqueItems\":true}",
    ),
    (
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "{\"type\":\"object\",\"x-kubernetes-validations\":[{\"rule\":\"self.x == 1\"}]}",
    ),
    (
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "{\"type\":\"object\",\"x-kubernetes-validations\":[{\"rule\":\"\"}]}",
    ),
    (
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"integer\"}},\"x-kubernetes-validations\":[{\"rule\":\"self.x\",\"message\":\"m\"}]}",
    ),
    (
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"integer\"}},\"x-kubernetes-validations\":[{\"rule\":\"self.x > 1 &&\"}]}",
    ),
    (
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"integer\"}},\"x-kubernetes-validations\":[{\"rule\":\"self.x > 1\",\"reason\":\"Odd\"}]}",
    ),
    (
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
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
    if let Some((parent, last)) = pointer.rsplit_once('/')
        && let Some(parent) = object.pointer_mut(parent)
    {
        parent[last] = value;
    }
}

/// Creates, dry runs, updates and patches of a definition.
pub fn sequence(seed: u64) -> Sequence {
    let mut d = Dice::new(seed + 7_000);
    let name = format!("d{seed}x");
    let mut steps: Vec<Step> = Vec::new();
    for _ in 0..4 {
        let mut object = definition(&name);
        for _ in 0..=d.roll(2) {
            let (pointer, value) = d.pick(CHANGES);
            set(&mut object, pointer, value);
        }
        let query = d.pick(&["", "&fieldValidation=Strict"]);
        let path = format!("{CRDS}?dryRun=All{query}");
        steps.push(
            Ask::new("POST", path)
                .json("application/json", &object)
                .into(),
        );
    }
    Sequence {
        name: String::new(),
        namespace: String::new(),
        steps,
    }
}
