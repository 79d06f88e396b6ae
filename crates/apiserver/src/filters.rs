//! The chain every request passes, network and in-process alike, in upstream's order:
//! panic, audit id, request info, deadline, authentication, impersonation, priority and fairness, authorization; only then
//! is the body read.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use futures::FutureExt;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};
use http_body::Body;
use machinery::ApiError;
use machinery::request::{Attributes, Credentials, Decision, User};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::body;
use crate::call::Call;
use crate::connect::Connector;
use crate::limits;
use crate::negotiate::{self, Offer};
use crate::query::Query;
use crate::registry::Served;
use crate::request_info::{self, RequestInfo};
use crate::response::{self, Answer, PLAIN};
use crate::server::{Incoming, Inner};

/// A random UUID, without a system call.
pub(crate) fn fresh_uid() -> String {
    let uid = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    uid.to_string()
}

/// Answers a request. Never panics and never fails: everything becomes an answer.
pub async fn handle(server: Arc<Inner>, mut incoming: Incoming) -> Answer {
    let begun = Instant::now();
    let audit = incoming
        .headers
        .get("audit-id")
        .cloned()
        .or_else(|| HeaderValue::from_str(&fresh_uid()).ok());
    // Aggregated servers and audit events take it over.
    if let Some(id) = &audit {
        incoming.headers.insert("audit-id", id.clone());
    }
    let query = Query::parse(&incoming.raw_query);
    let info = match request_info::parse(&incoming.method, &incoming.path, &query) {
        Ok(info) => info,
        Err(request_info::NoKind) => {
            let path = &incoming.path;
            let text = format!(
                "Internal Server Error: \"{path}\": failed to create RequestInfo: unable to determine kind and namespace from url, {path}"
            );
            let mut answer = response::text(500, &text);
            // Upstream has not come to the filter that sets it.
            answer.headers_mut().remove(http::header::CACHE_CONTROL);
            return answer;
        }
    };
    let applies = info.verb == "patch"
        && incoming
            .headers
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|v| v.as_bytes().starts_with(b"application/apply-patch"));
    let dry_run = query.get("dryRun").is_some();
    let current = server.metrics.begin(&info);
    // Each layer below holds what it is given, and moves it: these are as small as can be, and layers are pinned where
    // they are made.
    let (incoming, info) = (Box::new(incoming), Arc::new(info));
    let timed = pin!(timed(server.clone(), incoming, query, info.clone()));
    let mut answer = match std::panic::AssertUnwindSafe(timed).catch_unwind().await {
        Ok(answer) => answer,
        Err(_) => {
            tracing::error!(path = info.path, verb = info.verb, "request panicked");
            response::text(
                500,
                "This request caused apiserver to panic. Look in the logs for details.",
            )
        }
    };
    if let Some(id) = audit {
        answer.headers_mut().insert("audit-id", id);
    }
    let code = answer.status().as_u16();
    let size = answer.body().size_hint().exact();
    let facts = (applies, dry_run, size);
    server.metrics.count(&info, facts, code, begun.elapsed());
    if info.is_long_running() {
        return answer.map(|body| body::holding(body, current));
    }
    drop(current);
    answer
}

async fn timed(
    server: Arc<Inner>,
    mut incoming: Box<Incoming>,
    query: Query,
    info: Arc<RequestInfo>,
) -> Answer {
    if info.is_long_running() {
        return authenticated(server, incoming, query, info).await;
    }
    let limit = match deadline(&query) {
        Ok(limit) => limit,
        Err(e) => return refused(&server, &incoming.headers, &query, &e),
    };
    incoming.deadline = Some(Instant::now() + limit);
    let work = pin!(authenticated(server, incoming, query, info));
    match tokio::time::timeout(limit, work).await {
        Ok(answer) => answer,
        Err(_) => {
            let text = "Timeout: request did not complete within the allotted timeout";
            response::error(&ApiError::timeout(text, 0), &PLAIN)
        }
    }
}

