//! TracingConfiguration files. Upstream: component-base/tracing/api/v1.

use serde::Deserialize;

use crate::limits;

const VERSIONS: [&str; 3] = [
    "apiserver.config.k8s.io/v1",
    "apiserver.config.k8s.io/v1beta1",
    "apiserver.config.k8s.io/v1alpha1",
];
/// OTLP's own.
const ENDPOINT: &str = "localhost:4317";
const MILLION: i64 = 1_000_000;

/// Where spans go and how many of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracingConfig {
    pub endpoint: String,
    pub sampling_rate_per_million: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    kind: String,
    api_version: String,
    endpoint: Option<String>,
    sampling_rate_per_million: Option<i64>,
}

impl TracingConfig {
    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > limits::TRACING_CONFIG_BYTES {
            return Err("the file is too large".into());
        }
        let file: File = serde_saphyr::from_str(text)
            .map_err(|e| format!("unable to decode tracing configuration data: {e}"))?;
        if file.kind != "TracingConfiguration" || !VERSIONS.contains(&&*file.api_version) {
            return Err(format!(
                "unable to decode tracing configuration data: no kind {:?} is registered for version {:?}",
                file.kind, file.api_version
            ));
        }
        let failed = |why: String| Err(format!("failed to validate tracing configuration: {why}"));
        let rate = file.sampling_rate_per_million.unwrap_or(0);
        let why = match rate {
            n if n < 0 => "sampling rate must be positive",
            n if n > MILLION => {
                "sampling rate per million must be less than or equal to one million"
            }
            _ => "",
        };
        if !why.is_empty() {
            return failed(format!(
                "samplingRatePerMillion: Invalid value: {rate}: {why}"
            ));
        }
        let endpoint = file.endpoint.unwrap_or_else(|| ENDPOINT.into());
        let scheme = endpoint
            .split_once("//")
            .map(|(s, _)| s.trim_end_matches(':'));
        if let Some(scheme) = scheme.filter(|s| !["dns", "unix", "unix-abstract"].contains(s)) {
            return failed(format!(
                "endpoint: Invalid value: {endpoint:?}: unsupported scheme: {scheme}.  Options are none, dns, unix, or unix-abstract.  See https://github.com/grpc/grpc/blob/master/doc/naming.md"
            ));
        }
        Ok(Self {
            endpoint,
            sampling_rate_per_million: u32::try_from(rate).unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_upstream_reads_them() {
        let text = |rest: &str| {
            format!("apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\n{rest}")
        };
        let read = TracingConfig::parse(&text("samplingRatePerMillion: 100\n")).unwrap();
        assert_eq!(read.endpoint, "localhost:4317");
        assert_eq!(read.sampling_rate_per_million, 100);
        for (rest, why) in [
            (
                "samplingRatePerMillion: -1",
                "sampling rate must be positive",
            ),
            (
                "samplingRatePerMillion: 1000001",
                "less than or equal to one million",
            ),
            ("endpoint: http://x", "unsupported scheme: http."),
            ("rate: 1", "unable to decode"),
        ] {
            let error = TracingConfig::parse(&text(rest)).unwrap_err();
            assert!(error.contains(why), "{rest}: {error}");
        }
    }
}
