//! Query options of connect requests, decoded as upstream's conversion from url.Values does.

use machinery::{ApiError, Causes};
use serde_json::json;

use crate::query::Query;

/// PodLogOptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodLogOptions {
    pub container: String,
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub since_seconds: Option<i64>,
    pub since_time: Option<jiff::Timestamp>,
    pub tail_lines: Option<i64>,
    pub limit_bytes: Option<i64>,
    pub stream: Option<String>,
    pub insecure_backend: bool,
}

/// PodExecOptions and PodAttachOptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodExecOptions {
    pub container: String,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
    pub command: Vec<String>,
}

/// A 64-bit integer, or 400 with Go's text.
fn integer(query: &Query, name: &str) -> Result<Option<i64>, ApiError> {
    match query.get(name) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            ApiError::bad_request(format!(
                "strconv.ParseInt: parsing \"{text}\": invalid syntax"
            ))
        }),
    }
}

// === PodLogOptions ===

impl PodLogOptions {
    /// From a query; 400 for values that do not parse.
    pub fn parse(query: &Query) -> Result<Self, ApiError> {
        let text = |name: &str| query.get(name).unwrap_or("").to_string();
        let since_time = match query.get("sinceTime").filter(|t| !t.is_empty()) {
            None => None,
            Some(t) => Some(t.parse().map_err(|_| {
                ApiError::bad_request(format!(
                    "parsing time \"{t}\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"{t}\" as \"2006\""
                ))
            })?),
        };
        Ok(Self {
            container: text("container"),
            follow: query.flag("follow"),
            previous: query.flag("previous"),
            timestamps: query.flag("timestamps"),
            since_seconds: integer(query, "sinceSeconds")?,
            since_time,
            tail_lines: integer(query, "tailLines")?,
            limit_bytes: integer(query, "limitBytes")?,
            stream: query.get("stream").map(str::to_string),
            insecure_backend: query.flag("insecureSkipTLSVerifyBackend"),
        })
    }

    /// 422 for combinations that upstream's ValidatePodLogOptions refuses.
    pub fn validate(&self, pod: &str) -> Result<(), ApiError> {
        let mut causes = Causes::new();
        if let Some(n) = self.tail_lines.filter(|n| *n < 0) {
            causes.at("tailLines", |c| {
                c.invalid(&json!(n), "must be greater than or equal to 0");
            });
        }
        if let Some(n) = self.limit_bytes.filter(|n| *n < 1) {
            causes.at("limitBytes", |c| {
                c.invalid(&json!(n), "must be greater than 0")
            });
        }
        if self.since_seconds.is_some() && self.since_time.is_some() {
            causes.at("", |c| {
                c.forbidden("at most one of `sinceTime` or `sinceSeconds` may be specified");
            });
        } else if let Some(n) = self.since_seconds.filter(|n| *n < 1) {
            causes.at("sinceSeconds", |c| {
                c.invalid(&json!(n), "must be greater than 0")
            });
        }
        if let Some(stream) = &self.stream {
            let known = ["All", "Stdout", "Stderr"];
            if !known.contains(&stream.as_str()) {
                causes.at("stream", |c| c.not_supported(&json!(stream), &known));
            } else if stream != "All" && self.tail_lines.is_some() {
                causes.at("", |c| {
                    c.forbidden("`tailLines` and specific `stream` are mutually exclusive for now");
                });
            }
        }
        if causes.is_empty() {
            return Ok(());
        }
        Err(ApiError::invalid(
            "",
            "PodLogOptions",
            pod,
            causes.as_slice(),
        ))
    }

    /// The query for the kubelet, names in order.
    pub fn kubelet_query(&self) -> String {
        let mut out = QueryText::default();
        out.flag("follow", self.follow);
        out.number("limitBytes", self.limit_bytes);
        out.flag("previous", self.previous);
        out.number("sinceSeconds", self.since_seconds);
        if let Some(t) = self.since_time {
            let seconds = jiff::Timestamp::from_second(t.as_second()).unwrap_or(t);
            out.pair("sinceTime", &seconds.to_string());
        }
        if let Some(stream) = &self.stream {
            out.pair("stream", stream);
        }
        out.number("tailLines", self.tail_lines);
        out.flag("timestamps", self.timestamps);
        out.0
    }
}

// === PodExecOptions ===

impl PodExecOptions {
    /// From a query. Without any of the three, stdout and stderr are on, as upstream defaults them.
    pub fn parse(query: &Query) -> Self {
        let given = |name: &str, default: bool| match query.get(name) {
            None => default,
            Some(_) => query.flag(name),
        };
        Self {
            container: query.get("container").unwrap_or("").to_string(),
            stdin: query.flag("stdin"),
            stdout: given("stdout", true),
            stderr: given("stderr", true),
            tty: query.flag("tty"),
            command: query.all("command").map(str::to_string).collect(),
        }
    }

    /// The query for the kubelet: `command=..&input=1&output=1&error=1&tty=1`.
    pub fn kubelet_query(&self) -> String {
        let mut out = QueryText::default();
        for word in &self.command {
            out.pair("command", word);
        }
        for (name, on) in [
            ("error", self.stderr),
            ("input", self.stdin),
            ("output", self.stdout),
            ("tty", self.tty),
        ] {
            if on {
                out.pair(name, "1");
            }
        }
        out.0
    }
}

/// A query string under construction.
#[derive(Default)]
pub struct QueryText(pub String);

impl QueryText {
    /// Adds an escaped pair.
    pub fn pair(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        for b in value.bytes() {
            match b {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    self.0.push(char::from(b));
                }
                b' ' => self.0.push('+'),
                other => self.0.push_str(&format!("%{other:02X}")),
            }
        }
    }

    fn flag(&mut self, name: &str, on: bool) {
        if on {
            self.pair(name, "true");
        }
    }

    fn number(&mut self, name: &str, value: Option<i64>) {
        if let Some(n) = value {
            self.pair(name, &n.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(query: &str) -> Result<PodLogOptions, ApiError> {
        let options = PodLogOptions::parse(&Query::parse(query))?;
        options.validate("p")?;
        Ok(options)
    }

    #[test]
    fn log_options_reach_the_kubelet() {
        let o = log("follow=true&tailLines=5&container=c&timestamps=1&previous=false").unwrap();
        assert_eq!(o.kubelet_query(), "follow=true&tailLines=5&timestamps=true");
        let o = log("sinceTime=2026-01-02T03:04:05Z").unwrap();
        assert_eq!(o.kubelet_query(), "sinceTime=2026-01-02T03%3A04%3A05Z");
    }

    #[test]
    fn wrong_log_options_are_told_apart() {
        for (query, code, text) in [
            (
                "tailLines=x",
                400,
                "strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "tailLines=-1",
                422,
                "PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "limitBytes=0",
                422,
                "PodLogOptions \"p\" is invalid: limitBytes: Invalid value: 0: must be greater than 0",
            ),
            (
                "stream=x",
                422,
                "PodLogOptions \"p\" is invalid: stream: Unsupported value: \"x\": supported values: \"All\", \"Stderr\", \"Stdout\"",
            ),
        ] {
            let e = log(query).unwrap_err();
            assert_eq!((e.code, e.message.as_str()), (code, text), "{query}");
        }
    }

    #[test]
    fn exec_options_reach_the_kubelet() {
        let q = Query::parse(
            "command=sh&command=-c&command=a+b%26&stdin=true&stdout=true&stderr=0&tty=1",
        );
        assert_eq!(
            PodExecOptions::parse(&q).kubelet_query(),
            "command=sh&command=-c&command=a+b%26&input=1&output=1&tty=1"
        );
    }
}
