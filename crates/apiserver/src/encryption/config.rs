//! EncryptionConfiguration files. Upstream: apiserver/pkg/apis/apiserver/{v1,validation}.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};

use super::Rules;
use super::provider::{Cipher, Provider, Providers};

/// `apiserver.config.k8s.io/v1` EncryptionConfiguration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EncryptionConfig {
    kind: String,
    api_version: String,
    #[serde(default)]
    resources: Vec<Resources>,
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
    kms: Option<serde_json::Value>,
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
        let config: Self = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
        config.rules().map(|_| config)
    }

    /// Secrets with these keys, the first one for writing; what is plain can be read.
    pub fn of_secrets(keys: Vec<KeySpec>) -> Self {
        Self {
            kind: "EncryptionConfiguration".into(),
            api_version: "apiserver.config.k8s.io/v1".into(),
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

    /// The providers by resource.
    pub(super) fn rules(&self) -> Result<Rules, String> {
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
        let mut by_resource: BTreeMap<(String, String), Vec<Provider>> = BTreeMap::new();
        for (i, entry) in self.resources.iter().enumerate() {
            let at = format!("resources[{i}]");
            entry.check(&at)?;
            for name in &entry.resources {
                let (resource, group) = name.split_once('.').unwrap_or((name, ""));
                masked(&by_resource, name, (group, resource))?;
                let key = (group.to_string(), resource.to_string());
                by_resource.entry(key).or_default().extend(entry.made(&at)?);
            }
        }
        let all = by_resource.into_iter();
        Ok(Rules(
            all.map(|(k, v)| (k, Arc::new(Providers(v)))).collect(),
        ))
    }
}

/// An earlier wildcard must not hide a resource.
fn masked(
    before: &BTreeMap<(String, String), Vec<Provider>>,
    name: &str,
    (group, resource): (&str, &str),
) -> Result<(), String> {
    for (by, hidden) in [
        ((group, "*"), resource != "*"),
        (("*", "*"), (group, resource) != ("*", "*")),
    ] {
        if hidden && before.contains_key(&(by.0.to_string(), by.1.to_string())) {
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

    fn made(&self, at: &str) -> Result<Vec<Provider>, String> {
        let all = self.providers.iter().enumerate();
        all.map(|(j, p)| p.made(&format!("{at}.providers[{j}]")))
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
    fn made(&self, at: &str) -> Result<Provider, String> {
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
        if self.kms.is_some() {
            return Err(format!("{at}.kms: KMS plugins are not supported yet"));
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
            ("[secrets]", "[{kms: {name: x}}]", "not supported yet"),
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
