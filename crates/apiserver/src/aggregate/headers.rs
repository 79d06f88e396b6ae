//! What a carried request says of its user, and what it must not say: credentials and claims of the client's own.
//! Upstream: client-go transport SetAuthProxyHeaders; the authentication and impersonation filters of apiserver.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE,
};
use machinery::request::User;

use crate::connect::proxy::HOP_BY_HOP;

const USER: &str = "x-remote-user";
const UID: &str = "x-remote-uid";
const GROUP: &str = "x-remote-group";
const EXTRA: &str = "x-remote-extra-";

/// Whether a header would tell the other server who asks, or belongs to this connection.
fn is_ours(name: &str) -> bool {
    name.starts_with("x-remote-")
        || name.starts_with("impersonate-")
        || HOP_BY_HOP.contains(&name)
        || [AUTHORIZATION, HOST, CONTENT_LENGTH]
            .iter()
            .any(|h| h == name)
}

/// The client's headers as they are carried on, with the user; an upgrade keeps its own.
pub fn carried(client: &HeaderMap, user: &User, upgrade: bool) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(client.len() + 4);
    for (name, value) in client {
        let kept = upgrade && (name == CONNECTION || name == UPGRADE);
        if kept || !is_ours(name.as_str()) {
            out.append(name.clone(), value.clone());
        }
    }
    // A token may come as a subprotocol too; the other server gets the rest.
    let protocols = "sec-websocket-protocol";
    let text = out.get(protocols).and_then(|p| p.to_str().ok());
    if let Some(text) = text.filter(|t| t.contains(TOKEN)) {
        let kept: Vec<&str> = text
            .split(',')
            .map(str::trim)
            .filter(|p| !p.starts_with(TOKEN))
            .collect();
        if let Ok(value) = HeaderValue::from_str(&kept.join(", ")) {
            out.insert(protocols, value);
        }
    }
    identify(&mut out, user);
    out
}

const TOKEN: &str = "base64url.bearer.authorization.k8s.io.";

/// Says who asks.
pub fn identify(out: &mut HeaderMap, user: &User) {
    let mut add = |name: &str, value: &str| {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_bytes(value.as_bytes());
        // What no header can hold (a line break) is not said, rather than said wrongly.
        if let (Ok(name), Ok(value)) = (name, value) {
            out.append(name, value);
        }
    };
    add(USER, &user.name);
    if !user.uid.is_empty() {
        add(UID, &user.uid);
    }
    for group in &user.groups {
        add(GROUP, group);
    }
    for (key, values) in &user.extra {
        let name = format!("{EXTRA}{}", escaped(key));
        for value in values {
            add(&name, value);
        }
    }
}

/// A key of `extra` as a header's name may end: what no token may hold is percent-encoded, and `%` itself.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for b in key.bytes() {
        let plain = b.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&b);
        if plain {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}
