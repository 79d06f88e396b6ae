//! The changes the scheduler follows, of all kinds in one stream.

use std::sync::Arc;

use client::{Cache, Change, Client, Entry};
use futures::stream::{self, BoxStream, SelectAll, StreamExt};
use machinery::GroupResource;
use tokio_stream::wrappers::ReceiverStream;

use crate::event::Watched;
use crate::{Error, limits};

/// Which kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    Pods,
    Nodes,
    Other(Watched),
}

/// What a feed gives.
pub enum Input {
    Change(Feed, Change),
    /// The feed starts again with this state.
    Relisted(Feed, Vec<Arc<Entry>>),
    /// The feed was cut off: subscribe again.
    Ended(Feed),
}

/// All feeds.
pub struct Feeds {
    caches: Vec<(Feed, Arc<dyn Cache>)>,
    streams: SelectAll<BoxStream<'static, Input>>,
    first: Vec<(Feed, Arc<Entry>)>,
}

const STORAGE: &str = "storage.k8s.io";

/// What is followed where the server serves it.
const OTHERS: &[(Watched, &str, &str)] = &[
    (Watched::PersistentVolumeClaim, "", "persistentvolumeclaims"),
    (Watched::PersistentVolume, "", "persistentvolumes"),
    (Watched::StorageClass, STORAGE, "storageclasses"),
    (Watched::CsiNode, STORAGE, "csinodes"),
    (Watched::CsiDriver, STORAGE, "csidrivers"),
    (Watched::CsiStorageCapacity, STORAGE, "csistoragecapacities"),
    (Watched::VolumeAttachment, STORAGE, "volumeattachments"),
];

// === Feeds ===

impl Feeds {
    /// Subscribes to everything. Fails where pods or nodes are not served.
    pub fn new(client: &Client) -> Result<Self, Error> {
        let cache = |resource: &'static str| {
            let gr = GroupResource::new("", resource);
            client.cache(&gr).map_err(Error::Cache)
        };
        let mut out = Self {
            caches: vec![(Feed::Nodes, cache("nodes")?), (Feed::Pods, cache("pods")?)],
            streams: SelectAll::new(),
            first: Vec::new(),
        };
        for (watched, group, resource) in OTHERS {
            if let Ok(cache) = client.cache(&GroupResource::new(*group, *resource)) {
                out.caches.push((Feed::Other(*watched), cache));
            }
        }
        for at in 0..out.caches.len() {
            let (feed, cache) = out.caches[at].clone();
            let subscription = cache.subscribe();
            let snapshot = subscription.snapshot.into_iter();
            out.first.extend(snapshot.map(|e| (feed, e)));
            out.follow(feed, subscription.changes);
        }
        Ok(out)
    }

    /// The state at the beginning; given once.
    pub fn snapshot(&mut self) -> Vec<(Feed, Arc<Entry>)> {
        std::mem::take(&mut self.first)
    }

    /// The next input, whenever it comes.
    pub async fn next(&mut self) -> Input {
        match self.streams.next().await {
            Some(input) => input,
            // Every stream ends with `Ended`, which subscribes again: there is always one.
            None => std::future::pending().await,
        }
    }

    /// Subscribes again to a feed that was cut off.
    pub fn resubscribe(&mut self, feed: Feed) {
        let found = self.caches.iter().find(|(f, _)| *f == feed);
        let Some((_, cache)) = found else { return };
        tracing::warn!(?feed, "changes were missed, listing again");
        let cache = cache.clone();
        let again = async move {
            tokio::time::sleep(limits::RESUBSCRIBE).await;
            let subscription = cache.subscribe();
            let first = stream::iter([Input::Relisted(feed, subscription.snapshot)]);
            first.chain(changes(feed, subscription.changes))
        };
        self.streams.push(stream::once(again).flatten().boxed());
    }

    fn follow(&mut self, feed: Feed, receiver: tokio::sync::mpsc::Receiver<Change>) {
        self.streams.push(changes(feed, receiver));
    }
}

fn changes(feed: Feed, receiver: tokio::sync::mpsc::Receiver<Change>) -> BoxStream<'static, Input> {
    ReceiverStream::new(receiver)
        .map(move |c| Input::Change(feed, c))
        .chain(stream::iter([Input::Ended(feed)]))
        .boxed()
}
