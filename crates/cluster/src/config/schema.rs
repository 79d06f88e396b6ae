//! The whole schema of ClusterConfig as a table: every field, its type, its default where
//! `config create` prints one, and whether it takes effect already.
//! Source of the facts: k0s documentation and CRD of 1.36 and main.

use serde_json::Value;

use Kind::{Any, Bool, Enum, Int, List, Map, Object, Text};
use State::{Later, Legacy, Works};

/// One thing wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub path: String,
    pub text: String,
}

enum Kind {
    Bool,
    Int(i64, i64),
    Text,
    Enum(&'static [&'static str]),
    List(&'static Kind),
    /// Free keys, text values.
    Map,
    /// Any value at all.
    Any,
    Object(&'static [Field]),
}

/// Whether a field takes effect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Works,
    /// Known, but giving it anything other than its default is an error that says so.
    Later(&'static str),
    /// Tolerated and without effect, as in k0s itself.
    Legacy,
}

struct Field {
    name: &'static str,
    kind: Kind,
    state: State,
}

const fn f(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        state: Works,
    }
}

/// A field that exists but has no effect yet; `default` is the value (as text) that changes nothing.
const fn later(name: &'static str, kind: Kind, default: &'static str) -> Field {
    Field {
        name,
        kind,
        state: Later(default),
    }
}

const fn legacy(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        state: Legacy,
    }
}

const PORT: Kind = Int(1, 65535);
const ANY_INT: Kind = Int(i64::MIN, i64::MAX);
const TEXTS: Kind = List(&Text);
const PATCHES: Kind = List(&Any);

const ROOT: &[Field] = &[
    f("apiVersion", Enum(&["k0s.k0sproject.io/v1beta1"])),
    f("kind", Enum(&["ClusterConfig"])),
    f("metadata", Any),
    f("spec", Object(SPEC)),
    legacy("status", Any),
];

const SPEC: &[Field] = &[
    f("api", Object(API)),
    f("storage", Object(STORAGE)),
    f("network", Object(NETWORK)),
    later("controllerManager", Object(ARGS), ""),
    later("scheduler", Object(ARGS), ""),
    f("workerProfiles", List(&Object(PROFILE))),
    later("featureGates", List(&Object(GATE)), ""),
    f("images", Object(IMAGES)),
    f("extensions", Object(EXTENSIONS)),
    f("installConfig", Object(INSTALL)),
    f("konnectivity", Object(KONNECTIVITY)),
    f("telemetry", Object(&[later("enabled", Bool, "false")])),
    f("metricsServer", Object(&[later("patches", PATCHES, "")])),
    legacy("interval", Any),
    legacy("podSecurityPolicy", Any),
];

const API: &[Field] = &[
    f("address", Text),
    f("onlyBindToAddress", Bool),
    f("externalAddress", Text),
    f("sans", TEXTS),
    f("port", PORT),
    f("k0sApiPort", PORT),
    f("ca", Object(CA)),
    f("extraArgs", Map),
    later("rawArgs", TEXTS, ""),
];

const CA: &[Field] = &[
    later("expiresAfter", Text, "87600h0m0s"),
    later("certificatesExpireAfter", Text, "8760h0m0s"),
];

const STORAGE: &[Field] = &[
    f("type", Enum(&["etcd", "kine"])),
    f("etcd", Object(ETCD)),
    f(
        "kine",
        Object(&[
            f("dataSource", Text),
            f("extraArgs", Map),
            later("rawArgs", TEXTS, ""),
        ]),
    ),
];

const ETCD: &[Field] = &[
    f("peerAddress", Text),
    later("extraArgs", Map, ""),
    later("rawArgs", TEXTS, ""),
    f("ca", Object(CA)),
    f(
        "externalCluster",
        Object(&[
            f("endpoints", TEXTS),
            f("etcdPrefix", Text),
            f("caFile", Text),
            f("clientCertFile", Text),
            f("clientKeyFile", Text),
        ]),
    ),
];

