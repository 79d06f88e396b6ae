//! What a start finds: sandboxes whose keepers live are taken over with their containers; the rest is
//! brought to an orderly end, and what belongs to nothing is removed.

use std::collections::BTreeSet;
use std::sync::Arc;

use cri::Error;

use crate::Core;
use crate::client::Call;
use crate::container::{Container, State};
use crate::disk::{self, ContainerRecord, Phase, SandboxRecord};
use crate::protocol::{Exit, Started};
use crate::sandbox::Sandbox;

/// Takes over what is there.
pub fn adopt(runtime: &Arc<Core>) -> Result<(), Error> {
    empty_trash(runtime)?;
    let mut unfinished = Vec::new();
    for id in disk::names(&runtime.disk.sandboxes())? {
        match read_sandbox(runtime, &id)? {
            Some(sandbox) => {
                let phase = sandbox.record.lock().phase;
                runtime.sandboxes.lock().insert(id, sandbox.clone());
                if phase == Phase::Creating {
                    unfinished.push(sandbox);
                }
            }
            None => forget_directory(runtime, &runtime.disk.sandbox(&id))?,
        }
    }
    // Keepers first: what ends from here on is told.
    let all: Vec<_> = runtime.sandboxes.lock().values().cloned().collect();
    let living: Vec<_> = all.iter().filter(|s| lives(runtime, s)).cloned().collect();
    for id in disk::names(&runtime.disk.containers())? {
        adopt_container(runtime, &id)?;
    }
    remove_strays(runtime)?;
    tracing::info!(
        sandboxes = all.len(),
        alive = living.len(),
        containers = runtime.containers.lock().len(),
        "runtime opened"
    );
    let runtime = runtime.clone();
    tokio::spawn(async move { settle(&runtime, living, unfinished, all).await });
    Ok(())
}

fn lives(runtime: &Core, sandbox: &Sandbox) -> bool {
    let ready = sandbox.record.lock().phase == Phase::Ready;
    let lives = ready && Call::connect(&runtime.disk.sandbox_run(&sandbox.id)).is_ok();
    sandbox.alive.send_replace(lives);
    lives
}

/// Follows living keepers and ends the rest.
async fn settle(
    runtime: &Arc<Core>,
    living: Vec<Arc<Sandbox>>,
    unfinished: Vec<Arc<Sandbox>>,
    all: Vec<Arc<Sandbox>>,
) {
    for sandbox in &living {
        if let Err(error) = runtime.follow_keeper(sandbox).await {
            tracing::warn!(sandbox = %sandbox.id, %error, "a keeper ended while it was taken over");
            runtime.keeper_ended(sandbox);
            continue;
        }
        // What ended before anyone watched.
        for container in runtime.containers_of(&sandbox.id) {
            runtime.container_ended(&container.record.id);
        }
    }
    for sandbox in &unfinished {
        let _one = sandbox.operation.lock().await;
        let done = runtime.unmake_sandbox(sandbox).await;
        if let Err(error) = done.and_then(|()| runtime.forget_sandbox(sandbox)) {
            tracing::warn!(sandbox = %sandbox.id, %error, "remove a half-made sandbox");
        }
    }
    let lost = all.iter().filter(|s| {
        let ready = s.record.lock().phase == Phase::Ready;
        ready && !living.iter().any(|l| l.id == s.id)
    });
    for sandbox in lost {
        runtime.keeper_ended(sandbox);
    }
    let keep: Vec<String> = runtime.sandboxes.lock().keys().cloned().collect();
    if let Err(error) = runtime.network.gc(&keep).await {
        tracing::warn!(%error, "release what is left in the pod network");
    }
}

/// `None` for a directory that a crash left without a record.
fn read_sandbox(runtime: &Core, id: &str) -> Result<Option<Arc<Sandbox>>, Error> {
    let path = runtime.disk.sandbox(id).join("sandbox.json");
    match disk::read::<SandboxRecord>(&path) {
        Ok(record) => Ok(record.map(Sandbox::new)),
        Err(error) => {
            tracing::error!(sandbox = id, %error, "a sandbox's record is unreadable: it is removed");
            Ok(None)
        }
    }
}

fn adopt_container(runtime: &Arc<Core>, id: &str) -> Result<(), Error> {
    let dir = runtime.disk.container(id);
    let record = match disk::read::<ContainerRecord>(&dir.join("container.json")) {
        Ok(Some(record)) if runtime.sandboxes.lock().contains_key(&record.sandbox) => record,
        Ok(_) => return runtime.delete_files_now(id),
        Err(error) => {
            tracing::error!(container = id, %error, "a container's record is unreadable: it is removed");
            return runtime.delete_files_now(id);
        }
    };
    let resources = disk::read(&dir.join("resources.json"))?;
    let state = State {
        started: disk::read::<Started>(&dir.join("started.json"))?,
        exit: disk::read::<Exit>(&dir.join("exit.json"))?,
        resources: resources.unwrap_or_else(|| record.config.resources.clone()),
    };
    let container = Container::new(record, state);
    runtime.containers.lock().insert(id.to_owned(), container);
    Ok(())
}

/// Mounts and sockets of sandboxes that are not known.
fn remove_strays(runtime: &Core) -> Result<(), Error> {
    let mut ids: BTreeSet<String> = disk::names(&runtime.disk.runs())?.into_iter().collect();
    ids.extend(disk::names(&runtime.disk.networks())?);
    for id in ids {
        if !runtime.sandboxes.lock().contains_key(&id) {
            runtime.disk.clear_run(&id)?;
        }
    }
    Ok(())
}

fn empty_trash(runtime: &Core) -> Result<(), Error> {
    for name in disk::names(&runtime.disk.trash())? {
        let path = runtime.disk.trash().join(name);
        std::fs::remove_dir_all(&path).map_err(|e| disk::failed("remove", &path, e))?;
    }
    Ok(())
}

fn forget_directory(runtime: &Core, dir: &std::path::Path) -> Result<(), Error> {
    if let Some(trash) = runtime.disk.discard(dir)? {
        std::fs::remove_dir_all(&trash).map_err(|e| disk::failed("remove", &trash, e))?;
    }
    Ok(())
}
