//! EncryptionConfiguration files. Upstream: apiserver/pkg/apis/apiserver/{v1,validation}.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};

use super::kms::{self, Kms};
use super::metrics::Metrics;
use super::provider::{Cipher, Provider, Providers};
use super::recovery::Recovery;
use super::{Rules, reload};

/// How long a plug-in may take where nothing is said.
const KMS_TIMEOUT: Duration = Duration::from_secs(3);
const KMS_V1: &str = "KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead.  Set --feature-gates=KMSv1=true to use the deprecated KMSv1 feature.";

/// `apiserver.config.k8s.io/v1` EncryptionConfiguration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EncryptionConfig {
    kind: String,
    api_version: String,
    #[serde(default)]
    resources: Vec<Resources>,
    /// Of the file's text.
    #[serde(skip)]
    pub(super) hash: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<ProviderSpec>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ProviderSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    aesgcm: Option<Keys>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aescbc: Option<Keys>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secretbox: Option<Keys>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Nothing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kms: Option<KmsSpec>,
}

/// A KMS plug-in.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct KmsSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<String>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none", rename = "cachesize")]
    cache_size: Option<i32>,
    endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Vec<KeySpec>,
}

/// A key in a file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySpec {
    name: String,
    secret: String,
}

impl std::fmt::Debug for KeySpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeySpec({})", self.name)
    }
}

/// A new random key of 32 bytes, named after the moment it is made.
pub fn new_key(now: jiff::Timestamp) -> std::io::Result<KeySpec> {
    let mut bytes = [0; 32];
    OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|e| std::io::Error::other(e.to_string()))?;
    Ok(KeySpec {
        name: format!("key-{}", now.as_millisecond()),
        secret: BASE64_STANDARD.encode(bytes),
    })
}

// === EncryptionConfig ===

impl EncryptionConfig {
    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > crate::limits::ENCRYPTION_CONFIG_BYTES {
            return Err("the file is too large".into());
        }
        let mut config: Self = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
        config.hash = reload::hash(text.as_bytes());
        let (metrics, recovery) = <(Arc<Metrics>, Arc<Recovery>)>::default();
        config.rules(&metrics, &recovery).map(|_| config)
    }

    /// Secrets with these keys, the first one for writing; what is plain can be read.
    pub fn of_secrets(keys: Vec<KeySpec>) -> Self {
        Self {
            kind: "EncryptionConfiguration".into(),
            api_version: "apiserver.config.k8s.io/v1".into(),
            hash: String::new(),
            resources: vec![Resources {
                resources: vec!["secrets".into()],
                providers: vec![
                    ProviderSpec {
                        secretbox: Some(Keys { keys }),
                        ..ProviderSpec::default()
                    },
                    ProviderSpec {
                        identity: Some(Nothing {}),
                        ..ProviderSpec::default()
                    },
                ],
            }],
        }
    }

    /// The keys of a file that `of_secrets` made.
    pub fn own_keys(&self) -> Option<&[KeySpec]> {
        let first = self.resources.first()?.providers.first()?;
        Some(&first.secretbox.as_ref()?.keys)
    }

    /// The file's text.
    pub fn text(&self) -> String {
        // YAML is a superset; keys and values are plain texts.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// The providers by resource. Plug-ins are not asked anything yet.
    pub(super) fn rules(
        &self,
        metrics: &Arc<Metrics>,
        recovery: &Arc<Recovery>,
    ) -> Result<Rules, String> {
        let known = ["apiserver.config.k8s.io/v1", "v1"];
        if self.kind != "EncryptionConfiguration" || !known.contains(&&*self.api_version) {
            return Err(format!(
                "got unexpected config type: {}, Kind={}",
                self.api_version, self.kind
            ));
        }
        if self.resources.is_empty() {
            return Err("resources: Required value: at least one resources is required".into());
        }
        let mut names = BTreeSet::new();
        let mut by_resource: BTreeMap<(String, String), Vec<Arc<Provider>>> = BTreeMap::new();
        let mut plugins = Vec::new();
        for (i, entry) in self.resources.iter().enumerate() {
            let at = format!("resources[{i}]");
            entry.check(&at)?;
            let made = entry.made(&at, &mut names, (metrics, recovery))?;
            for provider in &made {
                if let Provider::Kms(kms) = &**provider {
                    plugins.push(kms.clone());
                }
            }
            for name in &entry.resources {
                let (resource, group) = name.split_once('.').unwrap_or((name, ""));
                masked(&by_resource, name, group)?;
                let key = (group.to_string(), resource.to_string());
                let all = by_resource.entry(key).or_default();
                all.extend(made.iter().cloned());
            }
        }
        let mut providers: BTreeMap<String, BTreeMap<String, Arc<Providers>>> = BTreeMap::new();
        for ((group, resource), all) in by_resource {
            let of_group = providers.entry(group).or_default();
            of_group.insert(resource, Arc::new(Providers(all)));
        }
        Ok(Rules { providers, plugins })
    }
}

