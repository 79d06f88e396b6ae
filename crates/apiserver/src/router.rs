//! What upstream's router refuses before a handler negotiates: it stands in front of built-in kinds, of discovery and of
//! the version, and compares media types as they are written. Upstream: github.com/emicklei/go-restful/v3,
//! `detectRoute`, and `serviceErrorHandler` of apiserver/pkg/server.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use machinery::ApiError;

use crate::call::Call;
use crate::negotiate;

/// The forms of a watch, which lists name too.
const STREAMS: [&str; 2] = [
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];

/// Makes sure that a document has a form that a request accepts, and that the request sends nothing else.
pub fn document(headers: &HeaderMap, forms: &[&str]) -> Result<(), ApiError> {
    consumed(headers, forms)?;
    produced(headers, forms)
}

/// Makes sure that a built-in kind has a form that a call accepts, and a patch that it sends.
pub fn call(call: &Call, patches: &[&str]) -> Result<(), ApiError> {
    let verb = call.info.verb.as_str();
    if verb == "patch" {
        // Only requests without a body need not say what it is.
        match call.headers.contains_key(CONTENT_TYPE) {
            true => consumed(&call.headers, patches)?,
            false => return Err(unsupported()),
        }
    }
    let cbor = call.server.serves_cbor();
    let mut forms = negotiate::names(cbor).to_vec();
    if ["list", "watch"].contains(&verb) {
        forms.extend(STREAMS);
        forms.extend(cbor.then_some("application/cbor-seq"));
    }
    produced(&call.headers, &forms)
}

/// The router's refusals tell nothing in their details.
fn refusal(code: u16, reason: &'static str, why: String) -> ApiError {
    let mut e = ApiError::new(code, reason, why);
    e.details = Some(Box::default());
    e
}

/// Whether a header names one of these types, or any.
fn names_one(headers: &HeaderMap, header: HeaderName, of: &[&str]) -> bool {
    let text = headers.get(header).and_then(|v| v.to_str().ok());
    let text = text.unwrap_or("");
    let bare = |t: &str| t.split(';').next().unwrap_or("").trim().to_string();
    let mut all = text.split(',').map(bare);
    text.is_empty() || all.any(|t| t == "*/*" || of.contains(&t.as_str()))
}

fn consumed(headers: &HeaderMap, of: &[&str]) -> Result<(), ApiError> {
    if names_one(headers, CONTENT_TYPE, of) {
        return Ok(());
    }
    Err(unsupported())
}

fn unsupported() -> ApiError {
    let why = "415: Unsupported Media Type".into();
    refusal(415, "UnsupportedMediaType", why)
}

fn produced(headers: &HeaderMap, of: &[&str]) -> Result<(), ApiError> {
    if names_one(headers, ACCEPT, of) {
        return Ok(());
    }
    let forms = of.join(", ");
    let why = format!("406: Not Acceptable\n\nAvailable representations: {forms}");
    Err(refusal(406, "NotAcceptable", why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_compared_as_they_are_written() {
        let forms = ["application/json", "application/yaml"];
        for (name, value, code) in [
            (ACCEPT, "", 200),
            (ACCEPT, "application/yaml", 200),
            (ACCEPT, "text/html, application/json;q=0.1;as=Table", 200),
            (ACCEPT, "*/*", 200),
            (ACCEPT, "application/*", 406),
            (ACCEPT, "text/html", 406),
            (CONTENT_TYPE, "application/json; charset=utf-8", 200),
            (CONTENT_TYPE, "text/plain", 415),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a header"));
            let found = document(&headers, &forms).map_or_else(|e| e.code, |()| 200);
            assert_eq!(found, code, "{value}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, "text/html".parse().expect("a header"));
        assert_eq!(
            document(&headers, &forms).expect_err("no HTML").message,
            "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml"
        );
    }
}
