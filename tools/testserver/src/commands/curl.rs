//! curl, as far as the tests use it.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::client::{self, Failure, Options};
use crate::tls;

pub fn run(args: &[String]) -> Result<u8> {
    let mut options = Options {
        connect: Duration::from_secs(120),
        patience: Duration::from_secs(300),
        ..Options::default()
    };
    let (mut silent, mut show, mut fail, mut output, mut url) = (false, false, false, None, None);
    let mut include_code = None;
    let mut args = args.iter().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || {
            args.next()
                .cloned()
                .with_context(|| format!("curl: option {arg}: requires parameter"))
        };
        match arg.as_str() {
            "-q" | "-g" | "--globoff" | "-4" | "-6" | "-L" => {}
            "-s" | "--silent" => silent = true,
            "-S" | "--show-error" => show = true,
            "-f" | "--fail" => fail = true,
            "-sS" | "-Ss" => (silent, show) = (true, true),
            "-k" | "--insecure" => options.tls = Some(tls::client(None, None)?),
            "-o" | "--output" => output = Some(value()?),
            "-w" | "--write-out" => include_code = Some(value()?),
            "-X" | "--request" => {
                options.method = match value()?.as_str() {
                    "GET" => "GET",
                    "POST" => "POST",
                    "PUT" => "PUT",
                    "DELETE" => "DELETE",
                    other => bail!("curl: method {other} is not supported"),
                }
            }
            "-d" | "--data" => {
                options.body = value()?.into_bytes();
                options.method = "POST";
                let kind = "application/x-www-form-urlencoded".to_string();
                options.headers.push(("Content-Type".into(), kind));
            }
            "-H" | "--header" => {
                let text = value()?;
                let (name, value) = text
                    .split_once(':')
                    .context("curl: a header without colon")?;
                options
                    .headers
                    .push((name.to_string(), value.trim().to_string()));
            }
            "-m" | "--max-time" => options.patience = seconds(&value()?)?,
            "--connect-timeout" => options.connect = seconds(&value()?)?,
            "--interface" => {
                options.from = Some(
                    value()?
                        .parse()
                        .context("curl: interface must be an address")?,
                )
            }
            other if other.starts_with('-') => {
                eprintln!("curl: option {other}: is unknown");
                return Ok(2);
            }
            other => url = Some(other.to_string()),
        }
    }
    options.connect = options.connect.min(options.patience);
    let url = url.context("curl: no URL specified")?;
    let (status, body) = match client::request(&url, &options) {
        Ok(got) => got,
        Err((failure, error)) => {
            let code = match failure {
                Failure::Resolve => 6,
                Failure::Connect => 7,
                Failure::Timeout => 28,
                Failure::Other => 56,
            };
            if !silent || show {
                eprintln!("curl: ({code}) {error:#}");
            }
            return Ok(code);
        }
    };
    if fail && status >= 400 {
        return Ok(22);
    }
    match output {
        Some(path) => std::fs::write(path, body)?,
        None => std::io::stdout().write_all(&body)?,
    }
    if let Some(format) = include_code {
        print!(
            "{}",
            format
                .replace("%{http_code}", &status.to_string())
                .replace("\\n", "\n")
        );
    }
    Ok(0)
}

fn seconds(text: &str) -> Result<Duration> {
    let number: f64 = text
        .parse()
        .with_context(|| format!("curl: {text} is no time"))?;
    Ok(Duration::try_from_secs_f64(number)?)
}
