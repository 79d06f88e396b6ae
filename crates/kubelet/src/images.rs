//! Images of containers: pull policies, back-off, credentials, events. Upstream: pkg/kubelet/images.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{ObjectReference, Pod};
use client::{EventType, Recorder};
use cri::{Image, Images};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::credentials::Keyring;
use crate::limits;
use crate::pod;
use crate::pull_notes;
use crate::restart::Backoff;

/// Why a container could not be started: the waiting reason and message of its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    pub reason: &'static str,
    pub message: String,
}

// === StartError ===

impl StartError {
    /// An error with upstream's reason.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// What one image is wanted for.
pub struct Wanted<'a> {
    pub pod: &'a Pod,
    /// The container that events are about.
    pub about: ObjectReference,
    pub image: &'a str,
    pub policy: &'a str,
    pub keyring: &'a Keyring,
}

type Key = (String, String);

/// Pulls images, a bounded number at a time.
pub struct ImageManager {
    images: Arc<dyn Images>,
    recorder: Recorder,
    permits: Semaphore,
    backoff: Mutex<Backoff<Key>>,
    /// The error of the last failed pull, and when the wait began.
    failed: Mutex<HashMap<Key, (StartError, Timestamp)>>,
}

// === ImageManager ===

impl ImageManager {
    /// A manager over an image store.
    pub fn new(images: Arc<dyn Images>, recorder: Recorder) -> Self {
        let backoff = Backoff::new(limits::PULL_BACKOFF_FIRST, limits::PULL_BACKOFF_MAX);
        Self {
            images,
            recorder,
            permits: Semaphore::new(limits::PARALLEL_PULLS),
            backoff: Mutex::new(backoff),
            failed: Mutex::default(),
        }
    }

    /// The image store.
    pub fn store(&self) -> &Arc<dyn Images> {
        &self.images
    }