/// An earlier wildcard must not hide a resource.
fn masked(
    before: &BTreeMap<(String, String), Vec<Arc<Provider>>>,
    name: &str,
    group: &str,
) -> Result<(), String> {
    for by in [(group, "*"), ("*", "*")] {
        if before.contains_key(&(by.0.to_string(), by.1.to_string())) {
            return Err(format!(
                "resource \"{name}\" is masked by earlier rule \"{}.{}\"",
                by.1, by.0
            ));
        }
    }
    Ok(())
}

impl Resources {
    fn check(&self, at: &str) -> Result<(), String> {
        for (what, missing) in [
            ("resources", self.resources.is_empty()),
            ("providers", self.providers.is_empty()),
        ] {
            if missing {
                return Err(format!(
                    "{at}.{what}: Required value: at least one {at}.{what} is required"
                ));
            }
        }
        for (i, name) in self.resources.iter().enumerate() {
            if let Some(why) = problem(name) {
                return Err(format!(
                    "{at}.resources[{i}]: Invalid value: {name:?}: {why}"
                ));
            }
        }
        let overlaps = |a: &str, b: &str| {
            let (ra, ga) = a.split_once('.').unwrap_or((a, ""));
            let (rb, gb) = b.split_once('.').unwrap_or((b, ""));
            a == "*.*" || b == "*.*" || (ga == gb && (ra == "*" || rb == "*"))
        };
        for (i, a) in self.resources.iter().enumerate() {
            for b in &self.resources[i + 1..] {
                let why = match a == b {
                    true => "the same resource cannot be specified multiple times",
                    false if overlaps(a, b) => {
                        "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked"
                    }
                    false => continue,
                };
                let all = &self.resources;
                return Err(format!("{at}.resources: Invalid value: {all:?}: {why}"));
            }
        }
        Ok(())
    }

    fn made(
        &self,
        at: &str,
        names: &mut BTreeSet<String>,
        with: (&Arc<Metrics>, &Arc<Recovery>),
    ) -> Result<Vec<Arc<Provider>>, String> {
        let all = self.providers.iter().enumerate();
        all.map(|(j, p)| {
            let made = p.made(&format!("{at}.providers[{j}]"), names, with);
            made.map(Arc::new)
        })
        .collect()
    }
}

/// What is wrong with a resource's name.
fn problem(name: &str) -> Option<&'static str> {
    let (resource, group) = name.split_once('.').unwrap_or((name, ""));
    let internal = [
        "apiserveripinfo",
        "serviceipallocations",
        "servicenodeportallocations",
    ];
    match () {
        () if name.chars().any(char::is_uppercase) => {
            Some("resource name should not contain capital letters")
        }
        () if name == "*" => Some(
            "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources",
        ),
        () if internal.contains(&name) => {
            Some("resources which do not have REST API/s cannot be encrypted")
        }
        () if group == "events.k8s.io" => Some(
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file",
        ),
        () if group == "extensions" => {
            Some("'extensions' group has been removed and cannot be used for encryption")
        }
        () if group == "*" && resource != "*" => {
            Some("encrypting the same resource across groups is not supported")
        }
        () => None,
    }
}

