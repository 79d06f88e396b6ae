//! A GET that is answered with 200 to 399. Upstream: pkg/probe/http.

use std::time::Duration;

use api::core::v1::HTTPGetAction;
use http::Uri;
use tokio::time::Instant;

use super::Outcome;
use crate::http_client::{self, Answer};
use crate::limits;

/// What probes call themselves.
const AGENT: &str = "kube-probe/1.37";

/// GETs, following redirects to the same host.
pub async fn probe(action: &HTTPGetAction, pod_ip: &str, port: u16, limit: Duration) -> Outcome {
    let deadline = Instant::now() + limit;
    let headers = http_client::headers(action.http_headers.as_deref().unwrap_or_default(), AGENT);
    let mut url = http_client::url(action, pod_ip, port);
    for _ in 0..=limits::PROBE_REDIRECTS {
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = match http_client::get(&url, &headers, left).await {
            Ok(answer) => answer,
            Err(e) => return Outcome::Failure(e.message),
        };
        match redirect(&url, &answer) {
            Redirect::None => return judge(&answer),
            Redirect::Elsewhere => {
                return Outcome::Warning(format!(
                    "Probe terminated redirects, Response body: {}",
                    answer.body
                ));
            }
            Redirect::Follow(next) => url = next,
        }
    }
    Outcome::Failure(format!("Get {url:?}: stopped after 10 redirects"))
}

fn judge(answer: &Answer) -> Outcome {
    if (200..400).contains(&answer.status.as_u16()) {
        Outcome::Success
    } else {
        Outcome::Failure(format!(
            "HTTP probe failed with statuscode: {}",
            answer.status.as_u16()
        ))
    }
}

enum Redirect {
    None,
    Follow(String),
    Elsewhere,
}

fn redirect(from: &str, answer: &Answer) -> Redirect {
    if !matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Redirect::None;
    }
    let location = answer.headers.get(http::header::LOCATION);
    let Some(to) = location.and_then(|l| l.to_str().ok()) else {
        return Redirect::None;
    };
    let (Ok(base), Ok(target)) = (from.parse::<Uri>(), to.parse::<Uri>()) else {
        return Redirect::None;
    };
    let Some(host) = target.host() else {
        let (scheme, authority) = (base.scheme_str().unwrap_or("http"), base.authority());
        let authority = authority.map_or("", |a| a.as_str());
        let slash = if to.starts_with('/') { "" } else { "/" };
        return Redirect::Follow(format!("{scheme}://{authority}{slash}{to}"));
    };
    if Some(host) == base.host() {
        Redirect::Follow(to.into())
    } else {
        Redirect::Elsewhere
    }
}
