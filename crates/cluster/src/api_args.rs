//! `spec.api.extraArgs`: the flags of kube-apiserver that take effect. Others are refused by name.

mod access;
mod audit;

use std::collections::BTreeMap;
use std::time::Duration;

use apiserver::trace::TracingConfig;
use machinery::gates::Gates;
use resources::Enablement;

/// Flags that are known, besides those of audit.
const KNOWN: &[&str] = &[
    "anonymous-auth",
    "authentication-config",
    "authentication-token-webhook-cache-ttl",
    "authentication-token-webhook-config-file",
    "authentication-token-webhook-version",
    "authorization-config",
    "authorization-mode",
    "authorization-webhook-cache-authorized-ttl",
    "authorization-webhook-cache-unauthorized-ttl",
    "authorization-webhook-config-file",
    "authorization-webhook-version",
    "encryption-provider-config",
    "encryption-provider-config-automatic-reload",
    "event-ttl",
    "feature-gates",
    "oidc-ca-file",
    "oidc-client-id",
    "oidc-groups-claim",
    "oidc-groups-prefix",
    "oidc-issuer-url",
    "oidc-required-claim",
    "oidc-signing-algs",
    "oidc-username-claim",
    "oidc-username-prefix",
    "runtime-config",
    "tracing-config-file",
];
pub use access::Authentication;

/// Flags as they are given.
#[derive(Clone, Copy)]
pub struct ApiArgs<'a>(pub &'a BTreeMap<String, String>);

impl ApiArgs<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    }

    fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| format!("{text:?} is no whole number"))
        };
        self.get(name).map(parse).transpose()
    }

    /// A flag that is on or off, in the words that Go's ParseBool takes.
    fn flag(&self, name: &str) -> Result<Option<bool>, String> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
            _ => Err(format!("{text:?} is neither true nor false")),
        }
    }

    /// What is wrong, by flag.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for name in self.0.keys() {
            if !KNOWN.contains(&name.as_str()) && !audit::knows(name) {
                let known = [audit::FLAGS, KNOWN].concat().join(", ");
                let why = format!("this flag is not supported yet; supported are {known}");
                out.push((name.clone(), why));
            }
        }
        self.audit_problems(&mut out);
        let reload = "encryption-provider-config-automatic-reload";
        match self.flag(reload) {
            Err(why) => out.push((reload.to_string(), why)),
            Ok(Some(true)) if self.encryption_config().is_none() => {
                let why = "must be set with --encryption-provider-config";
                out.push((reload.to_string(), why.into()));
            }
            Ok(_) => {}
        }
        if let Err(why) = self.event_ttl() {
            out.push(("event-ttl".into(), why));
        }
        for why in self.gates().err().unwrap_or_default() {
            out.push(("feature-gates".into(), why));
        }
        for why in self.enablement().err().unwrap_or_default() {
            out.push(("runtime-config".into(), why));
        }
        self.access_problems(&mut out);
        out
    }

    /// What `feature-gates` sets.
    pub fn gates(&self) -> Result<Gates, Vec<String>> {
        Gates::parse(self.get("feature-gates").unwrap_or(""))
    }

    /// What `runtime-config` turns on and off.
    pub fn enablement(&self) -> Result<Enablement, Vec<String>> {
        Enablement::parse(self.get("runtime-config").unwrap_or(""))
    }

    /// How long events live, where it is said. Upstream takes times before now too, and then cannot write events.
    pub fn event_ttl(&self) -> Result<Option<Duration>, String> {
        let invalid =
            |text: &str, why| format!("invalid argument {text:?} for \"--event-ttl\" flag: {why}");
        let parse = |text: &str| duration(text).map_err(|why| invalid(text, why));
        self.get("event-ttl").map(parse).transpose()
    }

    /// The file with the keys for encryption at rest, where one is named.
    pub fn encryption_config(&self) -> Option<&str> {
        self.get("encryption-provider-config")
    }

    /// Where spans go, if anywhere.
    pub fn tracing(&self) -> Result<Option<TracingConfig>, String> {
        let Some(path) = self.get("tracing-config-file") else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(path)
            .map_err(|e| format!("unable to read tracing configuration from {path:?}: {e}"))?;
        TracingConfig::parse(&text).map(Some)
    }

    /// Whether that file is followed.
    pub fn reloads(&self) -> bool {
        matches!(
            self.flag("encryption-provider-config-automatic-reload"),
            Ok(Some(true))
        )
    }
}

/// A time in Go's words, not before now.
fn duration(text: &str) -> Result<Duration, String> {
    let nanos = api::duration::nanoseconds(text)?;
    let nanos = u64::try_from(nanos).map_err(|_| format!("{text:?} is negative"))?;
    Ok(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_flags_are_named_and_known_ones_read() {
        let args = |all: &[(&str, &str)]| -> BTreeMap<String, String> {
            let text = |(k, v): &(&str, &str)| ((*k).to_string(), (*v).to_string());
            all.iter().map(text).collect()
        };
        let bad = args(&[
            ("v", "2"),
            ("audit-log-maxage", "x"),
            ("audit-log-format", "xml"),
            ("event-ttl", "soon"),
            ("feature-gates", "Nope=true"),
            ("runtime-config", "foo/v1"),
        ]);
        let problems = ApiArgs(&bad).problems();
        let named: Vec<&str> = problems.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(
            named,
            [
                "v",
                "audit-log-maxage",
                "audit-log-format",
                "event-ttl",
                "feature-gates",
                "runtime-config"
            ]
        );
    }

    #[test]
    fn the_time_of_events_is_a_duration_of_go() {
        let given = |text: &str| BTreeMap::from([("event-ttl".to_string(), text.to_string())]);
        for (text, expected) in [
            ("", Ok(None)),
            ("90m", Ok(Some(Duration::from_secs(5400)))),
            ("0", Ok(Some(Duration::ZERO))),
            (
                "soon",
                Err(
                    r#"invalid argument "soon" for "--event-ttl" flag: time: invalid duration "soon""#,
                ),
            ),
            (
                "5",
                Err(
                    r#"invalid argument "5" for "--event-ttl" flag: time: missing unit in duration "5""#,
                ),
            ),
            (
                "-1h",
                Err(r#"invalid argument "-1h" for "--event-ttl" flag: "-1h" is negative"#),
            ),
        ] {
            let args = given(text);
            let got = ApiArgs(&args).event_ttl();
            assert_eq!(got, expected.map_err(str::to_string), "{text}");
        }
    }
}
