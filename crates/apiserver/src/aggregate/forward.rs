//! A request carried to the server that has its group version, after authentication and authorization here.
//! Upstream: kube-aggregator handler_proxy.go, apimachinery util/proxy UpgradeAwareHandler.

use std::time::Duration;

use futures::StreamExt;
use http::header::{HeaderValue, LOCATION};
use http_body_util::BodyDataStream;
use hyper::body::Incoming as HyperBody;
use machinery::request::User;
use tokio::sync::watch;
use tokio::time::Instant;

use super::headers;
use super::remote::{Failed, Outgoing, Remote};
use crate::body;
use crate::connect::proxy;
use crate::limits;
use crate::request_info::RequestInfo;
use crate::response::{self, Answer};
use crate::server::{Incoming, Inner};

const REDIRECTED: &str = "the backend attempted to redirect this request, which is not permitted";

/// Carries a request and streams the answer.
pub async fn serve(
    server: &Inner,
    remote: &Remote,
    mut i: Incoming,
    info: &RequestInfo,
    user: &User,
) -> Answer {
    // The work is the other server's, which bounds it itself (upstream: flowcontrol.RequestDelegated).
    drop(i.seat.take());
    if !remote.available {
        return response::text(503, "service unavailable");
    }
    if let Err(Failed::Pool(why)) = remote.pool() {
        return response::text(500, &why);
    }
    let address = match remote.resolve(&server.registry) {
        Ok(address) => address,
        Err(error) => {
            tracing::debug!(api_service = remote.name, ?error, "no address");
            return response::text(503, "service unavailable");
        }
    };
    let upgrade = i
        .upgrade
        .take()
        .filter(|_| proxy::wants_upgrade(&i.headers));
    let outgoing = outgoing(&i, &address, user, upgrade.is_some());
    let sent = tokio::time::timeout(head_within(&i, info), remote.send(&address, outgoing));
    let answer = match sent.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(Failed::Pool(why) | Failed::Resolve(why) | Failed::Way { why, .. })) => {
            return unreachable(&why);
        }
        Err(_) => return unreachable("context deadline exceeded"),
    };
    if let Some(client) = upgrade
        && answer.status() == http::StatusCode::SWITCHING_PROTOCOLS
    {
        return proxy::joined(client, answer);
    }
    if answer.status().is_redirection() && answer.headers().contains_key(LOCATION) {
        return response::text(502, REDIRECTED);
    }
    let deadline = i.deadline.map(Instant::from_std);
    let down = server.shutdown.subscribe();
    let answer = answer.map(|body| streamed(body, deadline, down));
    proxy::cleaned(answer)
}

fn unreachable(why: &str) -> Answer {
    response::text(503, &format!("error trying to reach service: {why}"))
}

/// How long the head of the answer may take; a request with a deadline of its own ends with that at the latest.
fn head_within(i: &Incoming, info: &RequestInfo) -> Duration {
    let segments = i.path.trim_matches('/').split('/').count();
    if !info.is_resource && segments == 3 {
        return limits::AGGREGATED_DISCOVERY;
    }
    limits::AGGREGATED_HEAD
}

fn outgoing(i: &Incoming, address: &str, user: &User, upgrade: bool) -> Outgoing {
    let path = proxy::escaped(&i.path);
    let mut all = headers::carried(&i.headers, user, upgrade);
    if !upgrade {
        for (name, value) in [
            ("x-forwarded-uri", path.as_str()),
            ("x-forwarded-host", address),
            ("x-forwarded-proto", "https"),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                all.insert(name, value);
            }
        }
    }
    let target = match i.raw_query.as_str() {
        "" => path,
        query => format!("{path}?{query}"),
    };
    Outgoing {
        method: i.method.clone(),
        target,
        headers: all,
        body: i.body.clone(),
    }
}

/// The answer's body as it comes; it breaks off at the request's deadline and when this server stops.
fn streamed(body: HyperBody, deadline: Option<Instant>, down: watch::Receiver<bool>) -> body::Body {
    let state = Some((BodyDataStream::new(body), down));
    body::stream(futures::stream::unfold(state, move |state| async move {
        let (mut body, mut down) = state?;
        let late = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let ended = |kind, why: &str| Some((Err(std::io::Error::new(kind, why)), None));
        let next = tokio::select! {
            next = body.next() => next?,
            () = late => {
                return ended(std::io::ErrorKind::TimedOut, "the answer did not end in time");
            }
            _ = down.wait_for(|down| *down) => {
                let why = "the server is shutting down";
                return ended(std::io::ErrorKind::ConnectionAborted, why);
            }
        };
        match next {
            Ok(data) => Some((Ok(data), Some((body, down)))),
            Err(e) => Some((Err(std::io::Error::other(e)), None)),
        }
    }))
}