const NETWORK: &[Field] = &[
    later(
        "provider",
        Enum(&["kuberouter", "calico", "custom"]),
        "kuberouter",
    ),
    f("podCIDR", Text),
    f("serviceCIDR", Text),
    f("clusterDomain", Text),
    later("primaryAddressFamily", Enum(&["", "IPv4", "IPv6"]), "IPv4"),
    f(
        "dualStack",
        Object(&[
            later("enabled", Bool, "false"),
            later("IPv6podCIDR", Text, ""),
            later("IPv6serviceCIDR", Text, ""),
        ]),
    ),
    f("coreDNS", Object(&[later("patches", PATCHES, "")])),
    f("kuberouter", Object(KUBEROUTER)),
    later("calico", Object(CALICO), ""),
    f("kubeProxy", Object(KUBE_PROXY)),
    f("nodeLocalLoadBalancing", Object(NLLB)),
    f("controlPlaneLoadBalancing", Object(CPLB)),
];

const KUBEROUTER: &[Field] = &[
    f("autoMTU", Bool),
    f("mtu", Int(0, 65535)),
    later("metricsPort", Int(0, 65535), "8080"),
    later(
        "hairpin",
        Enum(&["Enabled", "Allowed", "Disabled"]),
        "Enabled",
    ),
    legacy("hairpinMode", Bool),
    later("ipMasq", Bool, "false"),
    legacy("peerRouterIPs", Text),
    legacy("peerRouterASNs", Text),
    later("extraArgs", Map, ""),
    later("rawArgs", TEXTS, ""),
    later("patches", PATCHES, ""),
];

const CALICO: &[Field] = &[
    f("mode", Enum(&["vxlan", "bird", "ipip"])),
    f("overlay", Enum(&["Always", "CrossSubnet", "Never"])),
    f("vxlanPort", PORT),
    f("vxlanVNI", ANY_INT),
    f("mtu", ANY_INT),
    f("wireguard", Bool),
    f("flexVolumeDriverPath", Text),
    f("ipAutodetectionMethod", Text),
    f("ipV6AutodetectionMethod", Text),
    f("envVars", Map),
    f("patches", PATCHES),
];

const KUBE_PROXY: &[Field] = &[
    f("disabled", Bool),
    // One proxy, on nftables, serves every mode: the name only chose an implementation.
    f("mode", Enum(&["iptables", "ipvs", "nftables", "userspace"])),
    later("iptables", Object(PROXY_IPTABLES), ""),
    later("ipvs", Object(PROXY_IPVS), ""),
    later("nftables", Object(PROXY_NFTABLES), ""),
    f("nodePortAddresses", TEXTS),
    later("healthzBindAddress", Text, "0.0.0.0:10256"),
    later("metricsBindAddress", Text, "0.0.0.0:10249"),
    later("extraArgs", Map, ""),
    later("rawArgs", TEXTS, ""),
    later("patches", PATCHES, ""),
];

const PROXY_IPTABLES: &[Field] = &[
    f("masqueradeAll", Bool),
    f("masqueradeBit", Int(0, 31)),
    f("localhostNodePorts", Bool),
    f("minSyncPeriod", Text),
    f("syncPeriod", Text),
];

const PROXY_IPVS: &[Field] = &[
    f("excludeCIDRs", TEXTS),
    f("scheduler", Text),
    f("strictARP", Bool),
    f("minSyncPeriod", Text),
    f("syncPeriod", Text),
    f("tcpTimeout", Text),
    f("tcpFinTimeout", Text),
    f("udpTimeout", Text),
];

const PROXY_NFTABLES: &[Field] = &[
    f("masqueradeAll", Bool),
    f("masqueradeBit", Int(0, 31)),
    f("minSyncPeriod", Text),
    f("syncPeriod", Text),
];

const IMAGE: &[Field] = &[f("image", Text), f("version", Text)];

const NLLB_PROXY: &[Field] = &[
    f("image", Object(IMAGE)),
    f("imagePullPolicy", Text),
    f("apiServerBindPort", PORT),
    f("konnectivityServerBindPort", PORT),
];

const NLLB: &[Field] = &[
    later("enabled", Bool, "false"),
    f("type", Enum(&["EnvoyProxy", "Traefik"])),
    f("envoyProxy", Object(NLLB_PROXY)),
    f("traefik", Object(NLLB_PROXY)),
];

const CPLB: &[Field] = &[
    later("enabled", Bool, "false"),
    f("type", Enum(&["Keepalived"])),
    f("keepalived", Object(KEEPALIVED)),
];

const KEEPALIVED: &[Field] = &[
    f("vrrpInstances", List(&Object(VRRP))),
    f("virtualServers", List(&Object(VIRTUAL_SERVER))),
    f("userSpaceProxyBindPort", PORT),
    f("disableLoadBalancer", Bool),
    f("configTemplateVRRP", Text),
    f("configTemplateVS", Text),
];

