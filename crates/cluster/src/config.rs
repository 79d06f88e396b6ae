//! `ClusterConfig` of k0s (`k0s.k0sproject.io/v1beta1`): strict parsing, defaults, validation.
//! The shape stands once, in `schema`; this file holds the typed view that the parts read.

mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api_args::ApiArgs;

pub use schema::Problem;

/// The whole configuration; unknown sections cannot exist because `parse` refused them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterConfig {
    pub spec: Spec,
}

/// `spec`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    pub api: Api,
    pub storage: Storage,
    pub network: Network,
    pub images: Images,
    pub telemetry: Telemetry,
    #[serde(rename = "workerProfiles")]
    pub worker_profiles: Vec<WorkerProfile>,
}

/// One of `spec.workerProfiles`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerProfile {
    pub name: String,
    /// A fragment of KubeletConfiguration.
    pub values: serde_json::Map<String, Value>,
}

/// `spec.api`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Api {
    pub address: String,
    pub only_bind_to_address: bool,
    pub external_address: String,
    pub sans: Vec<String>,
    pub port: u16,
    pub k0s_api_port: u16,
    pub ca: Ca,
    /// Flags of kube-apiserver.
    pub extra_args: BTreeMap<String, String>,
}

/// Lifetimes of certificates, as Go durations.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ca {
    pub expires_after: String,
    pub certificates_expire_after: String,
}

/// `spec.storage`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Storage {
    /// `etcd` or `kine`; empty means the default of the role.
    #[serde(rename = "type")]
    pub kind: String,
    pub etcd: Option<Etcd>,
    pub kine: Option<Kine>,
}

/// `spec.storage.etcd`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Etcd {
    pub peer_address: String,
    pub external_cluster: Option<ExternalEtcd>,
}

/// `spec.storage.etcd.externalCluster`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExternalEtcd {
    pub endpoints: Vec<String>,
    pub etcd_prefix: String,
    pub ca_file: String,
    pub client_cert_file: String,
    pub client_key_file: String,
}

/// `spec.storage.kine`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Kine {
    pub data_source: String,
    /// kine's flags without their dashes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_args: BTreeMap<String, String>,
}

/// `spec.network`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Network {
    pub provider: String,
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    #[serde(rename = "serviceCIDR")]
    pub service_cidr: String,
    pub cluster_domain: String,
    pub kuberouter: Option<KubeRouter>,
    pub kube_proxy: KubeProxy,
}

/// `spec.network.kuberouter`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KubeRouter {
    #[serde(rename = "autoMTU")]
    pub auto_mtu: bool,
    pub mtu: u32,
}

/// `spec.network.kubeProxy`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KubeProxy {
    pub disabled: bool,
    pub node_port_addresses: Vec<String>,
}

/// `spec.images`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Images {
    pub repository: String,
    pub default_pull_policy: String,
}

/// `spec.telemetry`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Telemetry {
    pub enabled: bool,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the configuration is not YAML: {0}")]
    Yaml(String),
    #[error(
        "the configuration is larger than {} bytes",
        crate::limits::CONFIG_BYTES
    )]
    TooLarge,
    #[error("{}", problems(.0))]
    Invalid(Vec<Problem>),
}

