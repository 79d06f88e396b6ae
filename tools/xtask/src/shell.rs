//! Running programs: each command is printed before it starts, and a failure names it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The root of the repository.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(PathBuf::from).unwrap_or(here)
}

/// The release binary's path.
pub fn release_binary() -> PathBuf {
    target_dir().join("x86_64-unknown-linux-gnu/release/k0s")
}

/// Cargo's target directory.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| root().join("target"))
}

/// Runs a program in the repository's root; an exit code other than 0 is an error.
pub fn run(program: &str, args: &[&str]) -> Result<()> {
    run_with(program, args, &[])
}

/// The same with extra environment variables.
pub fn run_with(program: &str, args: &[&str], env: &[(&str, &str)]) -> Result<()> {
    println!("$ {program} {}", args.join(" "));
    let begun = Instant::now();
    let status = command(program, args)
        .envs(env.iter().copied())
        .status()
        .with_context(|| format!("starting {program}"))?;
    println!("  {:.1} s", begun.elapsed().as_secs_f64());
    if !status.success() {
        bail!("{program} {} ended with {status}", args.join(" "));
    }
    Ok(())
}

/// A program to run in the repository's root.
fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if is_of_this_package(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command.args(args).current_dir(root()).stdin(Stdio::null());
    command
}

/// Whether `cargo xtask` set a variable for this program. Build scripts (ring's) look at them: left to another
/// cargo they would have it build half the tree anew, each time somebody changes between the two.
fn is_of_this_package(variable: &str) -> bool {
    let ours = [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_CRATE_",
        "CARGO_BIN_",
    ];
    ours.iter().any(|prefix| variable.starts_with(prefix)) || variable == "CARGO_PRIMARY_PACKAGE"
}

/// A program's standard output.
pub fn output(program: &str, args: &[&str]) -> Result<String> {
    let out = Command::new(program)
        .args(args)
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {program}"))?;
    if !out.status.success() {
        bail!("{program} {} ended with {}", args.join(" "), out.status);
    }
    Ok(String::from_utf8(out.stdout)?)
}

/// Whether a program is in PATH.
pub fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Whether we are root.
pub fn is_root() -> bool {
    output("id", &["-u"]).is_ok_and(|o| o.trim() == "0")
}

const RELEASE: [&str; 4] = ["build", "--release", "--package", "k0s"];

/// Builds the release binary and gives its path.
pub fn build_release() -> Result<PathBuf> {
    run("cargo", &RELEASE)?;
    Ok(release_binary())
}

/// A build of the release binary that goes on beside other work, which comes first; ended where it is dropped.
pub struct ReleaseBuild {
    child: Child,
    begun: Instant,
    said: PathBuf,
}

impl ReleaseBuild {
    /// Starts it.
    pub fn begin() -> Result<Self> {
        println!("$ cargo {} (beside what follows)", RELEASE.join(" "));
        std::fs::create_dir_all(target_dir())?;
        let said = target_dir().join("release-build.log");
        let file = std::fs::File::create(&said)?;
        let mut args = vec!["-n", "10", "cargo"];
        args.extend(RELEASE);
        let child = command("nice", &args)
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("starting nice")?;
        Ok(Self {
            child,
            begun: Instant::now(),
            said,
        })
    }

    /// Waits for its end.
    pub fn end(mut self) -> Result<()> {
        let status = self.child.wait()?;
        let seconds = self.begun.elapsed().as_secs_f64();
        println!(
            "$ cargo {}\n  {seconds:.1} s after its start",
            RELEASE.join(" ")
        );
        if !status.success() {
            let said = std::fs::read_to_string(&self.said).unwrap_or_default();
            bail!("the release build ended with {status}:\n{said}");
        }
        Ok(())
    }
}

impl Drop for ReleaseBuild {
    fn drop(&mut self) {
        // One that has ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
