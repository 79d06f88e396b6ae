//! Unused images go when the image filesystem fills up. Upstream: pkg/kubelet/images/image_gc_manager.go.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use client::EventType;
use cri::Image;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::kubelet::Kubelet;
use crate::limits;
use crate::pod;

/// When images were first seen and last used.
#[derive(Default)]
pub(crate) struct ImageUse {
    known: Mutex<HashMap<String, Seen>>,
}

#[derive(Clone, Copy)]
struct Seen {
    first: Instant,
    last_used: Option<Instant>,
}

/// Collects for ever.
pub(crate) async fn run(kubelet: Arc<Kubelet>) {
    loop {
        tokio::time::sleep(limits::IMAGE_GC).await;
        let high = u64::from(kubelet.config.image_gc_high);
        detect(&kubelet).await;
        let Ok(fs) = kubelet.images.store().image_fs_info().await else {
            continue;
        };
        if fs.capacity_bytes == 0 || high >= 100 {
            continue;
        }
        let fill = 100 - (fs.available_bytes.min(fs.capacity_bytes) * 100 / fs.capacity_bytes);
        if fill < high {
            continue;
        }
        let low = u64::from(kubelet.config.image_gc_low);
        let wanted = fs.capacity_bytes / 100 * (100 - low);
        let wanted = wanted.saturating_sub(fs.available_bytes);
        let freed = free(&kubelet, wanted).await;
        if freed < wanted {
            let text = format!(
                "Insufficient free disk space on the node's image filesystem ({fill}% of {} used). Failed to free sufficient space by deleting unused images (freed {freed} bytes). Investigate disk usage, as it could be used by active images, logs, volumes, or other data.",
                fs.capacity_bytes
            );
            kubelet.node_event(EventType::Warning, "FreeDiskSpaceFailed", &text);
        }
    }
}

/// Removes unused images, the longest unused first; gives the bytes freed.
pub(crate) async fn free(kubelet: &Kubelet, wanted: u64) -> u64 {
    let Some((images, used)) = detect(kubelet).await else {
        return 0;
    };
    let order = {
        let known = kubelet.image_use.known.lock();
        unused(
            &images,
            &used,
            &known,
            Instant::now(),
            limits::IMAGE_GC_MIN_AGE,
        )
    };
    let mut freed = 0;
    for image in order {
        if freed >= wanted {
            break;
        }
        match kubelet.images.store().remove_image(&image.id).await {
            Ok(()) => {
                tracing::info!(
                    image = image.id,
                    bytes = image.size_bytes,
                    "unused image removed"
                );
                freed += image.size_bytes;
            }
            Err(error) => tracing::warn!(%error, image = image.id, "image not removed"),
        }
    }
    freed
}

/// Notes which images there are and which are in use.
async fn detect(kubelet: &Kubelet) -> Option<(Vec<Image>, HashSet<String>)> {
    let images = kubelet.images.store().list_images().await.ok()?;
    let containers = kubelet.runtime.list_containers().await.ok()?;
    let mut names: HashSet<String> = containers
        .iter()
        .flat_map(|c| [c.image.clone(), c.image_ref.clone()])
        .collect();
    for worker in kubelet.workers.read().values().filter(|w| w.is_active()) {
        let p = worker.pod();
        let images = pod::all_containers(&p).into_iter();
        names.extend(images.filter_map(|c| c.container.image.clone()));
    }
    let is_used = |i: &Image| {
        let refs = i.repo_tags.iter().chain(&i.repo_digests).chain([&i.id]);
        let mut refs = refs.into_iter();
        refs.any(|r| names.contains(r) || names.contains(r.trim_end_matches(":latest")))
    };
    let used: HashSet<String> = images
        .iter()
        .filter(|i| is_used(i))
        .map(|i| i.id.clone())
        .collect();
    let now = Instant::now();
    let mut known = kubelet.image_use.known.lock();
    known.retain(|id, _| images.iter().any(|i| i.id == *id));
    for i in &images {
        let seen = known.entry(i.id.clone()).or_insert(Seen {
            first: now,
            last_used: None,
        });
        if used.contains(&i.id) {
            seen.last_used = Some(now);
        }
    }
    drop(known);
    Some((images, used))
}

fn unused(
    images: &[Image],
    used: &HashSet<String>,
    known: &HashMap<String, Seen>,
    now: Instant,
    min_age: Duration,
) -> Vec<Image> {
    let old = |i: &&Image| {
        known
            .get(&i.id)
            .is_some_and(|s| now.duration_since(s.first) >= min_age)
    };
    let mut list: Vec<Image> = images
        .iter()
        .filter(|i| !i.pinned && !used.contains(&i.id))
        .filter(old)
        .cloned()
        .collect();
    list.sort_by_key(|i| known.get(&i.id).map(|s| (s.last_used, s.first)));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_pinned_and_young_images_stay() {
        let image = |id: &str, pinned| Image {
            id: id.into(),
            pinned,
            ..Image::default()
        };
        let images = [
            image("used", false),
            image("pinned", true),
            image("young", false),
            image("old", false),
            image("older", false),
        ];
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let seen = |first, last: Option<u64>| Seen {
            first: at(first),
            last_used: last.map(at),
        };
        let known = HashMap::from([
            ("used".to_string(), seen(0, Some(500))),
            ("pinned".to_string(), seen(0, None)),
            ("young".to_string(), seen(450, None)),
            ("old".to_string(), seen(0, Some(100))),
            ("older".to_string(), seen(0, Some(50))),
        ]);
        let used = HashSet::from(["used".to_string()]);
        let order = unused(&images, &used, &known, at(500), Duration::from_secs(120));
        let ids: Vec<&str> = order.iter().map(|i| i.id.as_str()).collect();
        assert_eq!(ids, ["older", "old"]);
    }
}
