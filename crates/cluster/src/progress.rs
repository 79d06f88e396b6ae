//! What became ready and how long it took, for the person who started k0s.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Notes each step of the start: a line on a terminal, a log record otherwise.
#[derive(Clone, Copy)]
pub struct Progress {
    begun: Instant,
    terminal: bool,
}

// === Progress ===

impl Progress {
    /// Begins now.
    pub fn begin() -> Self {
        Self {
            begun: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// A part is ready.
    pub fn ready(&self, part: &str, detail: &str) {
        let ms = self.begun.elapsed().as_secs_f64() * 1000.0;
        if self.terminal {
            // A closed terminal must not end the node.
            let _ = writeln!(
                std::io::stderr(),
                "  ready {part:<12} {ms:>7.0} ms  {detail}"
            );
        } else {
            tracing::info!(part, detail, elapsed_ms = ms as u64, "ready");
        }
    }
}