const VRRP: &[Field] = &[
    f("virtualIPs", TEXTS),
    f("interface", Text),
    f("virtualRouterID", Int(1, 255)),
    f("advertIntervalSeconds", ANY_INT),
    f("authPass", Text),
    f("unicastSourceIP", Text),
    f("unicastPeers", TEXTS),
    f("addressLabel", ANY_INT),
];

const VIRTUAL_SERVER: &[Field] = &[
    f("ipAddress", Text),
    f("delayLoop", Text),
    f(
        "lbAlgo",
        Enum(&["rr", "wrr", "lc", "wlc", "lblc", "dh", "sh", "sed", "nq"]),
    ),
    f("lbKind", Enum(&["DR", "NAT", "TUN"])),
    f("persistenceTimeoutSeconds", Int(1, 2_678_400)),
];

const ARGS: &[Field] = &[f("extraArgs", Map), f("rawArgs", TEXTS)];
const PROFILE: &[Field] = &[f("name", Text), f("values", Any)];
const GATE: &[Field] = &[f("name", Text), f("enabled", Bool), f("components", TEXTS)];

const IMAGES: &[Field] = &[
    later("repository", Text, ""),
    later(
        "default_pull_policy",
        Enum(&["Always", "IfNotPresent", "Never"]),
        "IfNotPresent",
    ),
    f("konnectivity", Object(IMAGE)),
    f("metricsserver", Object(IMAGE)),
    f("kubeproxy", Object(IMAGE)),
    f("coredns", Object(IMAGE)),
    f("pause", Object(IMAGE)),
    f("pushgateway", Object(IMAGE)),
    f(
        "calico",
        Object(&[
            f("cni", Object(IMAGE)),
            f("node", Object(IMAGE)),
            f("kubecontrollers", Object(IMAGE)),
            f(
                "windows",
                Object(&[f("cni", Object(IMAGE)), f("node", Object(IMAGE))]),
            ),
        ]),
    ),
    f(
        "kuberouter",
        Object(&[f("cni", Object(IMAGE)), f("cniInstaller", Object(IMAGE))]),
    ),
    f(
        "windows",
        Object(&[f("kubeproxy", Object(IMAGE)), f("pause", Object(IMAGE))]),
    ),
];

const EXTENSIONS: &[Field] = &[
    f("helm", Object(HELM)),
    legacy(
        "storage",
        Object(&[f("type", Text), f("create_default_storage_class", Bool)]),
    ),
];

const HELM: &[Field] = &[
    f("concurrencyLevel", Int(1, 1000)),
    later("repositories", List(&Object(REPOSITORY)), ""),
    later("charts", List(&Object(CHART)), ""),
];

const REPOSITORY: &[Field] = &[
    f("name", Text),
    f("url", Text),
    f("insecure", Bool),
    f("caFile", Text),
    f("certFile", Text),
    f("keyfile", Text),
    f("username", Text),
    f("password", Text),
];

const CHART: &[Field] = &[
    f("name", Text),
    f("chartname", Text),
    f("version", Text),
    f("values", Text),
    f("namespace", Text),
    f("timeout", Any),
    f("order", ANY_INT),
    f("forceUpgrade", Bool),
];

const INSTALL: &[Field] = &[f(
    "users",
    // Nothing runs under another user: it is one process, so the names have no effect.
    Object(&[
        legacy("etcdUser", Text),
        legacy("kineUser", Text),
        legacy("konnectivityUser", Text),
        legacy("kubeAPIserverUser", Text),
        legacy("kubeSchedulerUser", Text),
    ]),
)];

const KONNECTIVITY: &[Field] = &[
    later("agentPort", PORT, "8132"),
    later("adminPort", PORT, "8133"),
    later("externalAddress", Text, ""),
];

// === Problem ===

impl Problem {
    /// A problem at a path.
    pub fn new(path: &str, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }

    /// A missing field.
    pub fn required(path: &str) -> Self {
        Self::new(path, "required value")
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path.as_str() {
            "" => write!(out, "the configuration: {}", self.text),
            path => write!(out, "{path}: {}", self.text),
        }
    }
}

/// Everything that does not fit the schema, with paths.
pub fn check(value: &Value) -> Vec<Problem> {
    let mut found = Vec::new();
    walk(&Object(ROOT), value, "", &mut found);
    found
}

