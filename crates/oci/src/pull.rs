//! Pulls: resolve, fetch what is missing, unpack, name. Follows containerd's CRI plugin in order and error texts.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use http_body_util::BodyExt;

use crate::digest::Digest;
use crate::disk::discard;
use crate::error::Error;
use crate::limits;
use crate::manifest::{Descriptor, Document, Manifest, Platform};
use crate::reference::Reference;
use crate::registry::{Auth, Session};
use crate::store::{Arriving, ImageStore, layer_plan, parse_config};

/// How far a pull is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub layers_done: u32,
    pub layers: u32,
    pub bytes_done: u64,
    pub bytes: u64,
}

/// Is told how far a pull is; must not block.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// Counts what all layers of a pull have got.
struct Meter {
    sink: ProgressSink,
    layers: u32,
    bytes: u64,
    layers_done: AtomicU32,
    bytes_done: AtomicU64,
}

/// Bytes between two reports.
const REPORT_BYTES: u64 = 1 << 20;

// === ImageStore ===

impl ImageStore {
    /// Pulls an image; gives its id. What is here already is not fetched again, and the same reference is pulled once
    /// however many ask at a time.
    pub async fn pull(
        &self,
        reference: &str,
        auth: Option<Auth>,
        progress: ProgressSink,
    ) -> Result<String, Error> {
        let parsed = Reference::parse(reference).map_err(|e| {
            Error::from(e).within(format!("failed to parse image reference {reference:?}"))
        })?;
        let name = parsed.to_string();
        let gate = self
            .inner
            .pulling
            .lock()
            .entry(name.clone())
            .or_default()
            .clone();
        let result = {
            let _turn = gate.lock().await;
            self.pull_now(&parsed, auth.unwrap_or_default(), progress)
                .await
        };
        drop(gate);
        self.inner
            .pulling
            .lock()
            .retain(|_, gate| Arc::strong_count(gate) > 1);
        result
            .map(|id| id.to_string())
            .map_err(|e| e.within(format!("failed to pull and unpack image {name:?}")))
    }

    async fn pull_now(
        &self,
        reference: &Reference,
        auth: Auth,
        progress: ProgressSink,
    ) -> Result<Digest, Error> {
        let session = Arc::new(Session::new(&self.inner.registry, reference, auth)?);
        let target = session
            .resolve()
            .await
            .map_err(|e| e.within(format!("failed to resolve reference \"{reference}\"")))?;
        let names: BTreeSet<String> = reference.tagged().into_iter().collect();
        let digests: BTreeSet<String> = [reference.with_digest(&target)].into();
        if let Some(id) = self.known(&target, &names, &digests).await? {
            return Ok(id);
        }
        let copying = |e: Error| e.within("failed to copy");
        let (index, manifest, parsed) = select(&session, &target).await.map_err(copying)?;
        let wanted = &parsed.config.digest;
        let config = session
            .small_blob(wanted, limits::CONFIG_BYTES)
            .await
            .map_err(copying)?;
        let plan = layer_plan(&parse_config(wanted, &config)?, &parsed.layers)?;
        let protection = self.inner.protect(&plan);
        let missing: Vec<usize> = (0..plan.len())
            .filter(|at| !self.inner.has_layer(&plan[*at].chain))
            .collect();
        let meter = Arc::new(Meter {
            sink: progress,
            layers: missing.len() as u32,
            bytes: missing.iter().map(|at| plan[*at].blob.size).sum(),
            layers_done: AtomicU32::new(0),
            bytes_done: AtomicU64::new(0),
        });
        let plan = Arc::new(plan);
        let mut downloads = futures::stream::iter(missing)
            .map(|at| {
                let (session, meter, plan) = (session.clone(), meter.clone(), plan.clone());
                async move {
                    self.download(&session, &plan[at].blob, &meter)
                        .await
                        .map(|()| at)
                }
            })
            .buffered(limits::DOWNLOADS);
        // Layers unpack bottom up while those above still come in.
        while let Some(at) = downloads.next().await {
            let at = at.map_err(copying)?;
            let plan = plan.clone();
            self.blocking("unpack of a layer", move |inner| {
                let path = inner.disk.partial(&plan[at].blob.digest);
                inner.ensure_layer(&plan, at, || {
                    let file = std::fs::File::open(&path).map_err(Error::io("open", &path))?;
                    Ok(Box::new(file))
                })?;
                discard(&path)
            })
            .await?;
            meter.layers_done.fetch_add(1, Ordering::Relaxed);
            meter.report();
        }
        drop(downloads);
        let image = Arriving {
            target,
            index,
            manifest,
            config,
            layers: parsed.layers,
            names,
            digests,
            pinned: false,
        };
        self.blocking("commit of an image", move |inner| {
            let id = inner.commit(image, &plan);
            drop(protection);
            id
        })
        .await
    }

    /// The image of a digest that is here, which gets the names.
    async fn known(
        &self,
        target: &Digest,
        names: &BTreeSet<String>,
        digests: &BTreeSet<String>,
    ) -> Result<Option<Digest>, Error> {
        let (target, names, digests) = (target.clone(), names.clone(), digests.clone());
        self.blocking("naming of an image", move |inner| {
            let found = inner.read(|records| {
                records
                    .images
                    .values()
                    .find(|r| r.target == target || r.manifest == target)
                    .cloned()
            });
            let Some(mut record) = found else {
                return Ok(None);
            };
            let id = record.id.clone();
            if names.is_subset(&record.names) && digests.is_subset(&record.digests) {
                return Ok(Some(id));
            }
            record.names.extend(names);
            record.digests.extend(digests);
            inner.change(|records| records.insert(record))?;
            Ok(Some(id))
        })
        .await
    }