/// A refusal in the format that the client asks for.
fn refused(server: &Inner, headers: &HeaderMap, query: &Query, e: &ApiError) -> Answer {
    response::error(e, &negotiate::error(headers, query, server.serves_cbor()))
}

/// How long a request may take: the client's `timeout`, up to the server's own limit.
fn deadline(query: &Query) -> Result<Duration, ApiError> {
    let Some(text) = query.get("timeout").filter(|t| !t.is_empty()) else {
        return Ok(limits::REQUEST_TIMEOUT);
    };
    let nanos = api::duration::nanoseconds(text).map_err(|e| {
        ApiError::bad_request(format!(
            "invalid timeout specified in the request URL - {e}"
        ))
    })?;
    let asked = u64::try_from(nanos).ok().filter(|n| *n > 0);
    let asked = asked.map(Duration::from_nanos);
    Ok(asked.map_or(limits::REQUEST_TIMEOUT, |d| d.min(limits::REQUEST_TIMEOUT)))
}

async fn authenticated(
    server: Arc<Inner>,
    i: Box<Incoming>,
    query: Query,
    info: Arc<RequestInfo>,
) -> Answer {
    if *server.shutdown.borrow() && i.peer.part.is_none() {
        return response::error(&ApiError::unavailable("apiserver is shutting down"), &PLAIN);
    }
    if server.plugins.get().is_none() {
        return response::error(&ApiError::unavailable("the server is starting"), &PLAIN);
    }
    let user = match who(&server, &i).await {
        Ok(user) => user,
        Err(e) => {
            crate::audit::unauthenticated(&server, &i, &info);
            return refused(&server, &i.headers, &query, &e);
        }
    };
    let span = server.tracer().and_then(|t| t.request(&i, &info, &user));
    let Some(mut span) = span else {
        return recorded(server, i, query, info, user).await;
    };
    let streams = info.is_long_running();
    let answer = span.within(recorded(server, i, query, info, user)).await;
    span.set("http.response.status_code", answer.status().as_u16());
    if answer.status().is_server_error() {
        span.fail("");
    }
    match streams {
        true => answer.map(|body| body::holding(body, span)),
        false => answer,
    }
}

async fn recorded(
    server: Arc<Inner>,
    mut i: Box<Incoming>,
    query: Query,
    info: Arc<RequestInfo>,
    user: User,
) -> Answer {
    let streams = info.is_long_running();
    let trail = match crate::audit::begin(&server, &i, &info, &user).await {
        Ok(Some(trail)) => trail,
        Ok(None) => return identified(server, i, query, info, user).await,
        Err(e) => return refused(&server, &i.headers, &query, &e),
    };
    i.trail = Some(trail.clone());
    let answer = identified(server, i, query, info, user).await;
    trail.answered(answer, streams).await
}

async fn identified(
    server: Arc<Inner>,
    mut i: Box<Incoming>,
    query: Query,
    info: Arc<RequestInfo>,
    user: User,
) -> Answer {
    let asked = || attributes(&info, &query, &user);
    let user = match crate::impersonate::impersonated(&server, &mut i.headers, asked).await {
        Ok(None) => user,
        Ok(Some(other)) => {
            if let Some(trail) = &i.trail {
                trail.impersonated(&other.user, other.constraint);
            }
            other.user
        }
        Err(e) => return refused(&server, &i.headers, &query, &e),
    };
    let entered = crate::fairness::enter(&server, &info, (&query, &user), i.deadline).await;
    let marks = match entered {
        Ok((marks, seat)) => {
            i.seat = seat;
            marks
        }
        Err(refusal) => return refusal,
    };
    let mut answer = authorized(server, i, query, info, user).await;
    marks.put(&mut answer);
    answer
}

