//! `-o`, `--dry-run` and what is printed of an object that was written.

use clap::Args;
use serde_json::Value;

use crate::builder::Info;
use crate::error::{Error, Result};
use crate::printers::Printer;

/// `-o` and `--dry-run` of commands that write.
#[derive(Clone, Debug, Default, Args)]
pub struct Output {
    /// Output format: json, yaml, name, jsonpath, jsonpath-file, custom-columns
    #[arg(short, long)]
    pub output: Option<String>,
    /// Must be "none", "server", or "client"
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "unchanged", default_value = "none")]
    pub dry_run: String,
    /// If true, keep the managedFields when printing objects in JSON or YAML format
    #[arg(long)]
    pub show_managed_fields: bool,
    /// Template string to use with -o=jsonpath
    #[arg(long)]
    pub template: Option<String>,
}

/// `--dry-run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DryRun {
    No,
    Client,
    Server,
}

// === Output ===

impl Output {
    /// What `--dry-run` says.
    pub fn dry_run(&self) -> Result<DryRun> {
        match self.dry_run.as_str() {
            "none" | "false" => Ok(DryRun::No),
            "client" | "true" => Ok(DryRun::Client),
            "server" => Ok(DryRun::Server),
            "unchanged" => Ok(DryRun::Client),
            other => Err(Error::text(format!(
                "Invalid dry-run value ({other}). Must be \"none\", \"server\", or \"client\"."
            ))),
        }
    }

    /// Prints what was done to an object: its name and the deed, or the object in the format asked.
    pub fn print(&self, info: &Info, object: &Value, deed: &str) -> Result<()> {
        let dry = match self.dry_run()? {
            DryRun::No => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        };
        self.print_plainly(info, object, &format!("{deed}{dry}"))
    }

    /// The same by commands that do not say that it was a dry run.
    pub fn print_plainly(&self, info: &Info, object: &Value, deed: &str) -> Result<()> {
        match self.output.as_deref() {
            None | Some("") => println!("{} {deed}", info.display()),
            Some("name") => println!("{}", info.display()),
            Some(format) => {
                let printer = Printer::parse(format, self.template.as_deref())?;
                print!("{}", printer.object(object, self.show_managed_fields)?);
            }
        }
        Ok(())
    }
}
