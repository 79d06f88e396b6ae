//! The states of one source, and what moves it from one to the next. Pure.

use api::certificates::v1::PodCertificateRequest;
use jiff::{SignedDuration, Timestamp};

use super::Bundle;

/// A request that its signer has not decided, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    key: String,
    request: String,
    /// From when a request that is not to be seen counts as deleted.
    abandon_at: Timestamp,
}

/// A certificate that a signer gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    bundle: Bundle,
    refresh_at: Timestamp,
    expires: Timestamp,
    told_overdue: bool,
    told_expired: bool,
}

/// Where a source stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Initial,
    Waiting(Pending),
    Fresh(Issued),
    Refreshing(Issued, Pending),
    /// For good: `denied` or `failed`.
    Ended {
        how: &'static str,
        reason: String,
        message: String,
    },
}

/// What the user is told by an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Denied(String),
    Failed(String),
    Overdue,
    Expired,
}

/// A request that is not seen for so long was deleted.
const ASSUME_DELETED: SignedDuration = SignedDuration::from_mins(10);
/// So long after its time a refresh is overdue.
const OVERDUE: SignedDuration = SignedDuration::from_mins(10);
/// Refreshes and new attempts are spread over so many seconds.
const JITTER_SECONDS: f64 = 300.0;

/// A time, later by up to five minutes.
fn jittered(at: Timestamp, share: f64) -> Timestamp {
    at + SignedDuration::from_secs_f64(share * JITTER_SECONDS)
}

// === Pending ===

impl Pending {
    /// A request made at `created`; `share` of the jitter is added.
    pub fn new(key: String, request: String, created: Timestamp, share: f64) -> Self {
        Self {
            key,
            request,
            abandon_at: jittered(created + ASSUME_DELETED, share),
        }
    }
}

// === Issued ===

impl Issued {
    /// Events that are due, each once.
    fn late(&mut self, now: Timestamp) -> Vec<Told> {
        let mut told = Vec::new();
        if now > self.refresh_at + OVERDUE && !self.told_overdue {
            self.told_overdue = true;
            told.push(Told::Overdue);
        }
        if now > self.expires && !self.told_expired {
            self.told_expired = true;
            told.push(Told::Expired);
        }
        told
    }
}

// === State ===

impl State {
    /// Whether a new request must be made.
    pub fn wants_request(&self, now: Timestamp) -> bool {
        match self {
            Self::Initial => true,
            Self::Fresh(issued) => now >= issued.refresh_at,
            _ => false,
        }
    }

    /// Whether there is a certificate already.
    pub fn is_refresh(&self) -> bool {
        matches!(self, Self::Fresh(_) | Self::Refreshing(..))
    }

    /// A request was made.
    pub fn asked(&mut self, pending: Pending) {
        *self = match std::mem::take(self) {
            Self::Fresh(issued) | Self::Refreshing(issued, _) => Self::Refreshing(issued, pending),
            _ => Self::Waiting(pending),
        };
    }

    /// The name of the request that is waited for.
    pub fn request(&self) -> Option<&str> {
        match self {
            Self::Waiting(p) | Self::Refreshing(_, p) => Some(&p.request),
            _ => None,
        }
    }

    /// Takes in what is seen of the request.
    pub fn see(
        &mut self,
        namespace: &str,
        found: Option<&PodCertificateRequest>,
        now: Timestamp,
        share: f64,
    ) -> Result<Vec<Told>, String> {
        let (issued, pending) = match std::mem::take(self) {
            Self::Waiting(p) => (None, p),
            Self::Refreshing(issued, p) => (Some(issued), p),
            other => {
                *self = other;
                return Ok(Vec::new());
            }
        };
        let shown = format!("{namespace}/{}", pending.request);
        let Some(found) = found else {
            let gone = now > pending.abandon_at;
            *self = match (issued, gone) {
                (Some(i), true) => Self::Fresh(i),
                (None, true) => Self::Initial,
                (Some(i), false) => Self::Refreshing(i, pending),
                (None, false) => Self::Waiting(pending),
            };
            if gone {
                return Err(format!(
                    "PodCertificateRequest {shown:?} appears to have been deleted"
                ));
            }
            return Ok(Vec::new());
        };
        if let Some((state, told)) = decided(&shown, &pending, found, share) {
            *self = state;
            return Ok(told);
        }
        let Some(mut issued) = issued else {
            *self = Self::Waiting(pending);
            return Ok(Vec::new());
        };
        let told = issued.late(now);
        *self = Self::Refreshing(issued, pending);
        Ok(told)
    }

    /// What the volume gets.
    pub fn bundle(&self) -> Result<Bundle, String> {
        match self {
            Self::Initial | Self::Waiting(_) => Err("credential bundle is not issued yet".into()),
            Self::Fresh(issued) | Self::Refreshing(issued, _) => Ok(issued.bundle.clone()),
            Self::Ended {
                how,
                reason,
                message,
            } => Err(format!(
                "PodCertificateRequest was permanently {how}: reason={reason:?} message={message:?}"
            )),
        }
    }

    /// When this must be looked at again.
    pub fn due(&self) -> Option<Timestamp> {
        match self {
            Self::Fresh(issued) => Some(issued.refresh_at),
            Self::Waiting(p) | Self::Refreshing(_, p) => Some(p.abandon_at),
            _ => None,
        }
    }

