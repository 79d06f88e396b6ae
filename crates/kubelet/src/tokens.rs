//! Service account tokens of pods: requested once, kept, replaced before they end.
//! Upstream: pkg/kubelet/token.

use std::collections::HashMap;
use std::time::Duration;

use api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use api::core::v1::{Pod, ServiceAccount};
use api::meta::ObjectMeta;
use client::Client;
use jiff::Timestamp;
use kube::api::PostParams;
use parking_lot::Mutex;

use crate::limits;
use crate::pod;

type Key = (String, String, i64);

#[derive(Clone)]
struct Kept {
    token: String,
    issued: Timestamp,
    expires: Timestamp,
}

/// Tokens by pod, audience and life.
#[derive(Default)]
pub struct Tokens {
    kept: Mutex<HashMap<Key, Kept>>,
}

// === Kept ===

impl Kept {
    /// Whether a new one should be asked for.
    fn is_old(&self, now: Timestamp) -> bool {
        let life = self.expires.duration_since(self.issued);
        let age = now.duration_since(self.issued);
        let share = life.as_secs_f64() * limits::TOKEN_REFRESH_SHARE;
        age.as_secs_f64() >= share || age.as_secs_f64() >= limits::TOKEN_MAX_AGE.as_secs_f64()
    }
}

// === Tokens ===

impl Tokens {
    /// A token bound to the pod.
    pub async fn get(
        &self,
        client: &Client,
        p: &Pod,
        audience: &str,
        seconds: Option<i64>,
    ) -> Result<String, String> {
        let seconds = seconds.unwrap_or(limits::TOKEN_SECONDS);
        let key = (pod::uid(p).to_string(), audience.to_string(), seconds);
        let now = Timestamp::now();
        let kept = self.kept.lock().get(&key).cloned();
        if let Some(k) = kept.as_ref().filter(|k| !k.is_old(now)) {
            return Ok(k.token.clone());
        }
        match request(client, p, audience, seconds).await {
            Ok(new) => {
                let token = new.token.clone();
                self.kept.lock().insert(key, new);
                Ok(token)
            }
            Err(e) => match kept {
                Some(k) if k.expires > now => {
                    tracing::warn!(
                        pod = pod::format(p),
                        error = e,
                        "token not refreshed, the old one is kept"
                    );
                    Ok(k.token)
                }
                Some(_) => Err(format!(
                    "token {audience:?} expired and refresh failed: {e}"
                )),
                None => Err(format!("failed to fetch token: {e}")),
            },
        }
    }

    /// When the first token of a pod should be replaced.
    pub fn next_refresh(&self, uid: &str, now: Timestamp) -> Option<Duration> {
        let kept = self.kept.lock();
        let own = kept.iter().filter(|((u, _, _), _)| u == uid);
        own.map(|(_, k)| {
            let life = k.expires.duration_since(k.issued).as_secs_f64();
            let due = life * limits::TOKEN_REFRESH_SHARE;
            let due = due.min(limits::TOKEN_MAX_AGE.as_secs_f64());
            let age = now.duration_since(k.issued).as_secs_f64();
            Duration::from_secs_f64((due - age).max(1.0))
        })
        .min()
    }

    /// Forgets pods that are gone.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.kept.lock().retain(|(uid, _, _), _| keep(uid));
    }
}

async fn request(client: &Client, p: &Pod, audience: &str, seconds: i64) -> Result<Kept, String> {
    let account = pod::spec(p).service_account_name.as_deref();
    let account = account.filter(|a| !a.is_empty()).unwrap_or("default");
    let body = TokenRequest {
        metadata: ObjectMeta::default(),
        spec: Some(TokenRequestSpec {
            audiences: (!audience.is_empty()).then(|| vec![audience.into()]),
            expiration_seconds: Some(seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: p.metadata.name.clone(),
                uid: p.metadata.uid.clone(),
            }),
            ..TokenRequestSpec::default()
        }),
        status: None,
    };
    let api = client.namespaced::<ServiceAccount>(pod::namespace(p));
    let issued = Timestamp::now();
    let made: TokenRequest = api
        .create_subresource("token", account, &PostParams::default(), &body)
        .await
        .map_err(|e| e.to_string())?;
    let status = made.status.ok_or("the answer holds no token")?;
    Ok(Kept {
        token: status.token.ok_or("the answer holds no token")?,
        issued,
        expires: status
            .expiration_timestamp
            .ok_or("the answer holds no expirationTimestamp")?
            .0,
    })
}
