//! The twins of upstream's conformance tests, by SIG. Each has the name of its original, does what the
//! original does and asserts no less.

mod api_machinery;
mod auth;
mod instrumentation;
mod node;
mod storage;

use anyhow::Result;
use futures::future::BoxFuture;

use crate::rest::Cx;

/// One twin.
pub struct Twin {
    /// Upstream's name.
    pub name: &'static str,
    /// Base of its namespace's name.
    pub base: &'static str,
    pub run: fn(Cx) -> BoxFuture<'static, Result<()>>,
}

/// All twins that are written.
pub fn all() -> Vec<&'static Twin> {
    [
        api_machinery::TWINS,
        auth::TWINS,
        instrumentation::TWINS,
        node::TWINS,
        storage::TWINS,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// How many conformance tests v1.37 has.
pub const CONFORMANCE: usize = 462;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_upstreams_and_unique() {
        let file = crate::binary::root().join("../shared/reference/conformance-v1.37.tsv");
        let Ok(list) = std::fs::read_to_string(&file) else {
            eprintln!("SKIPPED: {} is not there", file.display());
            return;
        };
        let known: Vec<&str> = list
            .lines()
            .skip(1)
            .filter_map(|l| l.split('\t').nth(1))
            .collect();
        assert_eq!(known.len(), CONFORMANCE);
        let all = all();
        for (i, t) in all.iter().enumerate() {
            assert!(known.contains(&t.name), "{} is no conformance test", t.name);
            assert!(
                !all[i + 1..].iter().any(|o| o.name == t.name),
                "{} twice",
                t.name
            );
        }
    }

    #[test]
    fn every_twin_asserts_something() {
        let src = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/twins");
        for file in std::fs::read_dir(src).expect("twins").flatten() {
            let text = std::fs::read_to_string(file.path()).expect("a file");
            let mut bodies = text.split("\nasync fn ");
            let head = bodies.next().expect("a head").to_string();
            let functions: Vec<(&str, &str)> = bodies
                .map(|b| (b.split('(').next().unwrap_or(""), b))
                .collect();
            let marks = ["ensure!", ".expect(", ".refused("];
            let asserts = |body: &str| marks.iter().any(|m| body.contains(m));
            for (name, body) in &functions {
                if !head.contains(&format!("{name}(cx)")) {
                    continue;
                }
                // A twin may leave its assertions to a function that it shares with another.
                let shared = functions
                    .iter()
                    .any(|(other, b)| body.contains(&format!("{other}(&cx")) && asserts(b));
                assert!(
                    asserts(body) || shared,
                    "{name} in {:?} asserts nothing",
                    file.file_name()
                );
            }
        }
    }
}