async fn authorized(
    server: Arc<Inner>,
    mut i: Box<Incoming>,
    query: Query,
    info: Arc<RequestInfo>,
    user: User,
) -> Answer {
    let asked = attributes_of(&info, &query, user);
    let user = match permitted(&server, &i, asked).await {
        Ok(user) => user,
        Err(answer) => return answer,
    };
    if let Err(e) = i.read().await {
        return refused(&server, &i.headers, &query, &e);
    }
    if let Some(remote) = server.aggregator.route(&i.path) {
        return Box::pin(crate::aggregate::serve(&server, &remote, *i, &info, &user)).await;
    }
    if !info.is_resource {
        return Box::pin(crate::paths::serve(&server, &i, &query)).await;
    }
    resource(server.clone(), i, query, info, user).await
}

/// Asks the authorizers about a request, and counts and records what they say. Gives its user back, or the answer of
/// one that is refused.
async fn permitted(server: &Inner, i: &Incoming, asked: Attributes) -> Result<User, Answer> {
    let begun = Instant::now();
    let decision = decide(server, &asked).await;
    crate::counts::authorized((&server.access, &server.kept), &decision, begun.elapsed());
    if let Some(trail) = &i.trail {
        match &decision {
            Decision::Allow(reason) => trail.decided(true, reason),
            Decision::Failed { .. } => trail.undecided(),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => trail.decided(false, reason),
        }
    }
    match decision {
        Decision::Allow(_) => Ok(asked.user),
        Decision::Failed { error, .. } => {
            let uri = machinery::causes::go_quote(&i.uri());
            let text = format!("Internal Server Error: {uri}: {error}");
            Err(response::text(500, &text))
        }
        Decision::Deny(reason) | Decision::NoOpinion(reason) => {
            let query = Query::parse(&i.raw_query);
            Err(refused(
                server,
                &i.headers,
                &query,
                &forbidden(&asked, &reason),
            ))
        }
    }
}

/// Tells who asks; 401 where nobody knows.
async fn who(server: &Inner, i: &Incoming) -> Result<User, ApiError> {
    if let Some(part) = &i.peer.part {
        return Ok((**part).clone());
    }
    let header = i
        .headers
        .get(AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let bearer = header
        .split_once(' ')
        .filter(|(s, _)| s.eq_ignore_ascii_case("bearer"));
    let bearer = bearer.map(|(_, token)| token.trim());
    let bearer = bearer.filter(|t| !t.is_empty());
    let protocol = match bearer {
        None => protocol_token(&i.headers)?,
        Some(_) => None,
    };
    let credentials = Credentials {
        path: &i.path,
        certificates: &i.peer.certificates,
        proxy_certificates: &i.peer.proxy_certificates,
        bearer: bearer.or(protocol.as_deref()),
        audiences: &[],
        headers: &i.headers,
    };
    let begun = Instant::now();
    let found = match known(server, &credentials).await {
        // Bad credentials make nobody anonymous.
        Ok(Some(user)) if i.peer.foreign && user.name == "system:anonymous" => {
            Err(ApiError::unauthorized())
        }
        found => found,
    };
    crate::counts::authenticated((&server.access, &server.kept), &found, begun.elapsed());
    found?.ok_or_else(ApiError::unauthorized)
}

/// Asks the authenticators in order; an error is what the last that had one said.
async fn known(server: &Inner, credentials: &Credentials<'_>) -> Result<Option<User>, ApiError> {
    let plugins = server.plugins.get().ok_or_else(ApiError::unauthorized)?;
    let mut failed = false;
    for authenticator in &plugins.authenticators {
        match authenticator.authenticate(credentials).await {
            Ok(Some(found)) => {
                let mut user = found.user;
                let everyone = ["system:authenticated", "system:unauthenticated"];
                if !user.groups.iter().any(|g| everyone.contains(&g.as_str())) {
                    user.groups.push("system:authenticated".into());
                }
                return Ok(Some(user));
            }
            Ok(None) => {}
            Err(error) => {
                failed = true;
                tracing::debug!(authenticator = authenticator.name(), %error, "not authenticated");
            }
        }
    }
    if failed {
        return Err(ApiError::unauthorized());
    }
    Ok(None)
}

/// The token that browsers send as a WebSocket subprotocol, as they cannot set headers.
/// Upstream: authentication/request/websocket.
fn protocol_token(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";
    let upgrade = headers.get(http::header::UPGRADE);
    if !upgrade.is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return Ok(None);
    }
    let protocols = headers.get_all(http::header::SEC_WEBSOCKET_PROTOCOL);
    let protocols = protocols.iter().filter_map(|v| v.to_str().ok());
    let all: Vec<&str> = protocols
        .flat_map(|p| p.split(','))
        .map(str::trim)
        .collect();
    let mut tokens = all.iter().filter_map(|p| p.strip_prefix(PREFIX));
    let Some(token) = tokens.next() else {
        return Ok(None);
    };
    // One token, and one protocol to be spoken.
    if tokens.next().is_some() || all.len() < 2 {
        return Err(ApiError::unauthorized());
    }
    let decoded = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(token);
    let decoded = decoded.map_err(|_| ApiError::unauthorized())?;
    let text = String::from_utf8(decoded).map_err(|_| ApiError::unauthorized())?;
    Ok(Some(text).filter(|t| !t.is_empty()))
}

