//! The runtime on the real kernel: as root, in a mount namespace and control groups of its own, over an image
//! made of a static busybox. `cargo test -p runtime --test it [NAME]`.

#![allow(clippy::unwrap_used)]

mod containers;
mod restart;
mod sandboxes;
mod streams;
mod world;

use std::process::ExitCode;

/// A named test.
pub struct Test {
    pub name: &'static str,
    pub run: fn(),
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if let Some(code) = runtime::stage(&args) {
        return code;
    }
    if let Some(code) = restart::daemon(&args) {
        return code;
    }
    if let Err(why) = world::isolate() {
        eprintln!("SKIPPED: {why}");
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let mut failed = Vec::new();
    let all = [
        sandboxes::TESTS,
        containers::TESTS,
        streams::TESTS,
        restart::TESTS,
    ];
    for test in all.into_iter().flatten() {
        if !wanted.is_empty() && !wanted.iter().any(|w| test.name.contains(w)) {
            continue;
        }
        let begun = std::time::Instant::now();
        let ok = std::panic::catch_unwind(test.run).is_ok();
        let verdict = if ok { "ok" } else { "FAILED" };
        println!("test {} ... {verdict} ({:?})", test.name, begun.elapsed());
        if !ok {
            failed.push(test.name);
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {failed:?}");
    ExitCode::FAILURE
}