fn problems(list: &[Problem]) -> String {
    list.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

// === ClusterConfig ===

impl ClusterConfig {
    /// Parses a k0s.yaml. An empty text gives the defaults. Every problem is reported, each with its path.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.len() > crate::limits::CONFIG_BYTES {
            return Err(ConfigError::TooLarge);
        }
        let value: Value = if text.trim().is_empty() {
            json!({})
        } else {
            serde_saphyr::from_str(text).map_err(|e| ConfigError::Yaml(e.to_string()))?
        };
        let value = if value.is_null() { json!({}) } else { value };
        let mut found = schema::check(&value);
        if !found.is_empty() {
            return Err(ConfigError::Invalid(found));
        }
        let spec = match value.get("spec") {
            None | Some(Value::Null) => Spec::default(),
            Some(spec) => serde_json::from_value(without_nulls(spec.clone()))
                .map_err(|e| ConfigError::Invalid(vec![Problem::new("spec", e.to_string())]))?,
        };
        let config = Self { spec };
        config.validate(&mut found);
        if found.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Invalid(found))
        }
    }

    /// The default configuration as `k0s config create` prints it, with this host's addresses.
    pub fn default_yaml(address: &str, sans: &[String], include_images: bool) -> String {
        schema::default_yaml(address, sans, include_images)
    }

    fn validate(&self, found: &mut Vec<Problem>) {
        for (flag, why) in ApiArgs(&self.spec.api.extra_args).problems() {
            found.push(Problem::new(&format!("spec.api.extraArgs.{flag}"), why));
        }
        let network = &self.spec.network;
        for (path, text) in [
            ("spec.network.podCIDR", &network.pod_cidr),
            ("spec.network.serviceCIDR", &network.service_cidr),
        ] {
            if let Err(why) = parse_cidr(text) {
                found.push(Problem::new(
                    path,
                    format!("invalid value: {text:?}: {why}"),
                ));
            }
        }
        found.extend(crate::worker_profile::problems(&self.spec.worker_profiles));
        let api = &self.spec.api;
        for (path, text) in [
            ("spec.api.address", &api.address),
            ("spec.storage.etcd.peerAddress", self.peer()),
        ] {
            if !text.is_empty() && text.parse::<IpAddr>().is_err() {
                found.push(Problem::new(
                    path,
                    format!("invalid value: {text:?}: invalid IP address"),
                ));
            }
        }
        if let Some(external) = self.external_etcd() {
            if external.endpoints.is_empty() {
                found.push(Problem::required(
                    "spec.storage.etcd.externalCluster.endpoints",
                ));
            }
            if external.etcd_prefix.is_empty() {
                found.push(Problem::required(
                    "spec.storage.etcd.externalCluster.etcdPrefix",
                ));
            }
            let files = [
                &external.ca_file,
                &external.client_cert_file,
                &external.client_key_file,
            ];
            let given = files.iter().filter(|f| !f.is_empty()).count();
            if given != 0 && given != files.len() {
                found.push(Problem::new(
                    "spec.storage.etcd.externalCluster",
                    "caFile, clientCertFile and clientKeyFile must be given together",
                ));
            }
        }
    }

    fn peer(&self) -> &String {
        static NONE: String = String::new();
        self.spec
            .storage
            .etcd
            .as_ref()
            .map(|e| &e.peer_address)
            .unwrap_or(&NONE)
    }

    /// The external etcd, where one is configured.
    pub fn external_etcd(&self) -> Option<&ExternalEtcd> {
        self.spec.storage.etcd.as_ref()?.external_cluster.as_ref()
    }

    /// The service network as (address, prefix length).
    pub fn service_cidr(&self) -> (Ipv4Addr, u8) {
        parse_cidr(&self.spec.network.service_cidr).expect("validated by parse")
    }

    /// The pod network as (address, prefix length).
    pub fn pod_cidr(&self) -> (Ipv4Addr, u8) {
        parse_cidr(&self.spec.network.pod_cidr).expect("validated by parse")
    }

    /// Address of Service `kubernetes`: the first of the service network.
    pub fn api_service_ip(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.service_cidr().0) + 1)
    }

    /// Address of cluster DNS: the tenth of the service network, the second in a tiny one.
    pub fn dns_ip(&self) -> Ipv4Addr {
        let (base, prefix) = self.service_cidr();
        let offset = if prefix > 28 { 2 } else { 10 };
        Ipv4Addr::from(u32::from(base) + offset)
    }
}

impl Default for Api {
    fn default() -> Self {
        Self {
            address: String::new(),
            only_bind_to_address: false,
            external_address: String::new(),
            sans: Vec::new(),
            port: 6443,
            k0s_api_port: 9443,
            ca: Ca::default(),
            extra_args: BTreeMap::new(),
        }
    }
}

impl Default for Ca {
    fn default() -> Self {
        Self {
            expires_after: "87600h0m0s".into(),
            certificates_expire_after: "8760h0m0s".into(),
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self {
            provider: "kuberouter".into(),
            pod_cidr: "10.244.0.0/16".into(),
            service_cidr: "10.96.0.0/12".into(),
            cluster_domain: "cluster.local".into(),
            kuberouter: None,
            kube_proxy: KubeProxy::default(),
        }
    }
}

impl Default for KubeRouter {
    fn default() -> Self {
        Self {
            auto_mtu: true,
            mtu: 0,
        }
    }
}

/// Parses an IPv4 network; the address is masked.
pub fn parse_cidr(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let (address, prefix) = text.split_once('/').ok_or("invalid CIDR address")?;
    if address.contains(':') {
        return Err("IPv6 networks are not supported yet".into());
    }
    let address: Ipv4Addr = address.parse().map_err(|_| "invalid CIDR address")?;
    let prefix: u8 = prefix.parse().map_err(|_| "invalid CIDR address")?;
    if !(1..=30).contains(&prefix) {
        return Err("the prefix length must be between 1 and 30".into());
    }
    let mask = u32::MAX << (32 - u32::from(prefix));
    Ok((Ipv4Addr::from(u32::from(address) & mask), prefix))
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k, without_nulls(v)))
                .collect(),
        ),
        other => other,
    }
}