/// What an authorizer is asked about a request.
pub fn attributes(info: &RequestInfo, query: &Query, user: &User) -> Attributes {
    attributes_of(info, query, user.clone())
}

fn attributes_of(info: &RequestInfo, query: &Query, user: User) -> Attributes {
    let selective = ["list", "watch", "deletecollection"].contains(&info.verb.as_str());
    let selector = |name: &str| query.get(name).filter(|_| selective).map(str::to_string);
    Attributes {
        user,
        verb: info.verb.clone(),
        group: info.group.clone(),
        version: info.version.clone(),
        resource: info.resource.clone(),
        subresource: info.subresource.clone(),
        namespace: info.namespace.clone(),
        name: info.name.clone(),
        path: info.path.clone(),
        is_resource: info.is_resource,
        field_selector: selector("fieldSelector"),
        label_selector: selector("labelSelector"),
    }
}

/// Asks the authorizers in order; 403 with upstream's text unless one allows.
pub async fn authorize(server: &Inner, a: &Attributes) -> Result<(), ApiError> {
    require(a, decide(server, a).await)
}

/// 403 unless a decision allows. Upstream: checkAuthorization of filters/impersonation.
pub(crate) fn require(a: &Attributes, decision: Decision) -> Result<(), ApiError> {
    let why = match decision {
        Decision::Allow(_) => return Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => reason,
        Decision::Failed { reason, error, .. } if reason.is_empty() => error,
        Decision::Failed { reason, error, .. } => format!("{error}: {reason}"),
    };
    Err(forbidden(a, &why))
}

