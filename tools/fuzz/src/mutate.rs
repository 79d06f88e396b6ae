//! Damaged input, always the same for the same seed.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Pieces of the languages that are read.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "\"",
    "'",
    ":",
    ",",
    ".",
    "..",
    "*",
    "&a",
    "*a",
    "<<",
    "|",
    ">",
    "- ",
    "? ",
    "! ",
    "\\",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\0",
    "\n",
    "\t",
    "~",
    "null",
    "true",
    "-1",
    "1e999",
    "0x7f",
    ".inf",
    "9223372036854775808",
    "-9223372036854775809",
    "$patch",
    "$retainKeys",
    "$setElementOrder/a",
    "$deleteFromPrimitiveList/a",
    "k:{\"name\":\"a\"}",
    "v:1",
    "f:spec",
    "i:0",
    " in (",
    "notin",
    "!=",
    "==",
    ">=",
    ".map(x, x)",
    ".all(x, x)",
    "has(",
    "? a : b",
    "&&",
    "{range .items[*]}",
    "{end}",
    "[?(@.a==1)]",
    "[-1:]",
    "..*",
    "~1",
    "/-",
    "k8s\0",
    "\u{1F600}",
    "-----BEGIN CERTIFICATE-----",
];

/// What is repeated to nest deeply or to grow.
const BOMBS: &[&str] = &[
    "[",
    "{",
    "(",
    "{\"a\":",
    "[{\"a\":",
    "- ",
    "a: ",
    "{a: ",
    "&a [*a, ",
    "!",
    "-",
    "--",
    "a.",
    ".a",
    "..",
    "[0]",
    "[*]",
    "a[",
    "a,",
    "a=b,",
    "a in (",
    "!a,",
    "1+",
    "a?b:",
    "(a)&&",
    "\"",
    "\\",
    "x.map(x,",
    "[[1],",
    "\u{30}\u{82}",
    "\n",
    " ",
    "\t",
    "{range .a}",
    "$.",
    "/",
    "//",
    "%",
    "&a=",
    "\u{1}a",
    "\u{c0}\u{c}",
    "\n\u{2}",
    "k8s\0",
];

/// Damaged versions of the seeds, some of several.
pub fn damaged(seeds: &[Vec<u8>], n: usize, seed: u64) -> impl Iterator<Item = Vec<u8>> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..n).map(move |_| {
        let mut out = pick(seeds, &mut random).to_vec();
        for _ in 0..random.random_range(1..8) {
            damage(&mut out, seeds, &mut random);
        }
        out
    })
}

/// Long repetitions, alone and in the middle of the seeds.
pub fn bombs(seeds: &[Vec<u8>], bytes: usize) -> impl Iterator<Item = Vec<u8>> {
    let plain = BOMBS
        .iter()
        .map(move |b| b.as_bytes().repeat(bytes / b.len()));
    let inside = seeds.iter().flat_map(move |s| {
        let middle = s.len() / 2;
        BOMBS.iter().map(move |b| {
            let bomb = b.as_bytes().repeat(bytes / 64 / b.len());
            [&s[..middle], &bomb, &s[middle..]].concat()
        })
    });
    plain.chain(inside)
}

fn pick<'a>(seeds: &'a [Vec<u8>], random: &mut StdRng) -> &'a [u8] {
    match seeds.len() {
        0 => &[],
        n => &seeds[random.random_range(0..n)],
    }
}

fn damage(out: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut StdRng) {
    let at = random.random_range(0..=out.len());
    let end = random.random_range(at..=out.len().min(at + 40));
    match random.random_range(0..8) {
        0 if at < out.len() => out[at] ^= 1 << random.random_range(0..8),
        1 if at < out.len() => out[at] = random.random(),
        2 => drop(out.drain(at..end)),
        3 => {
            let piece = out[at..end].repeat(random.random_range(1..20));
            out.splice(at..at, piece);
        }
        4 | 5 => {
            let token = TOKENS[random.random_range(0..TOKENS.len())];
            out.splice(at..end, token.bytes());
        }
        6 => {
            let other = pick(seeds, random);
            let from = random.random_range(0..=other.len());
            let piece = other[from..].to_vec();
            out.truncate(at);
            out.extend(piece);
        }
        _ => out.truncate(at),
    }
}
