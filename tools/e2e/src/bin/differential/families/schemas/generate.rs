//! Schemas, and values that fit them or not.

use serde_json::{Map, Value, json};

use crate::step::Dice;

/// Formats, and texts some of which are of them.
const FORMATS: &[(&str, &[&str])] = &[
    ("date", &["2024-02-29", "2024-02-30", "x", ""]),
    (
        "date-time",
        &[
            "2024-02-29T23:59:59Z",
            "2024-02-29",
            "2024-02-29t10:00:00.5+01:00",
        ],
    ),
    ("duration", &["1h30m", "22 ns", "1 fortnight", "-1.5s", "5"]),
    ("ipv4", &["1.2.3.4", "01.2.3.4", "256.1.1.1", "::1"]),
    ("ipv6", &["::1", "1.2.3.4", "fe80::1%eth0"]),
    ("cidr", &["10.0.0.0/8", "10.0.0.0/33", "10.0.0.0", "::/0"]),
    ("mac", &["00:11:22:33:44:55", "0011.2233.4455", "00:11"]),
    (
        "uri",
        &[
            "http://a.b/c?d",
            "/path",
            "relative",
            "mailto:a",
            "http://a b",
            "http://[::1",
        ],
    ),
    ("email", &["a@b.c", "Joe <a@b.c>", "a@b@c", "a", "a..b@c"]),
    ("hostname", &["a.example", "-a", "a_b", "A-1.b"]),
    ("uuid", &["123e4567-e89b-12d3-a456-426614174000", "123"]),
    (
        "uuid4",
        &[
            "123e4567-e89b-42d3-a456-426614174000",
            "123e4567-e89b-12d3-a456-426614174000",
        ],
    ),
    ("byte", &["aGk=", "aGk", "", "a-_="]),
    ("hexcolor", &["#fff", "fff000", "#ff"]),
    ("rgbcolor", &["rgb(1,2,3)", "rgb(256,1,1)"]),
    ("isbn", &["0-321-75104-3", "978-0321751041", "1"]),
    ("creditcard", &["4111 1111 1111 1111", "4111111111111112"]),
    ("ssn", &["111-22-3333", "111223333"]),
    ("k8s-short-name", &["a-b", "a.b", "A"]),
    ("k8s-long-name", &["a.b", "a_b"]),
    ("password", &["anything"]),
    ("odd", &["anything"]),
];

/// Patterns, with a text that matches and one that does not.
const PATTERNS: &[(&str, &str, &str)] = &[
    ("^[a-z]+$", "abc", "ABC"),
    ("^\\d{2,3}$", "123", "1"),
    ("^(?i)yes|no$", "YES", "maybe"),
    ("^[[:alpha:]_&&-]*$", "a&_", "1"),
    ("\\bword\\b", "a word", "words"),
    ("^\\pL+$", "é", "1"),
    ("^a.c$", "abc", "a\nc"),
];

const WORDS: &[&str] = &["a", "bb", "ccc", "dddd", "été", "", "x y"];

fn name(depth: u64, i: u64) -> String {
    // Never the same as one of another level.
    format!("{}{i}", char::from(b'a' + u8::try_from(depth).unwrap_or(0)))
}

/// A schema.
pub fn schema(d: &mut Dice, depth: u64) -> Value {
    let kinds = if depth > 2 { 5 } else { 12 };
    let mut s = match d.roll(kinds) {
        0 | 1 => string(d),
        2 => integer(d),
        3 => number(d),
        4 => match d.roll(3) {
            0 => json!({"x-kubernetes-int-or-string": true}),
            1 => {
                json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}],
                "pattern": "^[0-9]+%?$"})
            }
            _ => json!({"type": "boolean"}),
        },
        5..=7 => object(d, depth),
        8 => {
            let mut s = json!({"type": "object", "additionalProperties": schema(d, depth + 1)});
            maybe(d, &mut s, "maxProperties", 2);
            maybe(d, &mut s, "minProperties", 1);
            s
        }
        9 | 10 => list(d, depth),
        _ => special(d, depth),
    };
    if d.once_in(6) && s.get("x-kubernetes-preserve-unknown-fields").is_none() {
        s["nullable"] = json!(true);
    }
    // A default must fit, or the definition is refused.
    if s["type"] != "object" && s["type"] != "array" && s.get("type").is_some() && d.once_in(3) {
        s["default"] = whole(d, &s);
    }
    s
}

fn maybe(d: &mut Dice, s: &mut Value, field: &str, n: i64) {
    if d.once_in(3) {
        s[field] = json!(n);
    }
}

fn string(d: &mut Dice) -> Value {
    let mut s = json!({"type": "string"});
    match d.roll(5) {
        0 => s["enum"] = json!(["a", "bb"]),
        1 => s["pattern"] = json!(d.pick(PATTERNS).0),
        2 | 3 => s["format"] = json!(d.pick(FORMATS).0),
        _ => {
            maybe(d, &mut s, "minLength", 1);
            maybe(d, &mut s, "maxLength", 3);
        }
    }
    s
}

