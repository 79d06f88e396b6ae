//! Texts with bytes lost, put in, doubled or cut off.

use crate::step::Dice;

/// What is put in: what JSON is made of, and what it is not.
const BYTES: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b":",
    b",",
    b"0",
    b"9",
    b"-",
    b".",
    b"e",
    b"E5",
    b"+",
    b"\\",
    b"\\u00",
    b"\\ud800",
    b"/",
    b"a",
    b"null",
    b"tru",
    b" ",
    b"\n",
    b"\t",
    b"\x01",
    b"\xc3\xa9",
    b"\xff",
    b"99999999999999999999",
    b",\"a\":1",
];
/// Something of everything.
const WHOLE: &str = "{\"apiVersion\":\"peer.example.com/v1\",\"kind\":\"Thing\",\"metadata\":{\"name\":\"NAME\",\"labels\":{\"a\":\"b\"},\"finalizers\":[]},\"spec\":{\"a\":\"x\\u00e9\\n\",\"n\":5,\"f\":-1.5e3,\"b\":true,\"nullable\":null,\"set\":[\"a\",\"b\"],\"map\":[{\"k\":\"x\",\"v\":\"\"}],\"free\":{\"x\":[1,{\"y\":2}]}}}";

/// What is put into YAML: marks, tags, scalars of YAML 1.1, and what it does not know.
const YAML_BYTES: &[&[u8]] = &[
    b": ",
    b":",
    b"- ",
    b"-",
    b"\n",
    b"\n\n",
    b"\r\n",
    b" ",
    b"  ",
    b"\t",
    b"#",
    b" # no",
    b"&x ",
    b"*x",
    b"!!str ",
    b"!!int ",
    b"!t ",
    b"|",
    b">",
    b"|-\n",
    b"'",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"? ",
    b"%",
    b"@",
    b"`",
    b"\\",
    b"\n---\n",
    b"\n...\n",
    b"<<: ",
    b"~",
    b"null",
    b"yes",
    b"off",
    b"0x1",
    b"0o1",
    b"01",
    b"1_0",
    b"1:2",
    b".inf",
    b".nan",
    b"1e3",
    b"+1",
    b"=",
    b"2001-01-01",
    b"\x01",
    b"\xc3\xa9",
    b"\xff",
    b"\xef\xbb\xbf",
    b"a: b\n",
    b"\n  a: c\n",
];
/// Something of everything in YAML.
const WHOLE_YAML: &str = "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\n  labels: {a: b, 'c': \"d\"}\n  finalizers: []\nspec:\n  a: \"x\\u00e9\\n\"\n  d: >-\n    folded\n    text\n  n: 5\n  f: -1.5e3\n  b: true # said\n  nullable: ~\n  set:\n  - a\n  - 'b'\n  map:\n  - k: x\n    v: |\n      lines\n  free: &f\n    x: [1, {y: 2}]\n    z: &g [a]\n    w: *g\n";

/// A text, once or twice broken.
pub fn broken(d: &mut Dice, text: &str, name: &str) -> Vec<u8> {
    of(d, (text, WHOLE), name, BYTES)
}

/// A text of YAML, once or twice broken.
pub fn broken_yaml(d: &mut Dice, text: &str, name: &str) -> Vec<u8> {
    of(d, (text, WHOLE_YAML), name, YAML_BYTES)
}

fn of(d: &mut Dice, (text, whole): (&str, &str), name: &str, bytes: &[&[u8]]) -> Vec<u8> {
    let text = if d.once_in(2) {
        text
    } else {
        &whole.replace("NAME", name)
    };
    let mut out = text.as_bytes().to_vec();
    for _ in 0..d.roll(2) + 1 {
        let at = usize::try_from(d.roll(out.len() as u64 + 1)).unwrap_or(0);
        let end = (at + usize::try_from(d.roll(8)).unwrap_or(0)).min(out.len());
        match d.roll(8) {
            0 => out.truncate(at),
            1 | 2 => drop(out.drain(at..end.min(at + 1))),
            3 => {
                let part = out[at..end].to_vec();
                out.splice(at..at, part);
            }
            4 | 5 => {
                out.splice(at..end.min(at + 1), d.pick(bytes).iter().copied());
            }
            _ => {
                out.splice(at..at, d.pick(bytes).iter().copied());
            }
        }
    }
    out
}
