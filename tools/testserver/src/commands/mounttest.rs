//! `mounttest`: what a mounted file is like.

use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use rustix::fs::Mode;

use crate::flags::Flags;
use crate::log;

const NEW_FILE: &[u8] = b"mount-tester new file\n";
const TMPFS: u64 = 0x0102_1994;

pub fn run(args: &[String]) -> Result<u8> {
    let known = [
        ("fs-type", ""),
        ("new-file-0644", ""),
        ("new-file-0666", ""),
        ("new-file-0660", ""),
        ("new-file-0777", ""),
        ("file-mode", ""),
        ("file-perm", ""),
        ("file-owner", ""),
        ("file-content", ""),
        ("file-content-in-loop", ""),
        ("retry-time", "180"),
        ("break-on-expected-content", "true"),
    ];
    let flags = Flags::parse(args, &known, false)?;
    log::end_on_signal();
    rustix::process::umask(Mode::empty());
    let retry = Duration::from_secs(u64::try_from(flags.number("retry-time")?)?);
    let stop = flags.on("break-on-expected-content");
    type Step<'a> = (&'static str, Box<dyn Fn(&str) -> Result<()> + 'a>);
    let steps: Vec<Step<'_>> = vec![
        ("fs-type", Box::new(fs_type)),
        ("new-file-0644", Box::new(|p| new_file(p, 0o644))),
        ("new-file-0666", Box::new(|p| new_file(p, 0o666))),
        ("new-file-0660", Box::new(|p| new_file(p, 0o660))),
        ("new-file-0777", Box::new(|p| new_file(p, 0o777))),
        ("file-mode", Box::new(file_mode)),
        ("file-perm", Box::new(file_perm)),
        ("file-owner", Box::new(file_owner)),
        ("file-content", Box::new(file_content)),
        (
            "file-content-in-loop",
            Box::new(move |p| content_in_loop(p, retry, stop)),
        ),
    ];
    let mut failed = false;
    for (name, step) in steps {
        let path = flags.get(name);
        if !path.is_empty() && step(path).is_err() {
            failed = true;
        }
    }
    Ok(u8::from(failed))
}

/// Prints an error as Go would, and passes it on.
fn told<T>(what: &str, path: &str, operation: &str, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|e| {
        println!("{what} {path:?}: {operation} {path}: {}", system_text(&e));
        anyhow!(e)
    })
}

/// The system's words in lower case, without Rust's number.
fn system_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars
        .next()
        .map(|c| c.to_ascii_lowercase())
        .into_iter()
        .chain(chars)
        .collect()
}

fn fs_type(path: &str) -> Result<()> {
    match rustix::fs::statfs(path) {
        Ok(stat) if stat.f_type as u64 == TMPFS => println!("mount type of {path:?}: tmpfs"),
        Ok(stat) => println!("mount type of {path:?}: {}", stat.f_type),
        Err(e) => {
            let e = std::io::Error::from(e);
            println!("error from statfs({path:?}): {}", system_text(&e));
            return Err(e.into());
        }
    }
    Ok(())
}

fn new_file(path: &str, mode: u32) -> Result<()> {
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut f| std::io::Write::write_all(&mut f, NEW_FILE));
    told("error writing new file", path, "open", written)?;
    file_content(path)
}

fn file_mode(path: &str) -> Result<()> {
    let meta = told(
        "error gathering file stat information for",
        path,
        "stat",
        std::fs::metadata(path),
    )?;
    println!("mode of file {path:?}: {}", mode_text(meta.mode()));
    Ok(())
}

fn file_perm(path: &str) -> Result<()> {
    let meta = told(
        "error gathering file stat information for",
        path,
        "stat",
        std::fs::metadata(path),
    )?;
    println!("perms of file {path:?}: -{}", permissions(meta.mode()));
    Ok(())
}

fn file_owner(path: &str) -> Result<()> {
    let meta = told(
        "error gathering file stat information for",
        path,
        "stat",
        std::fs::metadata(path),
    )?;
    println!("owner UID of {path:?}: {}", meta.uid());
    println!("owner GID of {path:?}: {}", meta.gid());
    Ok(())
}

fn file_content(path: &str) -> Result<()> {
    let data = told(
        "error reading file content for",
        path,
        "open",
        std::fs::read(path),
    )?;
    print_content(path, &data)
}

fn print_content(path: &str, data: &[u8]) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    out.write_all(format!("content of file {path:?}: ").as_bytes())?;
    out.write_all(data)?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

/// Reads the file by its path again and again: it may be switched by a link.
fn content_in_loop(path: &str, retry: Duration, stop: bool) -> Result<()> {
    let begun = Instant::now();
    loop {
        let result = std::fs::read(path);
        match &result {
            Err(e) => println!(
                "Error reading file {path}: open {path}: {}, retrying",
                system_text(e)
            ),
            Ok(data) => {
                print_content(path, data)?;
                if stop && data == NEW_FILE {
                    return Ok(());
                }
                if stop {
                    println!(
                        "Unexpected content. Expected: {}. Retrying",
                        String::from_utf8_lossy(NEW_FILE)
                    );
                }
            }
        }
        if begun.elapsed() + Duration::from_secs(2) > retry {
            return result.map(|_| ()).map_err(Into::into);
        }
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// Go's FileMode.String.
fn mode_text(mode: u32) -> String {
    let mut out = String::new();
    let kind = mode & 0o170_000;
    let letters = [
        (kind == 0o040_000, "d"),
        (kind == 0o120_000, "L"),
        (kind == 0o060_000 || kind == 0o020_000, "D"),
        (kind == 0o010_000, "p"),
        (kind == 0o140_000, "S"),
        (mode & 0o4000 != 0, "u"),
        (mode & 0o2000 != 0, "g"),
        (kind == 0o020_000, "c"),
        (mode & 0o1000 != 0, "t"),
    ];
    for (on, letter) in letters {
        if on {
            out.push_str(letter);
        }
    }
    if out.is_empty() {
        out.push('-');
    }
    out + &permissions(mode)
}

fn permissions(mode: u32) -> String {
    (0..9)
        .map(|bit| {
            if mode & (0o400 >> bit) != 0 {
                ["r", "w", "x"][bit % 3]
            } else {
                "-"
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{mode_text, permissions};

    #[test]
    fn modes_are_gos() {
        assert_eq!(mode_text(0o100_644), "-rw-r--r--");
        assert_eq!(mode_text(0o041_777), "dtrwxrwxrwx");
        assert_eq!(mode_text(0o104_755), "urwxr-xr-x");
        assert_eq!(permissions(0o040_400), "r--------");
    }
}
