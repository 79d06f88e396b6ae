//! How a plug-in is: asked for every minute, every ten seconds after it failed, and by health checks.
//! Upstream: server/options/encryptionconfig's kmsv2PluginProbe.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use super::proto::StatusResponse;
use super::{Kms, envelope};
use crate::limits;

const VERSIONS: [&str; 2] = ["v2", "v2beta1"];

/// What is known of a plug-in's health.
#[derive(Default)]
pub struct Probe {
    last: Option<(Instant, Result<(), String>)>,
    /// The version it named first, which must not change.
    version: Option<String>,
}

/// How long an answer counts.
fn lifetime(answer: &Result<(), String>) -> Duration {
    match answer {
        Ok(()) => limits::KMS_WELL,
        Err(_) => limits::KMS_UNWELL,
    }
}

impl Probe {
    /// The plug-in is asked at once next time.
    #[cfg(test)]
    pub fn last_forgotten(&mut self) {
        self.last = None;
    }

    /// What is wrong with a status, but for its key.
    fn problems(&mut self, status: &StatusResponse) -> Vec<String> {
        let mut out = Vec::new();
        if status.healthz != "ok" {
            out.push(format!(
                "got unexpected healthz status: {}",
                shortened(&status.healthz)
            ));
        }
        let version = shortened(&status.version);
        if !VERSIONS.contains(&&*status.version) {
            out.push(format!("expected KMSv2 API version v2, got {version}"));
            return out;
        }
        let first = self.version.get_or_insert_with(|| version.to_string());
        if first != version {
            out.push(format!(
                "KMSv2 API version should not change after the initial status response version {first}, got {version}"
            ));
        }
        out
    }
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(limits::KMS_ERROR_BYTES)]
}

impl Kms {
    /// Asks the plug-in how it is, unless that is known, and changes the seed when its key has changed.
    pub async fn check(&self) -> Result<(), String> {
        let mut probe = self.probe.lock().await;
        if let Some((at, answer)) = &probe.last
            && at.elapsed() < lifetime(answer)
        {
            return answer.clone();
        }
        let answer = self.ask(&mut probe).await;
        probe.last = Some((Instant::now(), answer.clone()));
        drop(probe);
        match &answer {
            Ok(()) => {
                *self.deaf.lock() = None;
                self.recovery.well();
            }
            Err(error) => {
                tracing::warn!(provider = self.name, %error, "a KMS plug-in is not well");
            }
        }
        answer
    }

    async fn ask(&self, probe: &mut Probe) -> Result<(), String> {
        // The life of a seed begins before its plug-in is asked.
        let expires = SystemTime::now() + limits::KMS_SEED_LIFE;
        let name = &self.name;
        let status = self.service.status().await.map_err(|e| {
            format!(
                "failed to perform status section of the healthz check for KMS Provider {name}, error: {}",
                e.text
            )
        })?;
        let mut errors = probe.problems(&status);
        match envelope::check_key_id(&status.key_id) {
            Err((code, why)) => {
                self.metrics.bad_key(name, code);
                let hash = envelope::hashed(&status.key_id);
                errors.push(format!("got invalid KMSv2 KeyID hash {hash:?}: {why}"));
            }
            Ok(()) => {
                self.metrics.key_told(name, &status.key_id);
                errors.extend(self.rotate(&status.key_id, expires).await.err());
            }
        }
        let why = match errors.len() {
            0 => return Ok(()),
            1 => errors.remove(0),
            _ => format!("[{}]", errors.join(", ")),
        };
        Err(format!(
            "kmsv2 Provider {name} is not healthy, error: {why}"
        ))
    }

    /// Asks for the first time, and from then on for as long as the plug-in is used.
    pub async fn start(self: &Arc<Self>) {
        // That it is not well is no reason not to start: it may come later.
        let well = self.check().await.is_ok();
        tokio::spawn(keep(Arc::downgrade(self), well));
    }
}

async fn keep(kms: Weak<Kms>, mut well: bool) {
    loop {
        let pause = match well {
            true => limits::KMS_PROBE_EVERY,
            false => limits::KMS_PROBE_AGAIN,
        };
        tokio::time::sleep(pause).await;
        let Some(kms) = kms.upgrade() else { return };
        well = kms.check().await.is_ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plugin_says_of_itself_is_judged() {
        let status = |version: &str, healthz: &str| StatusResponse {
            version: version.into(),
            healthz: healthz.into(),
            key_id: "1".into(),
        };
        let mut probe = Probe::default();
        let wrong = "expected KMSv2 API version v2, got v1";
        assert_eq!(probe.problems(&status("v1", "ok")), [wrong]);
        assert!(probe.problems(&status("v2", "ok")).is_empty());
        let sick = "got unexpected healthz status: sick";
        assert_eq!(probe.problems(&status("v2", "sick")), [sick]);
        let changed = "KMSv2 API version should not change after the initial status response version v2, got v2beta1";
        assert_eq!(probe.problems(&status("v2beta1", "ok")), [changed]);
    }
}
