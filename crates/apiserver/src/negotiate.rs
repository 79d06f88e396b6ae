//! Content negotiation. Upstream: apiserver/pkg/endpoints/handlers/negotiation; api-semantics §3.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use machinery::ApiError;

use crate::query::Query;

/// A wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Media {
    Json,
    Yaml,
    Protobuf,
    /// Where the gate `CBORServingAndStorage` is on.
    Cbor,
}

/// What is sent in place of the object itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transform {
    None,
    /// The version of `meta.k8s.io` asked for.
    Table(String),
    PartialMetadata(String),
    PartialMetadataList(String),
}

/// How a response is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    pub media: Media,
    pub transform: Transform,
    pub pretty: bool,
}

/// What an endpoint can produce.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    pub protobuf: bool,
    pub cbor: bool,
    pub transforms: bool,
    /// Whether `sv=v1` may be asked for.
    pub server_version: bool,
}

/// What documents and errors are offered in: any format, but as they are.
pub fn document(cbor: bool) -> Offer {
    Offer {
        protobuf: true,
        cbor,
        transforms: false,
        server_version: false,
    }
}

// === Media ===

impl Media {
    /// The bare media type.
    pub fn text(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
            Self::Cbor => "application/cbor",
        }
    }
}

/// What upstream names in refusals, whether the kind at hand has that form or not.
pub fn names(cbor: bool) -> &'static [&'static str] {
    const NAMES: [&str; 4] = [
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
        "application/cbor",
    ];
    if cbor { &NAMES } else { &NAMES[..3] }
}

/// How an error is written: by the first clause that asks for no transform, and as indented JSON where
/// there is none. Upstream: responsewriters.ErrorNegotiated.
pub fn error(headers: &HeaderMap, query: &Query, cbor: bool) -> Format {
    response(headers, query, document(cbor)).unwrap_or(Format {
        media: Media::Json,
        transform: Transform::None,
        pretty: true,
    })
}

struct Clause<'a> {
    kind: &'a str,
    subtype: &'a str,
    q: f64,
    parameters: Vec<(&'a str, &'a str)>,
}

// === Clause ===

impl<'a> Clause<'a> {
    /// One clause as upstream's goautoneg reads it; what has no type and subtype is none.
    fn parse(part: &'a str) -> Option<Self> {
        let space = |t: &'a str| t.trim_matches(' ');
        let (media, parameters) = part.split_once(';').unwrap_or((part, ""));
        let media = space(media);
        let (kind, subtype) = match media.strip_suffix('/').unwrap_or(media) {
            "*" => ("*", "*"),
            media => media.split_once('/')?,
        };
        if subtype.contains('/') {
            return None;
        }
        let mut clause = Self {
            kind: space(kind),
            subtype: space(subtype),
            q: 1.0,
            parameters: Vec::new(),
        };
        for parameter in parameters.split(';') {
            let (name, value) = parameter.split_once('=').unwrap_or_default();
            let (value, rest) = value.split_once('=').unwrap_or((value, ""));
            match space(name) {
                _ if value.is_empty() || !rest.is_empty() => {}
                "q" => clause.q = value.parse().unwrap_or(0.0),
                name => clause.parameters.push((name, space(value))),
            }
        }
        Some(clause)
    }

    fn before(&self, other: &Self) -> bool {
        self.q > other.q
            || (self.kind != "*" && other.kind == "*")
            || (self.subtype != "*" && other.subtype == "*")
    }

    fn takes(&self, media: Media) -> bool {
        let (kind, subtype) = media.text().split_once('/').unwrap_or_default();
        match (self.kind, self.subtype) {
            ("*", "*") => true,
            (k, "*") => k == kind,
            (k, s) => k == kind && s == subtype,
        }
    }
}

/// The clauses of a header, in the order that upstream's sort makes of an order that is none.
fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut out: Vec<Clause<'_>> = accept.split(',').filter_map(Clause::parse).collect();
    for i in 1..out.len() {
        let mut j = i;
        while j > 0 && out[j].before(&out[j - 1]) {
            out.swap(j, j - 1);
            j -= 1;
        }
    }
    out
}

/// The first of these media types that a client takes, by the order of what it asks for; upstream's documents are
/// offered so. Without a header anything is taken.
pub fn first_of(headers: &HeaderMap, offered: &[&str]) -> Option<usize> {
    let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok());
    let accept = accept.filter(|a| !a.is_empty()).unwrap_or("*/*");
    let takes = |c: &Clause<'_>, media: &&str| {
        let (kind, subtype) = media.split_once('/').unwrap_or_default();
        ["*", kind].contains(&c.kind) && ["*", subtype].contains(&c.subtype)
    };
    let clauses = clauses(accept);
    let mut found = clauses
        .iter()
        .map(|c| offered.iter().position(|m| takes(c, m)));
    found.find_map(|place| place)
}

/// Chooses the response's format, or 406.
pub fn response(headers: &HeaderMap, query: &Query, offer: Offer) -> Result<Format, ApiError> {
    // Of several headers upstream reads the first.
    let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok());
    let accept = accept.unwrap_or("").trim_matches([' ', '\t']);
    let default = Format {
        media: Media::Json,
        transform: Transform::None,
        pretty: false,
    };
    let mut format = if accept.is_empty() {
        default
    } else {
        clauses(accept)
            .iter()
            .find_map(|c| choose(c, offer))
            .ok_or_else(|| ApiError::not_acceptable(names(offer.cbor)))?
    };
    let agent = headers
        .get(USER_AGENT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    format.pretty |= match query.get("pretty").filter(|p| !p.is_empty()) {
        Some(_) => query.is_true("pretty"),
        None => ["curl", "Wget", "Mozilla/5.0"]
            .iter()
            .any(|p| agent.starts_with(p)),
    };
    Ok(format)
}

