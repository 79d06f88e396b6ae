//! Everything that arrives from outside, one target a format: invalid input never panics, never takes more memory
//! than its limit, never goes on for ever. `cargo xtask fuzz` lets libFuzzer look for such input (`fuzz/` at the
//! root); `tests/seeded.rs` sends the same targets seeds, damaged seeds and bombs, the same ones in every run.

pub mod memory;
pub mod mutate;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// One format.
pub struct Target {
    pub name: &'static str,
    /// Takes any bytes. Parts are separated by zero bytes.
    pub run: fn(&[u8]),
    /// Input to begin with: what is valid, and what was found to be trouble.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes that production takes at most.
    pub input_max: usize,
    pub memory: Memory,
}

/// The most memory that a target may hold at a time.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub base: usize,
    /// For each byte of input.
    pub per_byte: usize,
}

impl Memory {
    /// The limit for an input.
    pub fn of(self, input: usize) -> usize {
        self.base + self.per_byte * input
    }
}

/// All targets.
pub static TARGETS: &[Target] = targets::ALL;

/// A target by its name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|t| t.name == name)
}

/// Sends one input to a target; an error says what it did that it must not. The allocator must be
/// [`memory::Counting`] for the limit to mean anything.
pub fn check(target: &Target, data: &[u8]) -> Result<usize, String> {
    let data = &data[..data.len().min(target.input_max)];
    let (done, peak) = memory::peak(|| catch_unwind(AssertUnwindSafe(|| (target.run)(data))));
    if let Err(panic) = done {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        return Err(format!("panics: {}", text.unwrap_or("without a text")));
    }
    let limit = target.memory.of(data.len());
    if peak > limit {
        return Err(format!(
            "took {peak} bytes for {}, the limit is {limit}",
            data.len()
        ));
    }
    Ok(peak)
}

/// Sends a target its seeds: what is made once and kept is no part of any input.
pub fn warm(target: &Target) {
    for seed in (target.seeds)() {
        (target.run)(&seed);
    }
}

/// As libFuzzer calls it, with one target a process: what must not be ends the process.
pub fn fuzz(name: &str, data: &[u8]) {
    static WARMED: Once = Once::new();
    let done = target(name).ok_or_else(|| "no such target".to_string());
    let done = done.and_then(|t| {
        WARMED.call_once(|| warm(t));
        check(t, data)
    });
    if let Err(why) = done {
        panic!("{name}: {why}");
    }
}
