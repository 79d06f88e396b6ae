//! All targets with seeds, damaged seeds and bombs: the same input in every run, on the stack of a worker thread.

use std::panic::catch_unwind;

use fuzz::memory::Counting;
use fuzz::{TARGETS, Target, check, mutate};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Damaged inputs of one target; `$FUZZ_CASES` asks for more.
const CASES: usize = 300;
/// The seed; `$FUZZ_SEED` tries others.
const SEED: u64 = 20_261_126;
/// Bytes of a bomb, where the target takes as many.
const BOMB: usize = 64 << 10;
/// The stack of a worker thread, as in production: what nests must end before it does.
const STACK: usize = 2 << 20;

fn number(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Gives what went wrong, with the input, and the most memory.
fn all(target: &Target) -> (Vec<String>, usize) {
    let seeds = (target.seeds)();
    // A seed that panics does so again below, where it is told.
    let _ = catch_unwind(|| fuzz::warm(target));
    let cases = number("FUZZ_CASES", CASES as u64) as usize;
    let damaged = mutate::damaged(&seeds, cases, number("FUZZ_SEED", SEED));
    let bombs = mutate::bombs(&seeds[..seeds.len().min(2)], BOMB.min(target.input_max));
    // `$FUZZ_SLOW` tells which inputs take long.
    let slow = std::env::var_os("FUZZ_SLOW").is_some();
    let (mut wrong, mut most) = (Vec::new(), 0);
    for input in seeds.clone().into_iter().chain(damaged).chain(bombs) {
        let began = std::time::Instant::now();
        let done = check(target, &input);
        if slow && began.elapsed().as_millis() > 200 {
            let shown = String::from_utf8_lossy(&input[..input.len().min(120)]).into_owned();
            println!(
                "slow: {:?} for {} bytes: {shown:?}",
                began.elapsed(),
                input.len()
            );
        }
        match done {
            Ok(peak) => most = most.max(peak),
            Err(why) => {
                let shown = String::from_utf8_lossy(&input[..input.len().min(400)]).into_owned();
                wrong.push(format!("{}: {why}: {shown:?}", target.name));
            }
        }
    }
    (wrong, most)
}

#[test]
fn invalid_input_never_panics_and_never_takes_more_memory_than_its_limit() {
    let only = std::env::var("FUZZ_TARGET").ok();
    let chosen = TARGETS
        .iter()
        .filter(|t| only.as_deref().is_none_or(|o| o == t.name));
    let mut wrong = Vec::new();
    for target in chosen {
        let began = std::time::Instant::now();
        let thread = std::thread::Builder::new().stack_size(STACK);
        let thread = thread.spawn(move || all(target)).expect("a thread");
        let (found, most) = thread.join().expect("seeds do not panic");
        println!(
            "{:<18} {most:>10} bytes at most, {:?}",
            target.name,
            began.elapsed()
        );
        wrong.extend(found);
    }
    assert!(
        wrong.is_empty(),
        "{} inputs:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_target_has_a_file_for_libfuzzer() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/fuzz_targets");
    let files = std::fs::read_dir(folder).expect("the folder").flatten();
    let names = files.map(|f| f.file_name().to_string_lossy().into_owned());
    let mut found: Vec<String> = names.collect();
    let mut wanted: Vec<String> = TARGETS.iter().map(|t| format!("{}.rs", t.name)).collect();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}