/// Asks the authorizers in order; gives the first opinion, or all reasons why there is none.
pub(crate) async fn decide(server: &Inner, a: &Attributes) -> Decision {
    let (mut reasons, mut errors) = (Vec::new(), Vec::new());
    let plugins = server.plugins.get();
    for authorizer in plugins.map_or(&[][..], |p| p.authorizers.as_slice()) {
        let reason = match authorizer.authorize(a).await {
            Decision::NoOpinion(reason) => reason,
            Decision::Failed {
                denied: false,
                reason,
                error,
            } => {
                errors.push(error);
                reason
            }
            decided => return decided,
        };
        if !reason.is_empty() && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    let reason = reasons.join(", ");
    match errors.is_empty() {
        true => Decision::NoOpinion(reason),
        false => Decision::Failed {
            denied: false,
            reason,
            error: errors.join(", "),
        },
    }
}

/// Upstream's responsewriters.Forbidden.
pub fn forbidden(a: &Attributes, reason: &str) -> ApiError {
    let user = &a.user.name;
    let mut text = if a.is_resource {
        let resource = if a.subresource.is_empty() {
            a.resource.clone()
        } else {
            format!("{}/{}", a.resource, a.subresource)
        };
        let mut text = format!(
            "User \"{user}\" cannot {} resource \"{resource}\" in API group \"{}\"",
            a.verb, a.group
        );
        if a.namespace.is_empty() {
            text.push_str(" at the cluster scope");
        } else {
            text.push_str(&format!(" in the namespace \"{}\"", a.namespace));
        }
        text
    } else {
        format!("User \"{user}\" cannot {} path \"{}\"", a.verb, a.path)
    };
    if !reason.is_empty() {
        text.push_str(": ");
        text.push_str(reason);
    }
    ApiError::forbidden(&a.group, &a.resource, &a.name, &text)
}

async fn resource(
    server: Arc<Inner>,
    i: Box<Incoming>,
    query: Query,
    info: Arc<RequestInfo>,
    user: User,
) -> Answer {
    // Split as a resource's path it may be, so that nobody gets around authorization; served it is not.
    if i.path.starts_with("//") {
        return response::text(404, "404 page not found");
    }
    let Some(served) = server
        .registry
        .find(&info.group, &info.version, &info.resource)
    else {
        return crate::discovery::not_found(&server, (&i.headers, &query), &info.group);
    };
    if misplaced(&served.descriptor, &info) {
        return response::text(404, "404 page not found");
    }
    if let Some(connector) = server.connector(&served.descriptor, &info.subresource) {
        let connected = connected(&server, &served, connector, *i, &info, (query, user));
        return Box::pin(connected).await;
    }
    let d = &served.descriptor;
    let offer = Offer {
        protobuf: api::protobuf::has_form(&d.group, &d.version, &d.kind),
        cbor: server.serves_cbor(),
        // What is only ever created has no table and no metadata.
        transforms: d.verbs.contains(&machinery::Verb::Get),
        server_version: true,
    };
    let cbor = offer.cbor;
    let i = *i;
    let call = Call::new(server, served, info, user, (query, i.headers, PLAIN));
    let call = call.upgradable(i.upgrade).until(i.deadline).seated(i.seat);
    let mut call = Box::new(call);
    let ready = ready(&mut call, offer);
    if let Some(trail) = i.trail.as_ref().filter(|_| ready.is_ok()) {
        trail.request(&call.info, &call.headers, &i.body);
    }
    let large = i.body.len() >= limits::LARGE_BODY_BYTES;
    let work = pin!(async {
        ready?;
        crate::verbs::dispatch(&call, i.body).await
    });
    let done = match large {
        true => apart(&call.server, work).await,
        false => work.await,
    };
    let mut answer = match done {
        Ok(answer) => answer,
        Err(e) => {
            let errors = negotiate::error(&call.headers, &call.query, cbor);
            response::error(&e, &errors)
        }
    };
    response::warn(&mut answer, &call.warnings());
    if let Some(trail) = &i.trail {
        trail.annotate(call.annotations());
        if !call.info.is_long_running() {
            answer = trail.response(answer).await;
        }
    }
    match call.server.enables("APIResponseCompression") {
        true => crate::gzip::compressed(answer, &call.headers).await,
        false => answer,
    }
}

/// Finds out who serves a call and in which format; warns of what is deprecated. Custom resources are told of that first.
fn ready(call: &mut Call, offer: Offer) -> Result<(), ApiError> {
    let custom = call.is_custom();
    let deprecated = |call: &Call| {
        if let Some(text) = call.descriptor().strategy.deprecation() {
            call.server.counts.deprecated(&call.info, text);
            call.warn(text);
        }
    };
    if custom {
        deprecated(call);
    }
    crate::verbs::routed(call)?;
    if !custom {
        deprecated(call);
    }
    call.format = negotiate::response(&call.headers, &call.query, offer)?;
    Ok(())
}

/// Carries out what takes the processor for long beside the runtime's workers, which answer everybody else meanwhile; a few
/// at a time, as each takes many times its body's memory.
pub async fn apart<F: Future>(server: &Inner, work: F) -> F::Output {
    let runtime = Handle::current();
    if runtime.runtime_flavor() != RuntimeFlavor::MultiThread {
        return work.await;
    }
    // It is never closed.
    let _turn = server.large.acquire().await;
    tokio::task::block_in_place(|| runtime.block_on(work))
}

/// Answers a request for a connection: logs, exec, proxies.
async fn connected(
    server: &Arc<Inner>,
    served: &Served,
    connector: Arc<dyn Connector>,
    i: Incoming,
    info: &RequestInfo,
    (query, user): (Query, User),
) -> Answer {
    if let Err(e) = may_connect(server, &served.descriptor, &i, info, &user).await {
        return response::error(&e, &PLAIN);
    }
    let mut request = crate::connect::ConnectRequest {
        user,
        namespace: info.namespace.clone(),
        name: info.name.clone(),
        subresource: info.subresource.clone(),
        rest: info.rest.clone(),
        path: i.path,
        method: i.method,
        query,
        raw_query: i.raw_query,
        headers: i.headers,
        body: i.body,
        upgrade: i.upgrade,
    };
    let d = &served.descriptor;
    let admitted = crate::connect::admission::admit(server, d, &mut request).await;
    let (answer, warnings) = match admitted {
        Ok(warnings) => (connector.connect(request).await, warnings),
        Err((e, warnings)) => (Err(e), warnings),
    };
    let mut answer = answer.unwrap_or_else(|e| response::error(&e, &PLAIN));
    response::warn(&mut answer, &warnings);
    answer
}

/// Whether a custom resource is asked for where it is not: without its namespace, or within one that it has
/// not. Upstream: the CRD handler, which passes such requests on to nobody.
fn misplaced(d: &machinery::Descriptor, info: &RequestInfo) -> bool {
    if !d.strategy.is_custom() {
        return false;
    }
    let everywhere = ["list", "watch"].contains(&info.verb.as_str());
    d.namespaced() == info.namespace.is_empty() && !(d.namespaced() && everywhere)
}

/// Whether a connect request's method is served, and whether a WebSocket GET may also `create`:
/// it does what a POST does (upstream's AuthorizePodWebsocketUpgradeCreatePermission).
async fn may_connect(
    server: &Inner,
    d: &machinery::Descriptor,
    i: &Incoming,
    info: &RequestInfo,
    user: &User,
) -> Result<(), ApiError> {
    let sub = d.subresources.iter().find(|s| s.name == info.subresource);
    if let Some(machinery::SubresourceKind::Connect { verbs, .. }) = sub.map(|s| &s.kind)
        && !verbs.contains(&info.verb.as_str())
        && !(i.method == http::Method::OPTIONS && info.subresource == "proxy")
    {
        return Err(crate::verbs::no_method());
    }
    let streams = ["exec", "attach", "portforward"].contains(&info.subresource.as_str());
    if streams && d.resource == "pods" && info.verb == "get" {
        let info = RequestInfo {
            verb: "create".into(),
            ..info.clone()
        };
        authorize(server, &attributes(&info, &Query::default(), user)).await?;
    }
    Ok(())
}

impl RequestInfo {
    /// The namespace under which objects of this resource are stored: a Namespace lies in none.
    pub fn namespace_of(&self, d: &machinery::Descriptor) -> String {
        if d.namespaced() {
            self.namespace.clone()
        } else {
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    fn size<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// Each layer holds the next one, and each move copies all of them.
    #[test]
    fn what_is_moved_with_a_request_stays_small() {
        let bytes = size(super::handle);
        assert!(bytes < 16 << 10, "{bytes} bytes");
    }
}
