//! What a client may say about a list, a watch or a deletecollection, in the order in which upstream reads and checks
//! it. Upstream: metav1.ListOptions, its conversion from a query, its defaults and its validation.

use api::selector::{FieldSelector, LabelSelector};
use machinery::{ApiError, Causes};
use serde_json::json;

use crate::call::{Call, refuse};
use crate::query::Query;

/// Options of a list or watch.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    pub watch: bool,
    pub bookmarks: bool,
    pub version: String,
    pub matching: String,
    pub timeout_seconds: Option<i64>,
    /// None or less than one: no limit.
    pub limit: i64,
    pub token: String,
    pub initial: Option<bool>,
}

// === ListOptions ===

impl ListOptions {
    /// The options of a query; an error is the text of upstream's 400.
    pub fn decode(query: &Query) -> Result<Self, String> {
        let text = |name: &str| query.get(name).unwrap_or_default().to_string();
        let initial = query.get("sendInitialEvents");
        let mut options = Self {
            watch: query.flag("watch"),
            bookmarks: query.flag("allowWatchBookmarks"),
            version: text("resourceVersion"),
            matching: text("resourceVersionMatch"),
            timeout_seconds: query.number("timeoutSeconds")?,
            limit: query.number("limit")?.unwrap_or(0),
            token: text("continue"),
            initial: initial.map(|_| query.flag("sendInitialEvents")),
            ..Self::default()
        };
        options.labels = LabelSelector::parse(query.get("labelSelector").unwrap_or_default())?;
        options.fields = FieldSelector::parse(query.get("fieldSelector").unwrap_or_default())?;
        Ok(options)
    }

    /// The options of a call, checked, with fields named as objects carry them; 400 or 422 where something is wrong.
    pub fn of(call: &Call) -> Result<Self, ApiError> {
        let mut options = Self::decode(&call.query).map_err(ApiError::bad_request)?;
        let watch_list = call.server.enables("WatchList");
        if watch_list {
            options.set_defaults();
        }
        refuse("ListOptions", &options.validate(watch_list))?;
        let d = call.descriptor();
        for r in &mut options.fields.requirements {
            let known = r.field == "metadata.name"
                || (r.field == "metadata.namespace" && d.namespaced())
                || d.strategy.selectable_keys().contains(&r.field.as_str());
            if !known {
                let text = format!("field label not supported: {}", r.field);
                return Err(ApiError::bad_request(text));
            }
            r.field = d.strategy.selects_as(&r.field).to_string();
        }
        options.name(&call.info.name)?;
        Ok(options)
    }

    /// A watch from no version in particular is a list that goes on.
    fn set_defaults(&mut self) {
        let anywhere = ["", "0"].contains(&self.version.as_str());
        if self.watch && anywhere && self.initial.is_none() && self.matching.is_empty() {
            self.initial = Some(true);
            self.matching = "NotOlderThan".into();
        }
    }

