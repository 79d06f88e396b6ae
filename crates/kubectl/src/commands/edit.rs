//! `kubectl edit`: the object in `$KUBE_EDITOR` or `$EDITOR`. The editor is the user's own choice.

use clap::Args;
use serde_json::Value;

use super::{Command, Run, modify};
use crate::builder::{self, Files, Narrow};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{DryRun, Output};
use crate::yaml;

pub const COMMAND: Command = Command::of::<Flags>("edit", &[], "Edit a resource on the server");

const HEAD: &str = "# Please edit the object below. Lines beginning with a '#' will be ignored,\n# and an empty file will abort the edit. If an error occurs while saving this file will be\n# reopened with the relevant failures.\n#\n";

/// Flags of `edit`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: Output,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let (infos, errors) =
            builder::existing(&cx, &self.words, &self.files, &Narrow::default()).await?;
        Error::collect(errors)?;
        for mut info in infos {
            if let Some(meta) = info.object["metadata"].as_object_mut() {
                meta.remove("managedFields");
            }
            let before = format!("{HEAD}{}", yaml::to_string(&info.object));
            let mut text = before.clone();
            loop {
                let edited = edit(&text, &info.name)?;
                let lines = |t: &str| {
                    t.lines()
                        .filter(|l| !l.starts_with('#'))
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                };
                if lines(&edited) == lines(&before)
                    || lines(&edited).iter().all(|l| l.trim().is_empty())
                {
                    println!("Edit cancelled, no changes made.");
                    break;
                }
                if edited == text && text != before {
                    return Err(Error::text("Edit cancelled, no valid changes were saved."));
                }
                let result = async {
                    let parsed = yaml::parse_all(&edited).map_err(Error::text)?;
                    let after: Value = parsed.into_iter().next().unwrap_or_default();
                    modify::send(&cx, &info, &after, "kubectl-edit", DryRun::No).await
                };
                match result.await {
                    Ok((done, true)) => {
                        self.output.print(&info, &done, "edited")?;
                        break;
                    }
                    Ok(_) => {
                        println!("Edit cancelled, no changes made.");
                        break;
                    }
                    Err(e) => {
                        let why: Vec<String> =
                            e.to_string().lines().map(|l| format!("# {l}")).collect();
                        text = format!(
                            "{HEAD}{}\n#\n{}\n",
                            why.join("\n"),
                            lines(&edited).join("\n")
                        );
                    }
                }
            }
        }
        Ok(())
    }
}

fn edit(text: &str, name: &str) -> Result<String> {
    let editor = ["KUBE_EDITOR", "EDITOR"]
        .iter()
        .find_map(|n| std::env::var(n).ok().filter(|v| !v.is_empty()))
        .unwrap_or_else(|| "vi".into());
    let path =
        std::env::temp_dir().join(format!("kubectl-edit-{}-{name}.yaml", std::process::id()));
    {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(text.as_bytes())?;
    }
    let mut words = editor.split_whitespace();
    let status = std::process::Command::new(words.next().unwrap_or("vi"))
        .args(words)
        .arg(&path)
        .status();
    let result = std::fs::read_to_string(&path);
    std::fs::remove_file(&path)?;
    match status {
        Ok(s) if s.success() => Ok(result?),
        Ok(_) => Err(Error::text(format!(
            "there was a problem with the editor \"{editor}\""
        ))),
        Err(e) => Err(Error::text(format!(
            "unable to launch the editor \"{editor}\": {e}"
        ))),
    }
}
