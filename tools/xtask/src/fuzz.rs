//! `cargo xtask fuzz [TARGET] [SECONDS]`: lets libFuzzer look for input that a parser cannot stand. Needs cargo-fuzz and
//! a nightly compiler. The targets are those of tools/fuzz, which CI tests with the same input each time.

use anyhow::{Context, Result};

use crate::shell;

/// Seconds for one target.
const SECONDS: &str = "60";
/// Most memory of the process, in MiB.
const MEMORY: u32 = 3_000;
/// Longest input, and the longest time for one, in bytes and seconds.
const INPUT: u32 = 64 << 10;
const PATIENCE: u32 = 20;

/// One target, or all of them one after the other.
pub fn run(args: &[String]) -> Result<()> {
    let seconds = args.iter().find(|a| a.parse::<u64>().is_ok());
    let seconds = seconds.map_or(SECONDS, String::as_str);
    let named = args.iter().find(|a| a.parse::<u64>().is_err());
    shell::run("cargo", &["run", "-q", "-p", "fuzz", "--", "fuzz/seeds"])?;
    // The same versions of everything as the node's; libFuzzer is added.
    std::fs::copy("Cargo.lock", "fuzz/Cargo.lock").context("copying Cargo.lock")?;
    let mut names = Vec::new();
    for folder in std::fs::read_dir("fuzz/seeds")?.flatten() {
        names.push(folder.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    if let Some(wanted) = named {
        names.retain(|n| n == wanted);
        anyhow::ensure!(!names.is_empty(), "no target is named {wanted}");
    }
    for name in &names {
        let (corpus, seeds) = (format!("fuzz/corpus/{name}"), format!("fuzz/seeds/{name}"));
        std::fs::create_dir_all(&corpus)?;
        let (time, memory) = (
            format!("-max_total_time={seconds}"),
            format!("-rss_limit_mb={MEMORY}"),
        );
        let (input, patience) = (format!("-max_len={INPUT}"), format!("-timeout={PATIENCE}"));
        let fuzz = [
            "+nightly",
            "fuzz",
            "run",
            "--sanitizer",
            "none",
            name,
            &corpus,
            &seeds,
            "--",
        ];
        let limits = [&time, &memory, &input, &patience].map(String::as_str);
        shell::run("cargo", &[&fuzz[..], &limits[..]].concat())?;
    }
    Ok(())
}