fn choose(c: &Clause<'_>, offer: Offer) -> Option<Format> {
    let parameter = |name: &str| {
        let mut all = c.parameters.iter().rev();
        all.find(|(k, _)| *k == name).map(|(_, v)| *v)
    };
    let said = |name: &str| parameter(name).filter(|v| !v.is_empty());
    let streams = said("stream");
    let version = if offer.server_version { "v1" } else { "" };
    if streams.is_some_and(|s| s != "watch") || said("sv").is_some_and(|v| v != version) {
        return None;
    }
    let transform = match (parameter("as"), parameter("g"), parameter("v")) {
        (None, None, None) => Transform::None,
        (Some(_), _, _) if !offer.transforms => return None,
        (Some(kind), Some("meta.k8s.io"), Some(v @ ("v1" | "v1beta1"))) => match kind {
            "Table" => Transform::Table(v.into()),
            "PartialObjectMetadata" => Transform::PartialMetadata(v.into()),
            "PartialObjectMetadataList" => Transform::PartialMetadataList(v.into()),
            _ => return None,
        },
        _ => return None,
    };
    let (protobuf, cbor) = match transform {
        Transform::None => (offer.protobuf, offer.cbor),
        Transform::Table(_) => (false, false),
        // Metadata has a protobuf form, whatever the object is.
        Transform::PartialMetadata(_) | Transform::PartialMetadataList(_) => (true, offer.cbor),
    };
    let offered = [
        (Media::Json, true),
        // YAML has no form of a stream.
        (Media::Yaml, streams.is_none()),
        (Media::Protobuf, protobuf),
        (Media::Cbor, cbor),
    ];
    let media = offered
        .iter()
        .filter(|(_, on)| *on)
        .map(|(m, _)| *m)
        .find(|m| c.takes(*m))?;
    Some(Format {
        media,
        transform,
        pretty: parameter("pretty") == Some("1"),
    })
}

/// The format of a request's body, or 415.
pub fn request(headers: &HeaderMap, protobuf: bool, cbor: bool) -> Result<Media, ApiError> {
    let text = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let bare = text.split(';').next().unwrap_or("").trim().to_lowercase();
    match bare.as_str() {
        "" | "application/json" => Ok(Media::Json),
        "application/yaml" => Ok(Media::Yaml),
        "application/vnd.kubernetes.protobuf" if protobuf => Ok(Media::Protobuf),
        "application/cbor" if cbor => Ok(Media::Cbor),
        _ => Err(ApiError::unsupported_media_type(names(cbor))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(accept: &str) -> Option<(Media, Transform)> {
        with(accept, false)
    }

    fn with(accept: &str, cbor: bool) -> Option<(Media, Transform)> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().expect("a header"));
        let offer = Offer {
            protobuf: true,
            cbor,
            transforms: true,
            server_version: true,
        };
        response(&headers, &Query::default(), offer)
            .ok()
            .map(|f| (f.media, f.transform))
    }

    #[test]
    fn accepts_are_chosen_as_upstream_does() {
        let table = Transform::Table("v1".into());
        for (accept, expected) in [
            ("", Some((Media::Json, Transform::None))),
            ("*/*", Some((Media::Json, Transform::None))),
            ("application/yaml", Some((Media::Yaml, Transform::None))),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Some((Media::Protobuf, Transform::None)),
            ),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
                Some((Media::Json, table)),
            ),
            ("application/json;as=Nope;v=v1;g=meta.k8s.io", None),
            (
                "application/json;as=Nope;v=v1;g=meta.k8s.io,application/yaml",
                Some((Media::Yaml, Transform::None)),
            ),
            (
                "application/json;q=0.1,application/yaml;q=0.9",
                Some((Media::Yaml, Transform::None)),
            ),
            ("text/html", None),
            (
                "*/*, application/yaml",
                Some((Media::Yaml, Transform::None)),
            ),
            ("*", Some((Media::Json, Transform::None))),
            ("application", None),
            ("application/*;v=v1", None),
            ("application/json;as=\"Table\";v=v1;g=meta.k8s.io", None),
            (
                "application/json;q=x, application/yaml;q=0.1",
                Some((Media::Yaml, Transform::None)),
            ),
        ] {
            assert_eq!(of(accept), expected, "{accept}");
        }
    }

    #[test]
    fn cbor_is_offered_where_its_gate_is_on() {
        let cbor = Some((Media::Cbor, Transform::None));
        let metadata = Some((Media::Cbor, Transform::PartialMetadata("v1".into())));
        let json = Some((Media::Json, Transform::None));
        assert_eq!(of("application/cbor"), None);
        assert_eq!(of("application/cbor, */*;q=0.1"), json);
        for (accept, expected) in [
            ("application/cbor", cbor.clone()),
            ("*/*", json),
            ("application/cbor-seq", None),
            ("application/cbor;stream=watch", cbor),
            ("application/cbor;as=Table;v=v1;g=meta.k8s.io", None),
            (
                "application/cbor;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
                metadata,
            ),
        ] {
            assert_eq!(with(accept, true), expected, "{accept}");
        }
    }
}
