//! A small document of another server, got whole: within a time, up to a size.

use std::time::Duration;

use bytes::Bytes;
use client::Reads;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use http::{HeaderName, Method};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use machinery::request::User;

use super::headers;
use super::remote::{Failed, Outgoing, Remote};

/// What is asked for.
pub struct Asked<'a> {
    pub user: User,
    pub path: &'a str,
    pub accept: &'static str,
    /// Of what is there already; may be empty.
    pub etag: &'a str,
    pub within: Duration,
    pub bytes_max: usize,
}

/// An answer.
pub struct Fetched {
    pub code: u16,
    pub content: String,
    pub etag: String,
    pub body: Bytes,
}

/// Gets a document. The error is for logs.
pub async fn fetch(
    remote: &Remote,
    reads: &dyn Reads,
    asked: &Asked<'_>,
) -> Result<Fetched, String> {
    match tokio::time::timeout(asked.within, got(remote, reads, asked)).await {
        Ok(done) => done,
        Err(_) => Err(format!(
            "{}: no answer within {:?}",
            asked.path, asked.within
        )),
    }
}

async fn got(remote: &Remote, reads: &dyn Reads, asked: &Asked<'_>) -> Result<Fetched, String> {
    let address = remote.resolve(reads).map_err(text)?;
    let mut all = HeaderMap::new();
    all.insert(ACCEPT, HeaderValue::from_static(asked.accept));
    if let Some(etag) = header(asked.etag) {
        all.insert(IF_NONE_MATCH, etag);
    }
    headers::identify(&mut all, &asked.user);
    let outgoing = Outgoing {
        method: Method::GET,
        target: asked.path.into(),
        headers: all,
        body: Bytes::new(),
    };
    let answer = remote.send(&address, outgoing).await.map_err(text)?;
    let (parts, body) = answer.into_parts();
    let of = |name: HeaderName| {
        let value = parts.headers.get(name).and_then(|v| v.to_str().ok());
        value.unwrap_or_default().to_string()
    };
    let body = match Limited::new(body, asked.bytes_max).collect().await {
        Ok(all) => all.to_bytes(),
        Err(e) if e.is::<LengthLimitError>() => {
            let max = asked.bytes_max;
            return Err(format!("{}: more than {max} bytes", asked.path));
        }
        Err(e) => return Err(format!("{}: {}", asked.path, webhook::cause(&*e))),
    };
    Ok(Fetched {
        code: parts.status.as_u16(),
        content: of(CONTENT_TYPE),
        etag: of(ETAG),
        body,
    })
}

fn header(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok().filter(|v| !v.is_empty())
}

fn text(failed: Failed) -> String {
    match failed {
        Failed::Pool(why) | Failed::Resolve(why) => why,
        Failed::Way { url, why } => format!("Get \"{url}\": {why}"),
    }
}