impl ProviderSpec {
    fn made(
        &self,
        at: &str,
        names: &mut BTreeSet<String>,
        with: (&Arc<Metrics>, &Arc<Recovery>),
    ) -> Result<Provider, String> {
        let ciphers = [
            ("aesgcm", &self.aesgcm, "AES"),
            ("aescbc", &self.aescbc, "AES"),
            ("secretbox", &self.secretbox, "Secretbox"),
        ];
        let given = ciphers.iter().filter(|(_, k, _)| k.is_some()).count();
        let given = given + usize::from(self.identity.is_some()) + usize::from(self.kms.is_some());
        match given {
            1 => {}
            0 => {
                return Err(format!(
                    "{at}: Invalid value: provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity"
                ));
            }
            _ => {
                return Err(format!(
                    "{at}: Invalid value: more than one provider specified in a single element, should split into different list elements"
                ));
            }
        }
        if let Some(kms) = &self.kms {
            return kms.made(&format!("{at}.kms"), names, with);
        }
        let found = ciphers.iter().find_map(|(name, k, family)| {
            let keys = k.as_ref()?;
            Some((*name, keys, *family))
        });
        let Some((name, keys, family)) = found else {
            return Ok(Provider::Identity);
        };
        let at = format!("{at}.{name}.keys");
        if keys.keys.is_empty() {
            return Err(format!(
                "{at}: Required value: at least one keys is required"
            ));
        }
        let one = |(i, k): (usize, &KeySpec)| k.made(name, &format!("{at}[{i}]"));
        Ok(Provider::Keys {
            prefix: format!("k8s:enc:{name}:v1:"),
            keys: keys
                .keys
                .iter()
                .enumerate()
                .map(one)
                .collect::<Result<_, _>>()?,
            unknown: match family {
                "AES" => "no matching key was found for the provided AES transformer",
                _ => "no matching key was found for the provided Secretbox transformer",
            },
        })
    }
}

impl KmsSpec {
    fn timeout(&self) -> Option<Duration> {
        let Some(text) = &self.timeout else {
            return Some(KMS_TIMEOUT);
        };
        let nanos = api::duration::nanoseconds(text).ok()?;
        let nanos = u64::try_from(nanos).ok().filter(|n| *n > 0)?;
        Some(Duration::from_nanos(nanos))
    }

    fn made(
        &self,
        at: &str,
        names: &mut BTreeSet<String>,
        (metrics, recovery): (&Arc<Metrics>, &Arc<Recovery>),
    ) -> Result<Provider, String> {
        let version = self.api_version.as_deref().filter(|v| !v.is_empty());
        let version = version.unwrap_or("v1");
        let invalid = |field: &str, value: &str, why: String| {
            Err(format!("{at}.{field}: Invalid value: {value}: {why}"))
        };
        let name = &self.name;
        if name.is_empty() {
            return Err(format!(
                "{at}.name: Required value: name is a mandatory field for a provider"
            ));
        }
        if version != "v1" && name.contains(':') {
            let why = format!("invalid KMS provider name {name}, must not contain ':'");
            return invalid("name", &format!("{name:?}"), why);
        }
        if !names.insert(name.clone()) {
            let why = format!("duplicate KMS provider name {name}, names must be unique");
            return invalid("name", &format!("{name:?}"), why);
        }
        let Some(timeout) = self.timeout() else {
            let shown = format!("{:?}", self.timeout.as_deref().unwrap_or_default());
            return invalid(
                "timeout",
                &shown,
                "timeout should be a positive value".into(),
            );
        };
        if self.endpoint.is_empty() {
            let why = "endpoint is a mandatory field for a kms".into();
            return invalid("endpoint", "\"\"", why);
        }
        let shown = format!("{:?}", self.endpoint);
        let scheme = self.endpoint.split_once(':').map_or("", |(s, _)| s);
        if scheme != "unix" {
            let why =
                format!("unsupported scheme {scheme:?} for KMS provider, only unix is supported");
            return invalid("endpoint", &shown, why);
        }
        if let Some(size) = self.cache_size.filter(|_| version != "v1") {
            let why = "cachesize is not supported in v2".into();
            return invalid("cachesize", &size.to_string(), why);
        }
        match version {
            "v2" => {}
            "v1" => return Err(KMS_V1.into()),
            _ => {
                let why = "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported";
                return invalid("apiVersion", &format!("{version:?}"), why.into());
            }
        }
        let socket = kms::socket(&self.endpoint)?;
        let kms = Kms::new((name, socket), timeout, metrics, recovery);
        Ok(Provider::Kms(Arc::new(kms)))
    }
}

