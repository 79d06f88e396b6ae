//! Runs the checks of the whole node: `checks [REGEX]`. Ends with `N passed, N failed, N skipped`.

use std::process::ExitCode;
use std::time::Instant;

use e2e::checks::{CHECKS, Outcome};
use regex::Regex;

fn main() -> ExitCode {
    if let Err(error) = e2e::isolate::enter() {
        eprintln!("checks: {error:#}");
        return ExitCode::FAILURE;
    }
    let pattern = match std::env::args().nth(1).map(|p| Regex::new(&p)) {
        Some(Ok(pattern)) => Some(pattern),
        Some(Err(error)) => {
            eprintln!("checks: {error}");
            return ExitCode::FAILURE;
        }
        None => None,
    };
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for check in CHECKS {
        if pattern.as_ref().is_some_and(|p| !p.is_match(check.name)) {
            continue;
        }
        let begun = Instant::now();
        let done = if pattern.is_none() && check.is_long() {
            Ok(Outcome::Skipped("it takes minutes: name it".into()))
        } else {
            (check.run)()
        };
        let took = begun.elapsed().as_secs_f64();
        match done {
            Ok(Outcome::Passed) => {
                passed += 1;
                println!("passed  {took:>6.1} s  {}", check.name);
            }
            Ok(Outcome::Skipped(why)) => {
                skipped += 1;
                println!("SKIPPED {took:>6.1} s  {}: {why}", check.name);
            }
            Err(error) => {
                failed += 1;
                println!("FAILED  {took:>6.1} s  {}: {error:#}", check.name);
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
