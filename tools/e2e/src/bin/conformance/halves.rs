//! Two runs side by side, each with a cluster of its own: the twins that need a cluster for themselves mostly
//! wait, and would double the time of a whole run behind the others.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Which twins a run takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Half {
    /// Those that share a cluster.
    Shared,
    /// README's tour, and those that need a cluster for themselves.
    Serial,
}

impl Half {
    const ALL: [Self; 2] = [Self::Shared, Self::Serial];

    pub fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Serial => "serial",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|h| h.name() == name)
    }
}

/// How many twins ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    pub passed: usize,
    pub failed: usize,
    pub known: usize,
}

impl Totals {
    /// The last lines of a run.
    pub fn print(self) {
        println!("known failures: {}", self.known);
        println!("{} passed, {} failed", self.passed, self.failed);
    }

    /// Takes what a run's last lines say; whether the line was one of them.
    fn add(&mut self, line: &str) -> bool {
        if let Some(known) = line.strip_prefix("known failures: ") {
            self.known += known.parse().unwrap_or(0);
            return true;
        }
        let parsed = || {
            let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
            Some((passed.parse::<usize>().ok()?, failed.parse::<usize>().ok()?))
        };
        let Some((passed, failed)) = parsed() else {
            return false;
        };
        self.passed += passed;
        self.failed += failed;
        true
    }
}

/// Runs both halves with this program's arguments, shows what they print, and adds up how they ended.
pub fn run() -> Result<Totals> {
    let mut halves = Vec::new();
    for half in Half::ALL {
        halves.push((half, start(half)?));
    }
    let mut totals = Totals::default();
    std::thread::scope(|scope| {
        let readers = halves.iter_mut().map(|(_, child)| {
            let out = child.stdout.take();
            scope.spawn(move || relay(out))
        });
        for reader in readers.collect::<Vec<_>>() {
            let read = reader
                .join()
                .map_err(|_| anyhow::anyhow!("reading a half"))?;
            let read = read?;
            totals.passed += read.passed;
            totals.failed += read.failed;
            totals.known += read.known;
        }
        anyhow::Ok(())
    })?;
    for (half, mut child) in halves {
        let status = child.wait()?;
        // A half that failed has said so in its totals; one that broke down has not.
        if !status.success() && totals.failed == 0 {
            anyhow::bail!("the {} half ended with {status}", half.name());
        }
    }
    Ok(totals)
}

fn start(half: Half) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(log) = std::env::var_os("K0S_E2E_LOG") {
        let mut own = log;
        own.push(format!(".{}", half.name()));
        command.env("K0S_E2E_LOG", own);
    }
    command
        .args(std::env::args_os().skip(1))
        .args(["--half", half.name()])
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting the {} half", half.name()))
}

/// Shows lines as they come, but for the totals, which it gives.
fn relay(out: Option<std::process::ChildStdout>) -> Result<Totals> {
    let mut totals = Totals::default();
    let out = out.context("its output")?;
    for line in BufReader::new(out).lines() {
        let line = line?;
        if !totals.add(&line) {
            println!("{line}");
        }
    }
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_from_the_last_lines() {
        let mut totals = Totals::default();
        for line in [
            "passed            0.6 s  3 passed, some failed",
            "known failures: 2",
            "27 passed, 1 failed",
        ] {
            totals.add(line);
        }
        let expected = Totals {
            passed: 27,
            failed: 1,
            known: 2,
        };
        assert_eq!(totals, expected);
        assert_eq!(Half::parse("serial"), Some(Half::Serial));
        assert_eq!(Half::parse("none"), None);
    }
}