impl KeySpec {
    fn made(&self, provider: &str, at: &str) -> Result<(String, Cipher), String> {
        for (field, text) in [("name", &self.name), ("secret", &self.secret)] {
            if text.is_empty() {
                return Err(format!(
                    "{at}.{field}: Required value: {field} is a mandatory field for a key"
                ));
            }
        }
        let secret = BASE64_STANDARD.decode(&self.secret);
        let Ok(secret) = secret else {
            return Err(format!(
                "{at}.secret: Invalid value: \"REDACTED\": secrets must be base64 encoded"
            ));
        };
        let lengths = match provider {
            "secretbox" => "[32]",
            _ => "[16 24 32]",
        };
        match Cipher::new(provider, &secret) {
            Some(cipher) => Ok((self.name.clone(), cipher)),
            None => Err(format!(
                "{at}.secret: Invalid value: \"REDACTED\": secret is not of the expected length, got {}, expected one of {lengths}",
                secret.len()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(resources: &str, providers: &str) -> String {
        format!(
            "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n- resources: {resources}\n  providers: {providers}\n"
        )
    }

    #[test]
    fn what_is_wrong_with_a_configuration_is_told() {
        let key = BASE64_STANDARD.encode([1; 32]);
        let good =
            format!("[{{aescbc: {{keys: [{{name: k, secret: {key}}}]}}}}, {{identity: {{}}}}]");
        assert!(EncryptionConfig::parse(&text("[secrets, '*.apps']", &good)).is_ok());
        for (resources, providers, why) in [
            (
                "[]",
                good.as_str(),
                "resources[0].resources: Required value",
            ),
            ("[secrets]", "[]", "resources[0].providers: Required value"),
            ("[Secrets]", &good, "capital letters"),
            ("['*']", &good, "use '*.'"),
            ("[secrets, '*.']", &good, "overlapping"),
            ("[secrets, secrets]", &good, "multiple times"),
            ("[events.events.k8s.io]", &good, "events"),
            ("[secrets]", "[{}]", "does not contain any"),
            (
                "[secrets]",
                "[{identity: {}, kms: {}}]",
                "more than one provider",
            ),
            (
                "[secrets]",
                "[{kms: {name: x, endpoint: 'unix:///x'}}]",
                KMS_V1,
            ),
            (
                "[secrets]",
                "[{kms: {apiVersion: v2, endpoint: 'unix:///x'}}]",
                "kms.name: Required value: name is a mandatory field for a provider",
            ),
            (
                "[secrets]",
                "[{kms: {apiVersion: v2, name: 'a:b', endpoint: 'unix:///x'}}]",
                "kms.name: Invalid value: \"a:b\": invalid KMS provider name a:b, must not contain ':'",
            ),
            (
                "[secrets]",
                "[{kms: {apiVersion: v2, name: a, endpoint: 'unix:///x'}}, {kms: {apiVersion: v2, name: a, endpoint: 'unix:///x'}}]",
                "providers[1].kms.name: Invalid value: \"a\": duplicate KMS provider name a, names must be unique",
            ),
            (
                "[secrets]",
                "[{kms: {apiVersion: v2, name: a, endpoint: 'tcp://x'}}]",
                "kms.endpoint: Invalid value: \"tcp://x\": unsupported scheme \"tcp\" for KMS provider, only unix is supported",
            ),
            (
                "[secrets]",
                "[{kms: {apiVersion: v2, name: a, endpoint: 'unix:///x', timeout: 0s}}]",
                "kms.timeout: Invalid value: \"0s\": timeout should be a positive value",
            ),
            (
                "[secrets]",
                "[{kms: {apiVersion: v2, name: a, endpoint: 'unix:///x', cachesize: 3}}]",
                "kms.cachesize: Invalid value: 3: cachesize is not supported in v2",
            ),
            (
                "[secrets]",
                "[{kms: {apiVersion: v3, name: a, endpoint: 'unix:///x'}}]",
                "kms.apiVersion: Invalid value: \"v3\"",
            ),
            (
                "[secrets]",
                "[{aesgcm: {keys: [{name: k, secret: '?'}]}}]",
                "base64",
            ),
            (
                "[secrets]",
                "[{secretbox: {keys: [{name: k, secret: AAAA}]}}]",
                "got 3, expected one of [32]",
            ),
            ("[secrets]", "[{loud: {}}]", "unknown field"),
        ] {
            let error = EncryptionConfig::parse(&text(resources, providers)).unwrap_err();
            assert!(error.contains(why), "{resources} {providers}: {error}");
        }
    }

    #[test]
    fn own_configurations_can_be_read_again() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let made = EncryptionConfig::of_secrets(vec![new_key(now).unwrap()]);
        let read = EncryptionConfig::parse(&made.text()).unwrap();
        let names: Vec<&str> = read.own_keys().unwrap().iter().map(|k| &*k.name).collect();
        assert_eq!(names, ["key-0"]);
        assert!(!format!("{read:?}").contains(&made.own_keys().unwrap()[0].secret));
    }
}