    /// Gets a blob into its partial file, whole and checked.
    async fn download(
        &self,
        session: &Session,
        blob: &Descriptor,
        meter: &Meter,
    ) -> Result<(), Error> {
        let mut attempt = 0;
        loop {
            match self.attempt(session, blob, meter).await {
                Ok(()) => return Ok(()),
                Err(e) if e.may_pass() && attempt + 1 < limits::BLOB_ATTEMPTS => {
                    attempt += 1;
                    tracing::info!(blob = %blob.digest, error = %e, attempt, "a download goes on after an error");
                    tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
                }
                Err(e) => return Err(e),
            }
        }
    }

    async fn attempt(
        &self,
        session: &Session,
        blob: &Descriptor,
        meter: &Meter,
    ) -> Result<(), Error> {
        let path = self.inner.disk.partial(&blob.digest);
        let have = std::fs::metadata(&path).map_or(0, |m| m.len());
        if have < blob.size || blob.size == 0 {
            let (body, begin) = session.blob(&blob.digest, have).await?;
            let file = open_partial(&path, begin)?;
            meter.add(begin);
            stream(body, file, begin, blob, meter).await?;
        } else {
            meter.add(have);
        }
        let digest = blob.digest.clone();
        self.blocking("check of a blob", move |_| {
            let file = std::fs::File::open(&path).map_err(Error::io("open", &path))?;
            let (found, _) = crate::digest::Hashing::new(file, &digest)
                .finish()
                .map_err(Error::io("read", &path))?;
            if found == digest {
                return Ok(());
            }
            discard(&path)?;
            Err(Error::Mismatch {
                what: format!("layer-{digest}"),
                expected: digest.to_string(),
                found: found.to_string(),
            })
        })
        .await
    }
}

fn open_partial(path: &std::path::Path, begin: u64) -> Result<std::fs::File, Error> {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(Error::io("open", path))?;
    file.set_len(begin).map_err(Error::io("cut", path))?;
    let mut file = file;
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).map_err(Error::io("read", path))?;
    Ok(file)
}

/// Writes a body behind what is there. The registry may not send more than it said.
async fn stream(
    mut body: hyper::body::Incoming,
    mut file: std::fs::File,
    begin: u64,
    blob: &Descriptor,
    meter: &Meter,
) -> Result<(), Error> {
    let failed = |cause: String| Error::Request {
        method: "Get".to_string(),
        url: format!("blobs/{}", blob.digest),
        cause,
    };
    let patience = Duration::from_secs(limits::STALL_SECONDS);
    let mut total = begin;
    loop {
        let frame = tokio::time::timeout(patience, body.frame())
            .await
            .map_err(|_| failed("i/o timeout".to_string()))?;
        let Some(frame) = frame else {
            break;
        };
        let frame = frame.map_err(|e| failed(e.to_string()))?;
        let Some(chunk) = frame.data_ref() else {
            continue;
        };
        total += chunk.len() as u64;
        if blob.size > 0 && total > blob.size {
            return Err(Error::Mismatch {
                what: format!("layer-{}", blob.digest),
                expected: format!("{} bytes", blob.size),
                found: "more".to_string(),
            });
        }
        file.write_all(chunk)
            .map_err(Error::io("write", blob.digest.as_str()))?;
        meter.add(chunk.len() as u64);
    }
    if total < blob.size {
        return Err(failed("unexpected EOF".to_string()));
    }
    Ok(())
}

/// Finds this machine's manifest: the index around it if there is one, its bytes, itself.
async fn select(
    session: &Session,
    target: &Digest,
) -> Result<(Option<Vec<u8>>, Vec<u8>, Manifest), Error> {
    let top = session.manifest(target).await?;
    let mut data = top.clone();
    let mut digest = target.clone();
    for depth in 0..=limits::INDEX_DEPTH {
        match Document::parse(digest.as_str(), &data)? {
            Document::Manifest(manifest) => {
                return Ok(((depth > 0).then_some(top), data, *manifest));
            }
            Document::Index(entries) => {
                let chosen = Platform::host()
                    .choose(&entries)
                    .first()
                    .map(|d| d.digest.clone());
                digest = chosen.ok_or_else(|| Error::Platform(digest.to_string()))?;
                data = session.manifest(&digest).await?;
            }
        }
    }
    Err(Error::Limit {
        what: "indexes within indexes".to_string(),
        limit: limits::INDEX_DEPTH as u64,
    })
}

// === Meter ===

impl Meter {
    fn add(&self, bytes: u64) {
        let before = self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
        if before / REPORT_BYTES != (before + bytes) / REPORT_BYTES {
            self.report();
        }
    }

    fn report(&self) {
        (self.sink)(Progress {
            layers_done: self.layers_done.load(Ordering::Relaxed),
            layers: self.layers,
            bytes_done: self.bytes_done.load(Ordering::Relaxed).min(self.bytes),
            bytes: self.bytes,
        });
    }
}
