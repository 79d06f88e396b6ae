//! The CBOR codec: against upstream's encodings of all golden objects (`cbor.tsv` has their hashes, made by
//! upstream's serializer) and against its rules of decoding.

use api::cbor::{Order, decode, decode_first, encode, watch_frame};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::goldens;

const UPSTREAM: &str = include_str!("cbor.tsv");

fn hex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

#[test]
fn golden_objects_survive_and_are_encoded_as_upstream_encodes_them() {
    let Some(all) = goldens() else { return };
    let (mut seen, mut wrong) = (0, Vec::new());
    for (name, _, json) in all {
        seen += 1;
        for order in [Order::Any, Order::Deterministic] {
            if decode(&encode(&json, order)).as_ref() != Ok(&json) {
                wrong.push(format!("{name} does not survive in {order:?}"));
            }
        }
        let Some(expected) = UPSTREAM.lines().find_map(|l| l.strip_prefix(&name)) else {
            continue;
        };
        let ours = Sha256::digest(encode(&json, Order::Deterministic));
        let ours: String = ours[..8].iter().map(|b| format!("{b:02x}")).collect();
        if expected.trim() != ours {
            wrong.push(format!("{name} is encoded otherwise"));
        }
    }
    assert!(seen > 150, "{seen}");
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn items_are_decoded_as_upstream_decodes_them() {
    for (bytes, expected) in [
        ("00", json!(0)),
        ("1b7fffffffffffffff", json!(i64::MAX)),
        ("3b7fffffffffffffff", json!(i64::MIN)),
        ("f93e00", json!(1.5)),
        ("f94000", json!(2.0)),
        ("f90001", json!(5.960_464_477_539_063e-8)),
        ("f9c400", json!(-4.0)),
        ("fa7f7fffff", json!(3.402_823_466_385_288_6e38)),
        ("fb7fefffffffffffff", json!(f64::MAX)),
        ("f4", json!(false)),
        ("f6", json!(null)),
        ("40", json!("")),
        ("43666f6f", json!("foo")),
        ("d64401020304", json!("AQIDBA==")),
        ("d54401020304", json!("AQIDBA")),
        ("d74401020304", json!("01020304")),
        ("d682410142ff02", json!(["AQ==", "/wI="])),
        ("7f616161626163ff", json!("abc")),
        ("5f426865436c6c6fff", json!("hello")),
        ("9f9f8080ff9f8080ffff", json!([[[], []], [[], []]])),
        (
            "bf6141bf616101616202ff6142bf616901616a02ffff",
            json!({"A": {"a": 1, "b": 2}, "B": {"i": 1, "j": 2}}),
        ),
        (
            "c074323030362d30312d30325431353a30343a30355a",
            json!("2006-01-02T15:04:05Z"),
        ),
        ("c11a43b940e5", json!("2006-01-02T15:04:05Z")),
        ("c1fb41d0ee5039200000", json!("2006-01-02T15:04:04.5Z")),
        ("d9d9f7a1416101", json!({"a": 1})),
        ("d9ffff01", json!(1)),
    ] {
        assert_eq!(decode(&hex(bytes)), Ok(expected), "{bytes}");
    }
}

#[test]
fn what_upstream_refuses_is_refused_in_its_words() {
    let int = "cbor: cannot unmarshal";
    let item = "cbor: data item of cbor type";
    for (bytes, why) in [
        ("", "EOF".to_string()),
        ("a1", "unexpected EOF".into()),
        ("41", "unexpected EOF".into()),
        ("9bffffffffffffff00", "cbor: array length 18446744073709551360 is too large, it would cause integer overflow".into()),
        ("9b7fffffffffffffff", "unexpected EOF".into()),
        ("bb0000000000200001", "cbor: exceeded max number of key-value pairs 2097152 for CBOR map".into()),
        ("ff", "cbor: unexpected \"break\" code".into()),
        ("bf01ff", "cbor: unexpected \"break\" code".into()),
        ("1c", "cbor: invalid additional information 28 for type positive integer".into()),
        ("f818", "cbor: invalid simple value 24 for type primitives".into()),
        ("a0a0", "cbor: 1 bytes of extraneous data starting at index 1".into()),
        ("1bffffffffffffffff", format!("{int} positive integer into Go value of type int64 (18446744073709551615 overflows Go's int64)")),
        ("3bffffffffffffffff", format!("{int} negative integer into Go value of type int64 (-18446744073709551616 overflows Go's int64)")),
        ("6180", "cbor: invalid UTF-8 string".into()),
        ("a2614101614102", "cbor: found duplicate map key \"A\" at map element index 1".into()),
        ("a2414101614102", "cbor: found duplicate map key \"A\" at map element index 1".into()),
        ("a1fb40091eb851eb851f63706965", format!("{int} primitives into Go value of type string")),
        ("a10101", format!("{int} positive integer into Go value of type string")),
        ("f97c00", format!("{item} primitives is not accepted by protocol: floating-point infinity")),
        ("fb7ff8000000000000", format!("{item} primitives is not accepted by protocol: floating-point NaN")),
        ("f7", format!("{item} primitives is not accepted by protocol: simple value 23 is not recognized")),
        ("e0", format!("{item} primitives is not accepted by protocol: simple value 0 is not recognized")),
        ("c24101", format!("{item} tag is not accepted by protocol: bignum")),
        ("c054323030362d30312d30325431353a30343a30355a", "cbor: tag number 0 must be followed by text string, got byte string".into()),
        ("c1f6", "cbor: tag number 1 must be followed by integer or floating-point number, got primitives".into()),
        ("5f6161ff", "cbor: wrong element type UTF-8 text string for indefinite-length byte string".into()),
    ] {
        let error = decode(&hex(bytes)).unwrap_err();
        assert_eq!(error.0, why, "{bytes}");
    }
    let deep = [vec![0x81; 100_000], vec![0xf6]].concat();
    assert!(
        decode(&deep)
            .unwrap_err()
            .0
            .starts_with("cbor: exceeded max nested level")
    );
    let deep = [vec![0xc6; 100_000], vec![0xf6]].concat();
    assert!(
        decode(&deep)
            .unwrap_err()
            .0
            .starts_with("cbor: exceeded max nested level")
    );
}

#[test]
fn equal_values_have_equal_bytes_and_floats_their_shortest() {
    let object = json!({"bb": 1.5, "a": [1e10, 0.1, -0.0, 65504.0, 6e-8], "c": -500});
    let expected = "d9d9f7a3416185fa501502f9fb3fb999999999999af98000f97bfffb3e701b2b29a4692b41633901f3426262f93e00";
    assert_eq!(encode(&object, Order::Deterministic), hex(expected));
}

#[test]
fn a_sequence_is_read_item_by_item() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
    let frame = watch_frame("ADDED", &pod, Order::Deterministic);
    assert_eq!(frame[..5], [0xd9, 0xd9, 0xf7, 0xa2, 0x44]);
    let both = [frame.clone(), frame.clone()].concat();
    let (first, used) = decode_first(&both).unwrap();
    assert_eq!(first, json!({"type": "ADDED", "object": pod}));
    assert_eq!(used, frame.len());
    assert_eq!(decode(&both[used..]).unwrap(), first);
}

#[test]
fn damaged_bytes_are_errors_and_never_panics() {
    let object = json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "AQID"},
        "metadata": {"name": "s", "generation": 70000}, "list": [1.5, -7, null, true]});
    let good = encode(&object, Order::Any);
    for i in 0..good.len() {
        assert!(decode(&good[..i]).is_err());
        for mask in [0x01, 0x20, 0x55, 0x80, 0xff] {
            let mut bent = good.clone();
            bent[i] ^= mask;
            // Whether it still decodes does not matter.
            let _ = decode(&bent);
        }
    }
}
