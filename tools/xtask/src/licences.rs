//! Licences of all dependencies against an allow-list. No GPL, LGPL or AGPL gets into the binary.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;

/// Licences that may be linked into the binary.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
];

/// Fails on the first dependency whose licence expression cannot be met by `ALLOWED`.
pub fn check() -> Result<()> {
    let text = shell::output(
        "cargo",
        &[
            "metadata",
            "--format-version=1",
            "--filter-platform=x86_64-unknown-linux-gnu",
        ],
    )?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"]
        .as_array()
        .context("no packages in cargo metadata")?;
    let mut refused = Vec::new();
    for p in packages {
        let name = p["name"].as_str().unwrap_or_default();
        match p["license"].as_str() {
            Some(expression) if allowed(expression) => {}
            Some(expression) => refused.push(format!("{name}: {expression}")),
            // A licence file instead of an expression must be looked at by a person.
            None => refused.push(format!("{name}: no licence expression")),
        }
    }
    if !refused.is_empty() {
        bail!(
            "licences not on the allow-list:\n  {}",
            refused.join("\n  ")
        );
    }
    println!(
        "licences: {} packages, all on the allow-list",
        packages.len()
    );
    Ok(())
}

/// Whether an SPDX expression of AND, OR, WITH and parentheses can be met. `/` is the old OR.
fn allowed(expression: &str) -> bool {
    let text = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut at = 0;
    let met = any(&words, &mut at);
    met && at == words.len()
}

fn any(words: &[&str], at: &mut usize) -> bool {
    let mut met = all(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all(words, at);
    }
    met
}

fn all(words: &[&str], at: &mut usize) -> bool {
    let mut met = one(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at);
    }
    met
}

fn one(words: &[&str], at: &mut usize) -> bool {
    let Some(word) = words.get(*at) else {
        return false;
    };
    *at += 1;
    if *word == "(" {
        let met = any(words, at);
        *at += 1;
        return met;
    }
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1).copied().unwrap_or_default();
        *at += 2;
        return ALLOWED.contains(&format!("{word} WITH {exception}").as_str())
            || ALLOWED.contains(word);
    }
    ALLOWED.contains(word)
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn expressions_are_met_or_refused() {
        for (text, expected) in [
            ("MIT", true),
            ("MIT/Apache-2.0", true),
            ("GPL-3.0", false),
            ("MIT OR GPL-3.0", true),
            ("MIT AND GPL-3.0", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("(MIT OR Apache-2.0) AND LGPL-2.1", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("", false),
            ("MIT OR", true),
            ("MIT MIT", false),
        ] {
            assert_eq!(allowed(text), expected, "{text}");
        }
    }
}