fn walk(kind: &Kind, value: &Value, path: &str, found: &mut Vec<Problem>) {
    if value.is_null() {
        return;
    }
    let mut wrong = |what: &str| {
        found.push(Problem::new(
            path,
            format!("invalid value: {value}: must be {what}"),
        ));
    };
    match kind {
        Any => {}
        Bool if value.is_boolean() => {}
        Bool => wrong("true or false"),
        Text if value.is_string() => {}
        Text => wrong("a text"),
        Int(low, high) => match value.as_i64() {
            Some(n) if (*low..=*high).contains(&n) => {}
            _ if *low == i64::MIN => wrong("a whole number"),
            _ => wrong(&format!("a whole number from {low} to {high}")),
        },
        Enum(names) => match value.as_str() {
            Some(text) if names.contains(&text) => {}
            _ => wrong(&format!("one of {}", quoted(names))),
        },
        Map => match value.as_object() {
            Some(map) if map.values().all(|v| !v.is_object() && !v.is_array()) => {}
            _ => wrong("a map of texts"),
        },
        List(item) => match value.as_array() {
            Some(list) => {
                for (i, v) in list.iter().enumerate() {
                    walk(item, v, &format!("{path}[{i}]"), found);
                }
            }
            None => wrong("a list"),
        },
        Object(fields) => match value.as_object() {
            Some(map) => {
                for (key, v) in map {
                    let below = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    match fields.iter().find(|f| f.name == key) {
                        Some(field) => walk_field(field, v, &below, found),
                        None => found.push(Problem::new(&below, "unknown field")),
                    }
                }
            }
            None => wrong("an object"),
        },
    }
}

fn walk_field(field: &Field, value: &Value, path: &str, found: &mut Vec<Problem>) {
    let before = found.len();
    walk(&field.kind, value, path, found);
    if found.len() > before {
        return;
    }
    if let Later(default) = field.state
        && !changes_nothing(value, default)
    {
        found.push(Problem::new(
            path,
            "is a known field that is not supported yet",
        ));
    }
}

/// Whether a value of a field without effect asks for nothing: empty, or its default.
fn changes_nothing(value: &Value, default: &str) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => b.to_string() == default || (default.is_empty() && !b),
        Value::Number(n) => n.to_string() == default,
        Value::String(s) => s.is_empty() || s == default,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(|v| changes_nothing(v, "")),
    }
}

fn quoted(names: &[&str]) -> String {
    names
        .iter()
        .map(|n| format!("{n:?}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// What `k0s config create` prints.
pub fn default_yaml(address: &str, sans: &[String], include_images: bool) -> String {
    let list: String = sans.iter().map(|s| format!("    - {s}\n")).collect();
    let mut text = format!(
        "apiVersion: k0s.k0sproject.io/v1beta1
kind: ClusterConfig
metadata:
  name: k0s
  namespace: kube-system
spec:
  api:
    address: {address}
    ca:
      certificatesExpireAfter: 8760h0m0s
      expiresAfter: 87600h0m0s
    k0sApiPort: 9443
    port: 6443
    sans:
{list}  controllerManager: {{}}
  extensions:
    helm:
      concurrencyLevel: 5
"
    );
    if include_images {
        text.push_str("  images:\n    default_pull_policy: IfNotPresent\n");
    }
    text.push_str(&format!(
        "  installConfig:
    users:
      etcdUser: etcd
      kineUser: kube-apiserver
      konnectivityUser: konnectivity-server
      kubeAPIserverUser: kube-apiserver
      kubeSchedulerUser: kube-scheduler
  konnectivity:
    adminPort: 8133
    agentPort: 8132
  network:
    clusterDomain: cluster.local
    controlPlaneLoadBalancing:
      enabled: false
    dualStack:
      enabled: false
    kubeProxy:
      mode: iptables
    kuberouter:
      autoMTU: true
      hairpin: Enabled
      metricsPort: 8080
    nodeLocalLoadBalancing:
      enabled: false
      type: EnvoyProxy
    podCIDR: 10.244.0.0/16
    primaryAddressFamily: IPv4
    provider: kuberouter
    serviceCIDR: 10.96.0.0/12
  scheduler: {{}}
  storage:
    etcd:
      ca:
        certificatesExpireAfter: 8760h0m0s
        expiresAfter: 87600h0m0s
      peerAddress: {address}
    type: etcd
  telemetry:
    enabled: false
"
    ));
    text
}
