//! Rules, and the properties that they are about.

use serde_json::{Value, json};

use crate::step::Dice;

/// Rules over `spec`.
const RULES: &[&str] = &[
    r#"{"rule": "!has(self.low) || !has(self.high) || self.low <= self.high", "message": "low above high"}"#,
    r#"{"rule": "!has(self.low) || self.low >= 0", "messageExpression": "self.low < -2 ? 'far too low' : 'low'", "fieldPath": ".low"}"#,
    r#"{"rule": "self.low > 0"}"#,
    r#"{"rule": "has(self.word) && self.word.startsWith('a')", "reason": "FieldValueForbidden", "message": "no a", "fieldPath": ".word"}"#,
    r#"{"rule": "!has(self.word) || size(self.word) < 3", "reason": "FieldValueRequired", "fieldPath": ".word"}"#,
    r#"{"rule": "!has(self.word) || self.word != 'ab'", "reason": "FieldValueDuplicate", "fieldPath": ".word"}"#,
    r#"{"rule": "!has(self.high) || !has(oldSelf.high) || self.high >= oldSelf.high", "message": "high must not shrink"}"#,
    r#"{"rule": "!oldSelf.hasValue() || !has(self.word) || self.word == oldSelf.value().word", "optionalOldSelf": true, "message": "word stays"}"#,
    r#"{"rule": "self.tags.all(t, t.size() < 4)", "messageExpression": "'tags: ' + self.tags.join(',')"}"#,
    r#"{"rule": "self.tags.exists_one(t, t == 'a')"}"#,
    r#"{"rule": "!has(self.map) || self.map.all(k, self.map[k] > 0)", "message": " trimmed "}"#,
    r#"{"rule": "!has(self.items) || self.items.all(i, i.k != 'bad')"}"#,
    r#"{"rule": "!has(self.when) || self.when > timestamp('2024-01-01T00:00:00Z')"}"#,
    r#"{"rule": "!has(self.span) || self.span < duration('1h')"}"#,
    r#"{"rule": "!has(self.ios) || type(self.ios) == int || self.ios == '50%'"}"#,
    r#"{"rule": "!has(self.ios) || self.ios > 3"}"#,
    r#"{"rule": "self.low / self.high == 0"}"#,
    r#"{"rule": "isQuantity(self.word) && quantity(self.word).isGreaterThan(quantity('1'))", "messageExpression": "''"}"#,
    r#"{"rule": "self.word.matches('^[a-z]+$')", "message": "lower case"}"#,
    r#"{"rule": "self.tags[0] == 'a'"}"#,
    r#"{"rule": "self.items.filter(i, i.n > 1).size() < 2", "fieldPath": ".items"}"#,
];

/// Rules of fields.
const FIELD_RULES: &[(&str, &str)] = &[
    ("low", r#"{"rule": "self % 2 == 0", "message": "even"}"#),
    (
        "low",
        r#"{"rule": "self == oldSelf", "message": "immutable"}"#,
    ),
    (
        "word",
        r#"{"rule": "self != 'text'", "reason": "FieldValueInvalid"}"#,
    ),
    (
        "word",
        r#"{"rule": "oldSelf.orValue('') != 'ab' || self == 'ab'", "optionalOldSelf": true}"#,
    ),
    (
        "tags",
        r#"{"rule": "self.size() < 3", "messageExpression": "self.size() > 3 ? 'far too many tags' : 'tags: ' + self[0]"}"#,
    ),
    ("map", r#"{"rule": "!('k1' in self) || self['k1'] != 5"}"#),
    ("items", r#"{"rule": "self.all(i, i.k.size() < 3)"}"#),
];

/// Adds the properties that rules are about, some with rules of their own; gives rules of the whole.
pub fn chosen(d: &mut Dice, properties: &mut Value) -> Vec<Value> {
    let item = json!({"type": "object", "required": ["k"], "properties": {
        "k": {"type": "string", "maxLength": 10}, "n": {"type": "integer", "x-kubernetes-validations": [
            {"rule": "self >= oldSelf", "message": "n must not shrink"}]}}});
    for (name, schema) in [
        ("low", json!({"type": "integer"})),
        ("high", json!({"type": "integer"})),
        ("word", json!({"type": "string", "maxLength": 20})),
        (
            "tags",
            json!({"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 5}}),
        ),
        (
            "map",
            json!({"type": "object", "maxProperties": 4, "additionalProperties": {"type": "integer"}}),
        ),
        (
            "items",
            json!({"type": "array", "maxItems": 5, "items": item, "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"]}),
        ),
        ("when", json!({"type": "string", "format": "date-time"})),
        ("span", json!({"type": "string", "format": "duration"})),
        ("ios", json!({"x-kubernetes-int-or-string": true})),
    ] {
        properties[name] = schema;
    }
    for (name, rule) in FIELD_RULES {
        if d.once_in(5) {
            properties[*name]["x-kubernetes-validations"] = json!([parsed(rule)]);
        }
    }
    let count = d.roll(4);
    (0..count).map(|_| parsed(d.pick(RULES))).collect()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}