    fn validate(&self, watch_list: bool) -> Causes {
        let mut causes = Causes::new();
        let matching = self.matching.as_str();
        let continues = "resourceVersionMatch is forbidden when continue is provided";
        causes.at("resourceVersionMatch", |c| {
            if self.watch {
                if self.initial.is_some() && matching != "NotOlderThan" {
                    c.forbidden(
                        "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                    );
                }
                if !matching.is_empty() && self.initial.is_none() {
                    c.forbidden("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
                }
                if !["", "NotOlderThan"].contains(&matching) {
                    c.not_supported(&json!(matching), &["NotOlderThan"]);
                }
                if !matching.is_empty() && !self.token.is_empty() {
                    c.forbidden(continues);
                }
                return;
            }
            if matching.is_empty() {
                return;
            }
            if self.version.is_empty() {
                c.forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if !self.token.is_empty() {
                c.forbidden(continues);
            }
            if !["Exact", "NotOlderThan"].contains(&matching) {
                let known = ["Exact", "NotOlderThan", ""];
                c.not_supported_in_order(&json!(matching), &known);
            }
            if matching == "Exact" && self.version == "0" {
                c.forbidden(
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                );
            }
        });
        let why = match self.watch {
            false => "sendInitialEvents is forbidden for list",
            true => {
                "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
            }
        };
        if self.initial.is_some() && !(self.watch && watch_list) {
            causes.at("sendInitialEvents", |c| c.forbidden(why));
        }
        causes
    }

    /// A name in the path, or one that the field selector names, selects like a field.
    fn name(&mut self, name: &str) -> Result<(), ApiError> {
        if name.is_empty() || self.fields.requires("metadata.name") == Some(name) {
            return Ok(());
        }
        if !self.fields.is_empty() {
            return Err(ApiError::bad_request(
                "fieldSelector metadata.name doesn't match requested name",
            ));
        }
        self.fields = FieldSelector::equal("metadata.name", name);
        Ok(())
    }
}

/// A resourceVersion as a number; an error is upstream's text about it.
pub fn parse_version(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    unsigned(text).map_err(|why| {
        let text = api::go::quote(text);
        format!("resourceVersion: Invalid value: {text}: {why}")
    })
}

/// A number as Go's `strconv.ParseUint` reads it.
pub fn unsigned(text: &str) -> Result<u64, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let why = match text.parse() {
        Ok(n) if digits => return Ok(n),
        _ if digits && !text.is_empty() => "value out of range",
        _ => "invalid syntax",
    };
    let text = api::go::quote(text);
    Err(format!("strconv.ParseUint: parsing {text}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a query: its 400, or the causes of its 422.
    fn wrong(query: &str) -> Vec<String> {
        let mut options = match ListOptions::decode(&Query::parse(query)) {
            Ok(options) => options,
            Err(text) => return vec![text],
        };
        options.set_defaults();
        let causes = options.validate(true);
        let all = causes.as_slice().iter();
        all.map(|c| c.text()).collect()
    }

    #[test]
    fn options_are_read_and_checked_in_upstreams_order() {
        let number = |n: &str| format!("strconv.ParseInt: parsing \"{n}\": invalid syntax");
        let forbidden = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden";
        let initial = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list";
        let requires = "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        for (query, expected) in [
            ("limit=x&timeoutSeconds=y&labelSelector=,", vec![number("y")]),
            ("limit=&labelSelector=,", vec![number("")]),
            (
                "labelSelector=,&fieldSelector=x&resourceVersionMatch=Odd",
                vec!["found ',', expected: !, identifier, or 'end of string'".into()],
            ),
            (
                "fieldSelector=x&resourceVersionMatch=Odd",
                vec!["invalid selector: 'x'; can't understand 'x'".into()],
            ),
            (
                "resourceVersionMatch=Odd&continue=x&sendInitialEvents=0",
                vec![
                    format!("{forbidden} unless resourceVersion is provided"),
                    format!("{forbidden} when continue is provided"),
                    "resourceVersionMatch: Unsupported value: \"Odd\": supported values: \"Exact\", \"NotOlderThan\", \"\"".into(),
                    initial.into(),
                ],
            ),
            (
                "resourceVersion=0&resourceVersionMatch=Exact",
                vec![format!("{forbidden} for resourceVersion \"0\"").replace("resourceVersionMatch is", "resourceVersionMatch \"exact\" is")],
            ),
            ("sendInitialEvents=true", vec![initial.into()]),
            ("watch=true&sendInitialEvents=true", vec![requires.into()]),
            ("watch=true&sendInitialEvents", vec![requires.into()]),
            (
                "watch=true&resourceVersionMatch=Exact",
                vec![
                    format!("{forbidden} for watch unless sendInitialEvents is provided"),
                    "resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"".into(),
                ],
            ),
            ("watch=true&continue=x", vec![format!("{forbidden} when continue is provided")]),
            ("watch=true&continue=x&resourceVersion=5", vec![]),
            ("watch=true", vec![]),
            ("watch=0&resourceVersion=5&resourceVersionMatch=Exact&limit=-1", vec![]),
        ] {
            assert_eq!(wrong(query), expected, "{query}");
        }
    }

    #[test]
    fn versions_are_read_as_go_does() {
        let bad = |text: &str, why: &str| {
            Err(format!(
                "resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": {why}"
            ))
        };
        for (text, expected) in [
            ("", Ok(0)),
            ("07", Ok(7)),
            ("+7", bad("+7", "invalid syntax")),
            ("1.5", bad("1.5", "invalid syntax")),
            (
                "99999999999999999999",
                bad("99999999999999999999", "value out of range"),
            ),
        ] {
            assert_eq!(parse_version(text), expected, "{text}");
        }
    }
}