fn integer(d: &mut Dice) -> Value {
    let mut s = json!({"type": "integer"});
    match d.roll(5) {
        0 => s["format"] = json!(d.pick(&["int32", "int64", "odd"])),
        1 => s["multipleOf"] = json!(2),
        2 => s["enum"] = json!([1, 2, 3]),
        _ => limits(d, &mut s, -2, 10),
    }
    s
}

fn limits(d: &mut Dice, s: &mut Value, low: i64, high: i64) {
    maybe(d, s, "minimum", low);
    maybe(d, s, "maximum", high);
    for (limit, exclusive) in [
        ("minimum", "exclusiveMinimum"),
        ("maximum", "exclusiveMaximum"),
    ] {
        if s.get(limit).is_some() && d.once_in(3) {
            s[exclusive] = json!(true);
        }
    }
}

fn number(d: &mut Dice) -> Value {
    let mut s = json!({"type": "number"});
    match d.roll(4) {
        0 => s["format"] = json!(d.pick(&["float", "double"])),
        1 => s["multipleOf"] = json!(0.5),
        2 => s["maximum"] = json!(1e21),
        _ => limits(d, &mut s, 0, 4),
    }
    s
}

fn object(d: &mut Dice, depth: u64) -> Value {
    let mut fields = Map::new();
    let count = 1 + d.roll(3);
    for i in 0..count {
        fields.insert(name(depth, i), schema(d, depth + 1));
    }
    let names: Vec<String> = fields.keys().cloned().collect();
    let mut s = json!({"type": "object", "properties": fields});
    if d.once_in(2) {
        s["required"] = json!([names[0]]);
    }
    maybe(d, &mut s, "maxProperties", 2);
    match d.roll(9) {
        0 => s["x-kubernetes-preserve-unknown-fields"] = json!(true),
        1 => s["x-kubernetes-map-type"] = json!("atomic"),
        2 => s["anyOf"] = json!([{"required": [names[0]]}, {"minProperties": 2}]),
        3 => s["oneOf"] = json!([{"required": [names[0]]}, {"required": [names[names.len() - 1]]}]),
        4 => s["not"] = json!({"required": [names[0]]}),
        5 => {
            s["allOf"] = json!([{"properties": {names[0].as_str(): {"enum": ["a", 1]}}}, {"minProperties": 1}])
        }
        _ => {}
    }
    s
}

fn list(d: &mut Dice, depth: u64) -> Value {
    let mut s = match d.roll(4) {
        0 => {
            let items = json!({"type": "object", "required": ["k"], "properties": {
                "k": {"type": "string"}, "l": {"type": "integer", "default": 1}, "v": schema(d, depth + 1)}});
            json!({"type": "array", "items": items, "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": d.pick(&[&["k"][..], &["k", "l"]])})
        }
        1 => {
            json!({"type": "array", "items": {"type": d.pick(&["string", "integer"])}, "x-kubernetes-list-type": "set"})
        }
        _ => json!({"type": "array", "items": schema(d, depth + 1)}),
    };
    maybe(d, &mut s, "minItems", 1);
    maybe(d, &mut s, "maxItems", 3);
    s
}

fn special(d: &mut Dice, depth: u64) -> Value {
    match d.roll(5) {
        0 => json!({"x-kubernetes-preserve-unknown-fields": true}),
        1 => {
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true})
        }
        2 => json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
            "spec": schema(d, depth + 2)}}),
        3 => json!({"type": "object", "additionalProperties": true}),
        _ => json!({"type": "object"}),
    }
}

/// Makes a schema take less, or other things.
pub fn tighten(s: &mut Value) {
    match s["type"].as_str() {
        Some("string") => s["maxLength"] = json!(1),
        Some("integer") => s["maximum"] = json!(1),
        Some("number") => s["minimum"] = json!(3),
        Some("array") => {
            s["maxItems"] = json!(1);
            // Keys of maps need their defaults.
            let keyed = s["x-kubernetes-list-type"] == "map";
            if let Some(items) = s.get_mut("items").filter(|_| !keyed) {
                tighten(items);
            }
        }
        Some("object") => {
            if let Some(fields) = s.get_mut("properties").and_then(Value::as_object_mut) {
                fields.values_mut().for_each(tighten);
            }
            if let Some(values) = s.get_mut("additionalProperties").filter(|v| v.is_object()) {
                tighten(values);
            }
        }
        _ => {}
    }
    // One that no longer fits is refused with the definition.
    if let Some(map) = s.as_object_mut() {
        map.remove("default");
    }
}

/// Values of all properties of a schema.
pub fn good(d: &mut Dice, properties: &Value) -> Value {
    value(d, properties, u64::MAX)
}

