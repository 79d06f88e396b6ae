//! Static files: `test-webserver`, the nginx and httpd images; and `liveness`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use crate::flags::Flags;
use crate::http1::{self, Reply, Request, sniff};
use crate::log;

pub fn test_webserver(args: &[String]) -> Result<u8> {
    let flags = Flags::parse(args, &[("port", "80")], false)?;
    files(flags.port("port")?, PathBuf::from("/"))
}

/// The web server images: the page is read at each request.
pub fn webserver(_: &[String]) -> Result<u8> {
    files(80, PathBuf::from("/usr/share/nginx/html"))
}

fn files(port: u16, root: PathBuf) -> Result<u8> {
    log::end_on_signal();
    let listener = http1::listen(port)?;
    log::line(&format!("serving {} on port {port}", root.display()));
    http1::serve(
        listener,
        None,
        Arc::new(move |request| {
            file(&root, request)
                .with("Cache-Control", "private")
                .with("Access-Control-Allow-Origin", "*")
                .with("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
                .with("Access-Control-Allow-Headers", "*")
        }),
    );
    Ok(0)
}

fn file(root: &Path, request: &Request) -> Reply {
    let missing = || Reply::error(404, "404 page not found");
    let mut path = root.to_path_buf();
    for part in request
        .path
        .split('/')
        .filter(|p| !p.is_empty() && *p != ".")
    {
        if part == ".." {
            return missing();
        }
        path.push(part);
    }
    if !path.is_dir() {
        return match std::fs::read(&path) {
            Ok(data) => ranged(request, data, kind(&path)),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                Reply::error(403, "403 Forbidden")
            }
            Err(_) => missing(),
        };
    }
    if !request.path.ends_with('/') {
        let last = request.path.rsplit('/').next().unwrap_or_default();
        return Reply::ok("")
            .status(301)
            .with("Location", &format!("{last}/"));
    }
    if let Ok(data) = std::fs::read(path.join("index.html")) {
        return Reply::ok(data).with("Content-Type", "text/html; charset=utf-8");
    }
    let Ok(entries) = std::fs::read_dir(&path) else {
        return missing();
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|e| {
            let slash = if e.path().is_dir() { "/" } else { "" };
            format!("{}{slash}", e.file_name().to_string_lossy())
        })
        .collect();
    names.sort();
    let links: String = names
        .iter()
        .map(|n| format!("<a href=\"{n}\">{n}</a>\n"))
        .collect();
    Reply::ok(format!("<pre>\n{links}</pre>\n")).with("Content-Type", "text/html; charset=utf-8")
}

/// A part of a file, where one range is asked for.
fn ranged(request: &Request, data: Vec<u8>, kind: Option<&'static str>) -> Reply {
    let kind = kind.unwrap_or_else(|| sniff(&data));
    let range = request
        .header("Range")
        .and_then(|r| r.strip_prefix("bytes=")?.split_once('-'));
    let size = data.len();
    let bounds = range.and_then(
        |(from, to)| match (from.parse::<usize>(), to.parse::<usize>()) {
            (Ok(from), Ok(to)) => Some((from, to.min(size.saturating_sub(1)))),
            (Ok(from), Err(_)) => Some((from, size.saturating_sub(1))),
            (Err(_), Ok(last)) => Some((size.saturating_sub(last), size.saturating_sub(1))),
            _ => None,
        },
    );
    let reply = match bounds {
        Some((from, to)) if from <= to && from < size => Reply::ok(&data[from..=to])
            .status(206)
            .with("Content-Range", &format!("bytes {from}-{to}/{size}")),
        Some(_) => {
            Reply::error(416, "invalid range").with("Content-Range", &format!("bytes */{size}"))
        }
        None => Reply::ok(data),
    };
    reply
        .with("Content-Type", kind)
        .with("Accept-Ranges", "bytes")
}

fn kind(path: &Path) -> Option<&'static str> {
    Some(match path.extension()?.to_str()? {
        "json" => "application/json",
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "txt" => "text/plain; charset=utf-8",
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        _ => return None,
    })
}

/// Healthy for ten seconds.
pub fn liveness(args: &[String]) -> Result<u8> {
    Flags::parse(args, &[], false)?;
    log::end_on_signal();
    let begun = Instant::now();
    http1::serve(
        http1::listen(8080)?,
        None,
        Arc::new(move |request| {
            let age = begun.elapsed();
            match request.path.as_str() {
                "/healthz" if age.as_secs_f64() > 10.0 => {
                    Reply::ok(format!("error: {}", age.as_secs_f64())).status(500)
                }
                "/healthz" => Reply::ok("ok"),
                "/started" => Reply::ok(format!("{}s", age.as_secs_f64())),
                "/redirect" => Reply::ok("")
                    .status(302)
                    .with("Location", request.parameter("loc")),
                _ => Reply::error(404, "404 page not found"),
            }
        }),
    );
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::file;
    use crate::http1::Request;

    #[test]
    fn files_are_served_as_they_are() {
        let dir = std::env::temp_dir().join(format!("testserver-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("d@x")).unwrap();
        std::fs::write(dir.join("data.json"), "{}").unwrap();
        let get = |path: &str| {
            file(
                &dir,
                &Request {
                    path: path.into(),
                    ..Request::default()
                },
            )
        };
        let kind = |path: &str| {
            get(path)
                .headers
                .iter()
                .find(|(n, _)| n == "Content-Type")
                .unwrap()
                .1
                .clone()
        };
        assert_eq!(get("/data.json").body, b"{}");
        assert_eq!(kind("/data.json"), "application/json");
        assert!(
            String::from_utf8(get("/").body)
                .unwrap()
                .contains("<a href=\"d@x/\">")
        );
        assert_eq!(get("/d@x").status, 301);
        assert_eq!(get("/none").status, 404);
        assert_eq!(get("/../etc/passwd").status, 404);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
