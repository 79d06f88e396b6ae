//! /logs: files of the node's /var/log. Upstream: kubelet's log file server.

use std::path::{Component, Path, PathBuf};

use http::{Response, StatusCode};

use super::body::{self, Body};

/// Files of /var/log.
pub async fn host(rest: &[&str]) -> Response<Body> {
    let not_found = || body::text(StatusCode::NOT_FOUND, "404 page not found\n");
    let relative: PathBuf = rest.iter().filter(|p| !p.is_empty()).collect();
    let normal = relative
        .components()
        .all(|c| matches!(c, Component::Normal(_)));
    if !normal {
        return not_found();
    }
    let path = Path::new("/var/log").join(relative);
    let Ok(meta) = tokio::fs::metadata(&path).await else {
        return not_found();
    };
    if meta.is_dir() {
        return directory(&path);
    }
    match tokio::fs::File::open(&path).await {
        Ok(file) => {
            let stream = tokio_util::io::ReaderStream::new(file);
            body::answer(
                StatusCode::OK,
                "text/plain; charset=utf-8",
                body::stream(stream),
            )
        }
        Err(_) => not_found(),
    }
}

fn directory(path: &Path) -> Response<Body> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|e| {
            let slash = if e.path().is_dir() { "/" } else { "" };
            format!("{}{slash}", e.file_name().to_string_lossy())
        })
        .collect();
    names.sort();
    let escape = |t: &str| {
        t.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('"', "&#34;")
    };
    let lines: String = names
        .iter()
        .map(|n| format!("<a href=\"{0}\">{0}</a>\n", escape(n)))
        .collect();
    let text = format!(
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n{lines}</pre>\n"
    );
    body::answer(StatusCode::OK, "text/html; charset=utf-8", body::full(text))
}