    /// Forgets pods that are gone.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.backoff.lock().retain(|(uid, _)| keep(uid));
        self.failed.lock().retain(|(uid, _), _| keep(uid));
    }

    /// How long until a failed pull of this pod may be tried again.
    pub fn next_pull(&self, uid: &str, now: Timestamp) -> Option<Duration> {
        let failed = self.failed.lock();
        let backoff = self.backoff.lock();
        let own = failed.iter().filter(|((u, _), _)| u == uid);
        own.filter_map(|(key, (_, at))| Some(backoff.remaining(key, *at, now)?.0))
            .min()
    }

    /// Whether an image is there.
    pub async fn is_present(&self, image: &str) -> bool {
        let Ok(image) = normalized(image) else {
            return false;
        };
        matches!(self.images.image_status(&image).await, Ok(Some(_)))
    }

    /// Makes sure that the image is there, as the policy says.
    pub async fn ensure(&self, wanted: &Wanted<'_>) -> Result<Image, StartError> {
        let image = normalized(wanted.image).map_err(|why| {
            let text = format!(
                "Failed to apply default image tag {:?}: {why}",
                wanted.image
            );
            self.event(wanted, EventType::Warning, "InspectFailed", &text);
            StartError::new("InvalidImageName", text)
        })?;
        let present = self.images.image_status(&image).await.map_err(|e| {
            let text = format!("Failed to inspect image {image:?}: {e}");
            self.event(wanted, EventType::Warning, "InspectFailed", &text);
            StartError::new("ImageInspectError", text)
        })?;
        match (present, wanted.policy) {
            (Some(found), policy) if policy != "Always" => {
                let text = format!(
                    "Container image {:?} already present on machine and can be accessed by the pod",
                    wanted.image
                );
                self.event(wanted, EventType::Normal, "Pulled", &text);
                Ok(found)
            }
            (None, "Never") => {
                let text = format!(
                    "Container image {:?} is not present with pull policy of Never",
                    wanted.image
                );
                self.event(wanted, EventType::Warning, "ErrImageNeverPull", &text);
                Err(StartError::new("ErrImageNeverPull", text))
            }
            _ => self.pull(wanted, &image).await,
        }
    }

    async fn pull(&self, wanted: &Wanted<'_>, image: &str) -> Result<Image, StartError> {
        let key = (pod::uid(wanted.pod).to_string(), image.to_string());
        if let Some(e) = self.waiting(wanted, &key) {
            return Err(e);
        }
        let asked = Instant::now();
        let text = format!("Pulling image {:?}", wanted.image);
        self.event(wanted, EventType::Normal, "Pulling", &text);
        let permit = self.permits.acquire().await;
        let started = Instant::now();
        let pulled = self.try_credentials(wanted, image).await;
        drop(permit);
        let found = match pulled {
            Ok(id) => self.images.image_status(&id).await,
            Err(e) => Err(e),
        };
        let found = found.and_then(|f| {
            f.ok_or_else(|| cri::Error::internal(format!("image {image} vanished after its pull")))
        });
        match found {
            Ok(found) => {
                self.failed.lock().remove(&key);
                self.backoff.lock().retain(|k| *k != key);
                let text = format!(
                    "Successfully pulled image {:?} in {} ({} including waiting). Image size: {} bytes.",
                    wanted.image,
                    go_millis(started.elapsed()),
                    go_millis(asked.elapsed()),
                    found.size_bytes
                );
                self.event(wanted, EventType::Normal, "Pulled", &text);
                Ok(found)
            }
            Err(e) => Err(self.pull_failed(wanted, key, &e)),
        }
    }

    /// The back-off of an earlier failure, if it is not over.
    fn waiting(&self, wanted: &Wanted<'_>, key: &Key) -> Option<StartError> {
        let (last, at) = self.failed.lock().get(key)?.clone();
        self.backoff.lock().remaining(key, at, Timestamp::now())?;
        let text = format!("Back-off pulling image {:?}", wanted.image);
        self.event(wanted, EventType::Normal, "BackOff", &text);
        let message = format!("{text}: {}: {}", last.reason, last.message);
        Some(StartError::new("ImagePullBackOff", message))
    }

    fn pull_failed(&self, wanted: &Wanted<'_>, key: Key, e: &cri::Error) -> StartError {
        let text = format!("Failed to pull image {:?}: {e}", wanted.image);
        self.event(wanted, EventType::Warning, "Failed", &text);
        let now = Timestamp::now();
        self.backoff.lock().next(key.clone(), now);
        let error = match e.reason {
            "RegistryUnavailable" => StartError::new(
                "RegistryUnavailable",
                format!(
                    "image pull failed for {} because the registry is unavailable: {e}",
                    wanted.image
                ),
            ),
            "SignatureValidationFailed" => StartError::new(
                "SignatureValidationFailed",
                format!(
                    "image pull failed for {} because the signature validation failed: {e}",
                    wanted.image
                ),
            ),
            _ => StartError::new("ErrImagePull", e.to_string()),
        };
        self.failed.lock().insert(key, (error.clone(), now));
        error
    }

    /// Each matching credential in turn, or none at all.
    async fn try_credentials(
        &self,
        wanted: &Wanted<'_>,
        image: &str,
    ) -> Result<String, cri::Error> {
        let mut auths: Vec<Option<cri::AuthConfig>> =
            wanted.keyring.find(image).into_iter().map(Some).collect();
        if auths.is_empty() {
            auths.push(None);
        }
        let mut last = cri::Error::internal("no credentials to try");
        for auth in auths {
            let about = wanted.about.clone();
            let progress = pull_notes::sink(image, about, self.recorder.clone());
            match self.images.pull_image(image, auth, progress).await {
                Ok(id) => return Ok(id),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    fn event(&self, wanted: &Wanted<'_>, kind: EventType, reason: &str, message: &str) {
        self.recorder
            .event(wanted.about.clone(), kind, reason, message);
    }
}

/// The image with a tag where it has neither tag nor digest.
fn normalized(image: &str) -> Result<String, String> {
    let bad = || "invalid reference format".to_string();
    let name = image.split('@').next().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or_default();
    let repository = match last.split_once(':') {
        Some((_, tag)) => {
            let ok = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            if tag.is_empty() || tag.len() > 128 || !tag.chars().all(ok) {
                return Err(bad());
            }
            &name[..name.len() - tag.len() - 1]
        }
        None => name,
    };
    let mut parts: Vec<&str> = repository.split('/').collect();
    let hosted = parts.len() > 1
        && (parts[0].contains('.') || parts[0].contains(':') || parts[0] == "localhost");
    if hosted {
        parts.remove(0);
    }
    if repository.to_ascii_lowercase() != repository
        && parts.concat().to_ascii_lowercase() != parts.concat()
    {
        return Err("repository name must be lowercase".into());
    }
    let good = |part: &&str| {
        !part.is_empty()
            && part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    };
    if !parts.iter().all(good) {
        return Err(bad());
    }
    if image.contains('@') || last.contains(':') {
        return Ok(image.into());
    }
    Ok(format!("{image}:latest"))
}

/// Go's text of a duration cut to milliseconds, such as `1.234s` or `12ms`.
pub fn go_millis(d: Duration) -> String {
    let ms = d.as_millis();
    if ms == 0 {
        return "0s".into();
    }
    if ms < 1000 {
        return format!("{ms}ms");
    }
    let fraction = format!("{:03}", ms % 1000);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    let s = ms / 1000;
    match (s / 60, s % 60) {
        (0, s) => format!("{s}{point}{fraction}s"),
        (m, s) => format!("{m}m{s}{point}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(normalized("busybox").unwrap(), "busybox:latest");
        assert_eq!(
            normalized("localhost:5000/a/b").unwrap(),
            "localhost:5000/a/b:latest"
        );
        assert_eq!(normalized("a@sha256:0").unwrap(), "a@sha256:0");
        assert_eq!(normalized("Reg.io/a:1").unwrap(), "Reg.io/a:1");
        for bad in ["", "A/b", "a//b", "a:", "http://x", "-a"] {
            assert!(normalized(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_as_go_writes_them() {
        let ms = Duration::from_millis;
        assert_eq!(go_millis(ms(12)), "12ms");
        assert_eq!(go_millis(ms(1200)), "1.2s");
        assert_eq!(go_millis(ms(61_005)), "1m1.005s");
    }
}
