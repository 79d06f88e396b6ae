//! A snapshot of the whole etcd, in the form that `etcdutl snapshot restore` takes: the member's
//! database with its SHA-256 behind it.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tonic::Streaming;

use super::call::{self, Caller, Method};
use super::proto::{SnapshotRequest, SnapshotResponse};
use crate::error::Error;
use crate::file;
use crate::limits;

const SNAPSHOT: Method = Method::read("/etcdserverpb.Maintenance/Snapshot", "snapshot");

/// Bytes of the hash behind the database.
const HASH: usize = 32;

/// etcd's database consists of whole sectors.
const SECTOR: u64 = 512;

/// Streams a snapshot into an empty file and checks its hash; gives its size.
pub async fn copy(caller: &Caller, to: File, path: &Path) -> Result<u64, Error> {
    let requests = tokio_stream::once(SnapshotRequest {});
    let opened = caller.open::<_, SnapshotResponse>(SNAPSHOT, requests).await;
    let (_, mut parts): (usize, Streaming<SnapshotResponse>) =
        opened.map_err(|s| failed(call::told(&s)))?;
    let (mut hash, mut tail, mut size) = (Sha256::new(), Vec::new(), 0_u64);
    loop {
        let next = tokio::time::timeout(limits::ETCD_CALL, parts.message()).await;
        let part = next.map_err(|_| failed("no more of it came in time".into()))?;
        let Some(part) = part.map_err(|s| failed(call::told(&s)))? else {
            break;
        };
        size += part.blob.len() as u64;
        write(&to, part.blob.clone(), path).await?;
        // The last bytes are the hash of those before them.
        tail.extend_from_slice(&part.blob);
        let known = tail.len().saturating_sub(HASH);
        hash.update(&tail[..known]);
        tail.drain(..known);
    }
    if size % SECTOR != HASH as u64 || tail[..] != hash.finalize()[..] {
        return Err(failed("it came damaged or not wholly".into()));
    }
    let path = path.to_path_buf();
    tokio::task::spawn_blocking(move || file::finish(&to, &path))
        .await
        .map_err(|e| failed(e.to_string()))?
}

async fn write(to: &File, blob: Bytes, path: &Path) -> Result<(), Error> {
    let mut to = to.try_clone().map_err(|e| failed(e.to_string()))?;
    let done = tokio::task::spawn_blocking(move || to.write_all(&blob)).await;
    done.map_err(|e| failed(e.to_string()))?
        .map_err(|e| failed(format!("{}: {e}", path.display())))
}

fn failed(message: String) -> Error {
    Error::Backend {
        operation: "snapshot",
        message,
    }
}
