//! A registry on loopback that serves the test images from their archives: read-only, over plain HTTP, for
//! pods that pull although an image is there. Speaks what pulls need of the OCI distribution protocol.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;

/// The registry that the test images are named after.
pub const DOMAIN: &str = "registry.k8s.io";

/// Where a blob's bytes are.
struct Blob {
    archive: PathBuf,
    at: u64,
    size: u64,
}

/// What all archives of a folder hold.
#[derive(Default)]
struct Content {
    blobs: HashMap<String, Blob>,
    /// Digest and media type by `repository:tag`.
    tags: HashMap<String, (String, String)>,
    /// Media types of manifests by digest.
    manifests: HashMap<String, String>,
}

/// Serves the archives of a folder for as long as the process lives; gives the port.
pub async fn serve(images: &Path) -> Result<u16> {
    let content = Arc::new(Content::read(images)?);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let content = content.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let content = content.clone();
                    async move { Ok::<_, Infallible>(content.answer(&request)) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                // A client that goes away is no failure of the test's.
                let _ = connection
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Ok(port)
}

/// Makes a registry on loopback the mirror of [`DOMAIN`], in the files that k0s reads.
pub fn mirror(port: u16) -> Result<()> {
    let dir = Path::new("/etc/k0s/containerd.d/certs.d").join(DOMAIN);
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let text = format!(
        "server = \"https://{DOMAIN}\"\n[host.\"http://127.0.0.1:{port}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
    );
    std::fs::write(dir.join("hosts.toml"), text).context("writing hosts.toml")
}

// === Content ===

impl Content {
    fn read(images: &Path) -> Result<Self> {
        let mut content = Self::default();
        let files = std::fs::read_dir(images).context("test images: run cargo xtask images")?;
        for file in files {
            let path = file?.path();
            if path.extension().is_some_and(|e| e == "tar") {
                content
                    .add(&path)
                    .with_context(|| path.display().to_string())?;
            }
        }
        Ok(content)
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let mut archive = tar::Archive::new(std::fs::File::open(path)?);
        let mut index = Value::Null;
        for entry in archive.entries_with_seek()? {
            let mut entry = entry?;
            let name = entry.path()?.to_string_lossy().into_owned();
            if name == "index.json" {
                index = serde_json::from_reader(&mut entry)?;
            } else if let Some(hex) = name.strip_prefix("blobs/sha256/") {
                let blob = Blob {
                    archive: path.into(),
                    at: entry.raw_file_position(),
                    size: entry.size(),
                };
                self.blobs.insert(format!("sha256:{hex}"), blob);
            }
        }
        for manifest in index["manifests"].as_array().into_iter().flatten() {
            let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
            let (digest, media) = (text(&manifest["digest"]), text(&manifest["mediaType"]));
            let reference = text(&manifest["annotations"]["io.containerd.image.name"]);
            if let Some(tag) = reference.strip_prefix(&format!("{DOMAIN}/")) {
                self.tags
                    .insert(tag.into(), (digest.clone(), media.clone()));
            }
            self.manifests.insert(digest, media);
        }
        Ok(())
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let found = self.find(request.uri().path());
        let head = request.method() == Method::HEAD;
        let Some((digest, media)) = found else {
            return plain(StatusCode::NOT_FOUND, Bytes::new());
        };
        let Some(blob) = self.blobs.get(&digest) else {
            // `/v2/` itself, which says that the protocol is spoken.
            return plain(StatusCode::OK, Bytes::from_static(b"{}"));
        };
        let body = match head {
            true => Bytes::new(),
            false => match blob.read() {
                Ok(bytes) => bytes,
                Err(error) => {
                    let text = format!("{error:#}");
                    return plain(StatusCode::INTERNAL_SERVER_ERROR, text.into());
                }
            },
        };
        let made = Response::builder()
            .header(CONTENT_TYPE, media)
            .header(CONTENT_LENGTH, blob.size)
            .header("docker-content-digest", digest)
            .body(Full::new(body));
        made.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, Bytes::new()))
    }

    /// Digest and media type of what a path names; the digest of `/v2/` is empty.
    fn find(&self, path: &str) -> Option<(String, String)> {
        let path = path.strip_prefix("/v2/")?;
        if path.is_empty() {
            return Some((String::new(), String::new()));
        }
        if let Some((_, digest)) = path.split_once("/blobs/") {
            let known = self.blobs.contains_key(digest);
            return known.then(|| (digest.into(), "application/octet-stream".into()));
        }
        let (repository, reference) = path.split_once("/manifests/")?;
        if let Some(found) = self.tags.get(&format!("{repository}:{reference}")) {
            return Some(found.clone());
        }
        let media = self.manifests.get(reference)?;
        Some((reference.into(), media.clone()))
    }
}

impl Blob {
    fn read(&self) -> Result<Bytes> {
        let mut file = std::fs::File::open(&self.archive)?;
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        file.take(self.size).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }
}

fn plain(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}
