//! Programs that twins run beside the cluster.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// What a program printed, and whether it succeeded.
#[derive(Clone, Debug)]
pub struct Output {
    pub ok: bool,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a program to its end with a standard input.
pub fn output(mut command: Command, stdin: &str) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{command:?}"))?;
    let mut pipe = child.stdin.take().context("standard input")?;
    let input = stdin.as_bytes().to_vec();
    // A program that ends without reading closes the pipe: that is its right.
    let writer = std::thread::spawn(move || pipe.write_all(&input));
    let out = child.wait_with_output()?;
    let _ = writer.join();
    Ok(Output {
        ok: out.status.success(),
        code: out.status.code(),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    })
}
