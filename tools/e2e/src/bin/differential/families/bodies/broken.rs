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

/// A text, once or twice broken.
pub fn broken(d: &mut Dice, text: &str, name: &str) -> Vec<u8> {
    let text = if d.once_in(2) {
        text
    } else {
        &WHOLE.replace("NAME", name)
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
                out.splice(at..end.min(at + 1), d.pick(BYTES).iter().copied());
            }
            _ => {
                out.splice(at..at, d.pick(BYTES).iter().copied());
            }
        }
    }
    out
}