/// A spec; about once in `wrong` times something of it is wrong.
pub fn value(d: &mut Dice, properties: &Value, wrong: u64) -> Value {
    let s = json!({"type": "object", "properties": properties});
    let mut out = of(d, &s, wrong, true);
    if d.roll(wrong) == 0
        && let Some(map) = out.as_object_mut()
    {
        map.insert("unknown".into(), json!({"x": [1, {"y": 2}]}));
    }
    out
}

/// A value that fits, as far as that is easy.
fn whole(d: &mut Dice, s: &Value) -> Value {
    of(d, s, u64::MAX, false)
}

fn of(d: &mut Dice, s: &Value, wrong: u64, sparse: bool) -> Value {
    if d.roll(wrong) == 0 {
        return match d.roll(7) {
            0 => json!(5),
            1 => json!("text"),
            2 => json!(1.5),
            3 => json!([]),
            4 => json!({"z": 1}),
            5 => json!(true),
            _ => Value::Null,
        };
    }
    let odd = d.roll(wrong) == 0;
    if s["x-kubernetes-int-or-string"] == true {
        return d.pick(&[0_i64, 50]).into();
    }
    match s["type"].as_str() {
        Some("string") => text(d, s, odd),
        Some("integer") => {
            if let Some(first) = s["enum"].get(0).filter(|_| !odd) {
                return first.clone();
            }
            json!(if odd {
                d.pick(&[-3, 3, 11, 3_000_000_000_i64])
            } else {
                d.pick(&[0, 2, 4])
            })
        }
        Some("number") if odd => json!(d.pick(&[-0.1, 1e22, 0.3, 1e40])),
        // A whole number is no multiple of a half to upstream, whose half is a whole zero then.
        Some("number") if wrong == u64::MAX => json!(0.5),
        Some("number") => json!(d.pick(&[0.5, 2.0, 3.5])),
        Some("boolean") => json!(d.once_in(2)),
        Some("array") => array(d, s, wrong, odd),
        Some("object") => fields(d, s, wrong, odd, sparse),
        _ => json!({"any": [1, "x", null], "n": 1.5}),
    }
}

fn text(d: &mut Dice, s: &Value, odd: bool) -> Value {
    if let Some(first) = s["enum"].get(0) {
        return if odd { json!("other") } else { first.clone() };
    }
    if let Some(p) = PATTERNS.iter().find(|p| s["pattern"] == p.0) {
        return json!(if odd { p.2 } else { p.1 });
    }
    if let Some((_, texts)) = FORMATS.iter().find(|f| s["format"] == f.0) {
        return json!(if odd { d.pick(texts) } else { texts[0] });
    }
    json!(if odd { d.pick(WORDS) } else { "ab" })
}

fn array(d: &mut Dice, s: &Value, wrong: u64, odd: bool) -> Value {
    let count = if odd { d.roll(6) } else { 1 + d.roll(2) };
    let mut all: Vec<Value> = (0..count)
        .map(|_| of(d, &s["items"], wrong, true))
        .collect();
    match s["x-kubernetes-list-type"].as_str() {
        Some("map") => {
            for (i, item) in all.iter_mut().enumerate().filter(|(_, v)| v.is_object()) {
                item["k"] = json!(format!("k{}", if odd { i / 2 } else { i }));
            }
        }
        Some("set") if !odd => all.dedup(),
        _ => {}
    }
    json!(all)
}

fn fields(d: &mut Dice, s: &Value, wrong: u64, odd: bool, sparse: bool) -> Value {
    let mut out = Map::new();
    let required = |k: &str| {
        s["required"]
            .as_array()
            .is_some_and(|r| r.iter().any(|n| n == k))
    };
    for (name, below) in s["properties"].as_object().into_iter().flatten() {
        if required(name) && !odd || !sparse || !d.once_in(4) {
            out.insert(name.clone(), of(d, below, wrong, sparse));
        }
    }
    if let Some(values) = s.get("additionalProperties") {
        for key in ["k1", "k.2", "k/3"].iter().take(if odd { 3 } else { 1 }) {
            out.insert((*key).into(), of(d, values, wrong, sparse));
        }
    }
    if s["x-kubernetes-embedded-resource"] == true {
        out.insert("apiVersion".into(), json!(if odd { "a/b/c" } else { "v1" }));
        out.insert("kind".into(), json!(if odd { "bad kind" } else { "Kind" }));
        let meta = match (odd, d.roll(4)) {
            (false, _) => json!({"name": "n"}),
            (true, 0) => json!({"name": "a/b", "labels": {"-": "x"}}),
            (true, 1) => json!({"labels": {"a": 5}}),
            (true, 2) => json!({"name": "n", "unknown": 1}),
            _ => json!(5),
        };
        out.insert("metadata".into(), meta);
    }
    if odd && d.once_in(2) {
        out.insert("extra".into(), json!({"x": null}));
    }
    Value::Object(out)
}
