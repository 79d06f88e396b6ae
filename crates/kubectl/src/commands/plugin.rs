//! `kubectl plugin list`: programs on the PATH whose names begin with `kubectl-`. They are named, never run.
//! Upstream: kubectl/pkg/cmd/plugin.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{COMMANDS, Command, Run};
use crate::context::Context;
use crate::error::{Error, Result};

pub const COMMAND: Command = Command::of::<Flags>(
    "plugin",
    &[],
    "Provides utilities for interacting with plugins",
);

/// Flags of `plugin`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// List all visible plugin executables on a user's PATH
    List {
        /// If true, display only the binary name of each plugin, rather than its full path
        #[arg(long)]
        name_only: bool,
    },
}

/// The plugins in these folders, each folder once, in order of names.
fn found(folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for (i, folder) in folders.iter().enumerate() {
        if folder.as_os_str().is_empty() || folders[..i].contains(folder) {
            continue;
        }
        let files = match std::fs::read_dir(folder) {
            Ok(files) => files,
            Err(e) => {
                let shown = folder.display().to_string();
                eprintln!("Unable to read directory {shown:?} from your PATH: {e}. Skipping...");
                continue;
            }
        };
        let mut all: Vec<PathBuf> = files.flatten().map(|f| f.path()).collect();
        all.sort();
        let named = |p: &Path| file_name(p).starts_with("kubectl-");
        let file = |p: &Path| std::fs::symlink_metadata(p).is_ok_and(|m| !m.is_dir());
        all.retain(|p| named(p) && file(p));
        out.extend(all);
    }
    out
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// What is wrong with a plugin, given those seen before it.
fn problems(path: &Path, seen: &mut BTreeMap<String, PathBuf>) -> Vec<String> {
    let (name, shown) = (file_name(path), path.display());
    let mut out = Vec::new();
    match std::fs::metadata(path) {
        Ok(meta) if meta.permissions().mode() & 0o111 == 0 => out.push(format!(
            "warning: {shown} identified as a kubectl plugin, but it is not executable"
        )),
        Ok(_) => {}
        Err(e) => out.push(format!(
            "error: unable to identify {shown} as an executable file: {e}"
        )),
    }
    match seen.get(&name) {
        Some(first) => out.push(format!(
            "warning: {shown} is overshadowed by a similarly named plugin: {}",
            first.display()
        )),
        None => {
            seen.insert(name.clone(), path.to_path_buf());
        }
    }
    let word = name.split('-').nth(1).unwrap_or_default();
    if let Some(command) = COMMANDS.iter().find(|c| c.is(word)) {
        let command = command.name;
        out.push(format!(
            "warning: {name} overwrites existing command: \"kubectl {command}\""
        ));
    }
    out
}

impl Run for Flags {
    async fn run(self, _: Context) -> Result<()> {
        let Action::List { name_only } = self.action;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let plugins = found(&folders);
        if plugins.is_empty() {
            let why = "error: unable to find any kubectl plugins in your PATH";
            return Err(Error::text(why));
        }
        println!("The following compatible plugins are available:\n");
        let (mut seen, mut warnings) = (BTreeMap::new(), 0);
        for plugin in &plugins {
            match name_only {
                true => println!("{}", file_name(plugin)),
                false => println!("{}", plugin.display()),
            }
            for problem in problems(plugin, &mut seen) {
                eprintln!("  - {problem}");
                warnings += 1;
            }
        }
        match warnings {
            0 => Ok(()),
            1 => Err(Error::text("error: one plugin warning was found")),
            n => Err(Error::text(format!(
                "error: {n} plugin warnings were found"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_found_and_judged() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, mode: u32| {
            let path = dir.path().join(name);
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        make("kubectl-b", 0o755);
        make("kubectl-get-x", 0o644);
        make("other", 0o755);
        let folder = dir.path().to_path_buf();
        let all = found(&[folder.clone(), folder, PathBuf::new()]);
        let names: Vec<String> = all.iter().map(|p| file_name(p)).collect();
        assert_eq!(names, ["kubectl-b", "kubectl-get-x"]);
        let mut seen = BTreeMap::new();
        assert!(problems(&all[0], &mut seen).is_empty());
        let bad = problems(&all[1], &mut seen);
        assert!(bad[0].ends_with("is not executable"), "{bad:?}");
        assert!(bad[1].ends_with("overwrites existing command: \"kubectl get\""));
        assert!(problems(&all[0], &mut seen)[0].contains("is overshadowed by"));
    }
}