    /// Its name in metrics.
    pub fn name(&self, now: Timestamp) -> &'static str {
        match self {
            Self::Initial | Self::Waiting(_) => "not_yet_issued",
            Self::Ended { how, .. } => how,
            Self::Fresh(i) | Self::Refreshing(i, _) if now > i.expires => "expired",
            Self::Fresh(i) | Self::Refreshing(i, _) if now > i.refresh_at + OVERDUE => {
                "overdue_for_refresh"
            }
            Self::Fresh(_) | Self::Refreshing(..) => "fresh",
        }
    }
}

/// What a signer decided; `None` while it did not.
fn decided(
    shown: &str,
    pending: &Pending,
    found: &PodCertificateRequest,
    share: f64,
) -> Option<(State, Vec<Told>)> {
    let status = found.status.as_ref()?;
    let ended = |how: &'static str, c: &api::meta::Condition| State::Ended {
        how,
        reason: c.reason.clone(),
        message: c.message.clone(),
    };
    for c in status.conditions.iter().flatten() {
        // Upstream: it shifts the arguments of these two events; the text it means is here.
        let text = |what: &str| {
            format!(
                "PodCertificateRequest {shown} {what}, reason={:?}, message={:?}",
                c.reason, c.message
            )
        };
        match c.type_.as_str() {
            "Denied" => return Some((ended("denied", c), vec![Told::Denied(text("was denied"))])),
            "Failed" => return Some((ended("failed", c), vec![Told::Failed(text("failed"))])),
            "Issued" => {
                let time = |t: &Option<api::meta::Time>| t.as_ref().map(|t| t.0);
                let issued = Issued {
                    bundle: Bundle {
                        key: pending.key.clone(),
                        chain: pki::stub::clean_chain(
                            status.certificate_chain.as_deref().unwrap_or_default(),
                        ),
                    },
                    refresh_at: jittered(time(&status.begin_refresh_at)?, share),
                    expires: time(&status.not_after)?,
                    told_overdue: false,
                    told_expired: false,
                };
                return Some((State::Fresh(issued), Vec::new()));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-01-01T{text}Z").parse().unwrap()
    }

    fn request(conditions: Value) -> PodCertificateRequest {
        let mut spec = json!({"stubPKCS10Request": "", "maxExpirationSeconds": 3600});
        for field in [
            "signerName",
            "podName",
            "podUID",
            "serviceAccountName",
            "serviceAccountUID",
            "nodeName",
            "nodeUID",
        ] {
            spec[field] = json!("x");
        }
        let v = json!({"metadata": {"name": "req-1"}, "spec": spec, "status": {"conditions": conditions,
            "certificateChain": "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n",
            "beginRefreshAt": "2026-01-01T12:00:00Z", "notAfter": "2026-01-01T13:00:00Z"}});
        serde_json::from_value(v).unwrap()
    }

    fn condition(kind: &str) -> Value {
        json!([{"type": kind, "status": "True", "reason": "R", "message": "M", "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    }

    fn pending() -> Pending {
        Pending::new("key".into(), "req-1".into(), at("10:00:00"), 0.0)
    }

    #[test]
    fn a_certificate_is_asked_for_given_and_refreshed() {
        let mut s = State::default();
        assert!(s.wants_request(at("10:00:00")));
        s.asked(pending());
        let open = request(json!([]));
        assert_eq!(s.see("ns", Some(&open), at("10:00:01"), 0.0), Ok(vec![]));
        assert_eq!(
            s.bundle(),
            Err("credential bundle is not issued yet".into())
        );
        let issued = request(condition("Issued"));
        assert_eq!(s.see("ns", Some(&issued), at("10:00:02"), 0.5), Ok(vec![]));
        assert_eq!(s.bundle().unwrap().key, "key");
        assert_eq!(s.due(), Some(at("12:02:30")));
        assert!(!s.wants_request(at("12:02:29")) && s.wants_request(at("12:02:30")));
        s.asked(pending());
        assert_eq!(s.bundle().unwrap().key, "key");
        let told = s.see("ns", Some(&open), at("12:12:31"), 0.0);
        assert_eq!(told, Ok(vec![Told::Overdue]));
        let told = s.see("ns", Some(&open), at("13:00:01"), 0.0);
        assert_eq!(
            (told, s.name(at("13:00:01"))),
            (Ok(vec![Told::Expired]), "expired")
        );
        assert_eq!(s.see("ns", Some(&open), at("13:00:02"), 0.0), Ok(vec![]));
    }

    #[test]
    fn denied_and_failed_are_for_good() {
        for (kind, how, said) in [
            ("Denied", "denied", "was denied"),
            ("Failed", "failed", "failed"),
        ] {
            let mut s = State::default();
            s.asked(pending());
            let told = s
                .see("ns", Some(&request(condition(kind))), at("10:00:01"), 0.0)
                .unwrap();
            let text =
                format!("PodCertificateRequest ns/req-1 {said}, reason=\"R\", message=\"M\"");
            assert!(
                matches!(&told[..], [Told::Denied(t) | Told::Failed(t)] if *t == text),
                "{told:?}"
            );
            let error =
                format!("PodCertificateRequest was permanently {how}: reason=\"R\" message=\"M\"");
            assert_eq!(s.bundle(), Err(error));
            assert!(!s.wants_request(at("23:00:00")) && s.due().is_none());
        }
    }

    #[test]
    fn a_request_that_vanished_is_made_again_after_ten_minutes() {
        let mut s = State::default();
        s.asked(pending());
        assert_eq!(s.see("ns", None, at("10:10:00"), 0.0), Ok(vec![]));
        assert!(s.see("ns", None, at("10:10:01"), 0.0).is_err());
        assert!(s.wants_request(at("10:10:01")));
    }
}
