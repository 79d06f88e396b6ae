//! Host names, /etc/hosts and DNS of a pod. Upstream: pkg/kubelet kubelet_pods.go, network/dns.

use std::net::IpAddr;

use api::core::v1::{HostAlias, Pod};
use cri::DnsConfig;

use crate::limits;
use crate::pod;

/// Host name and domain of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub hostname: String,
    /// `""` where the pod has no subdomain.
    pub domain: String,
}

/// What the pod calls itself.
pub fn names(p: &Pod, cluster_domain: &str) -> Names {
    let spec = pod::spec(p);
    let given = |s: &Option<String>| s.clone().filter(|s| !s.is_empty());
    if let Some(hostname) = given(&spec.hostname_override) {
        return Names {
            hostname,
            domain: String::new(),
        };
    }
    let full = given(&spec.hostname).unwrap_or_else(|| pod::name(p).to_string());
    let cut: String = full.chars().take(63).collect();
    let hostname = cut.trim_end_matches(['-', '.']).to_string();
    let domain = given(&spec.subdomain)
        .map(|s| format!("{s}.{}.svc.{cluster_domain}", pod::namespace(p)))
        .unwrap_or_default();
    Names { hostname, domain }
}

/// The kernel's host name inside the pod.
pub fn kernel_hostname(p: &Pod, names: &Names, node: &str) -> Result<String, String> {
    if pod::is_host_network(p) {
        return Ok(node.to_string());
    }
    if pod::spec(p).set_hostname_as_fqdn != Some(true) || names.domain.is_empty() {
        return Ok(names.hostname.clone());
    }
    let fqdn = format!("{}.{}", names.hostname, names.domain);
    if fqdn.len() > 64 {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long (64 characters is the max, {} characters requested)",
            fqdn.len()
        ));
    }
    Ok(fqdn)
}

/// Content of the pod's /etc/hosts. `node_hosts` is the node's own file, for pods in its network.
pub fn hosts_file(p: &Pod, names: &Names, pod_ips: &[String], node_hosts: Option<&str>) -> String {
    let mut out = String::new();
    match node_hosts {
        Some(content) => {
            out.push_str("# Kubernetes-managed hosts file (host network).\n");
            out.push_str(content);
        }
        None => {
            out.push_str(
                "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                 fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
            );
            for ip in pod_ips {
                let host = &names.hostname;
                if names.domain.is_empty() {
                    out.push_str(&format!("{ip}\t{host}\n"));
                } else {
                    out.push_str(&format!("{ip}\t{host}.{}\t{host}\n", names.domain));
                }
            }
        }
    }
    aliases(
        &mut out,
        pod::spec(p).host_aliases.as_deref().unwrap_or_default(),
    );
    out
}

fn aliases(out: &mut String, aliases: &[HostAlias]) {
    if aliases.is_empty() {
        return;
    }
    out.push_str("\n# Entries added by HostAliases.\n");
    for a in aliases {
        let names = a.hostnames.as_deref().unwrap_or_default().join("\t");
        out.push_str(&format!("{}\t{names}\n", a.ip));
    }
}

/// The node's resolv.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// Reads a resolv.conf: the last search and options lines win.
pub fn parse_resolv_conf(text: &str) -> ResolvConf {
    let mut out = ResolvConf::default();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with('#') || line.starts_with(';') {
            continue;
        }
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => out.servers.extend(words.next().map(str::to_string)),
            Some("search") => {
                out.searches = words
                    .map(|s| s.trim_end_matches('.').to_string())
                    .filter(|s| !s.is_empty())
                    .collect();
            }
            Some("options") => out.options = words.map(str::to_string).collect(),
            _ => {}
        }
    }
    out
}

/// What the cluster's DNS is.
#[derive(Clone, Copy, Debug)]
pub struct ClusterDns<'a> {
    pub servers: &'a [IpAddr],
    pub domain: &'a str,
}

/// A warning event: reason and message.
pub type Warning = (&'static str, String);

/// DNS of a pod and the warnings about it.
pub fn dns(p: &Pod, cluster: ClusterDns<'_>, node: &ResolvConf) -> (DnsConfig, Vec<Warning>) {
    let spec = pod::spec(p);
    let mut warnings = Vec::new();
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let mut in_cluster = match policy {
        "ClusterFirst" => !pod::is_host_network(p),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    if in_cluster && cluster.servers.is_empty() {
        in_cluster = false;
        warnings.push((
            "MissingClusterDNS",
            format!(
                "pod: {:?}. kubelet does not have ClusterDNS IP configured and cannot create Pod using {policy:?} policy. Falling back to \"Default\" policy.",
                pod::format(p)
            ),
        ));
    }
    let mut config = match policy {
        "None" => DnsConfig::default(),
        _ if in_cluster => cluster_first(p, cluster, node),
        _ => DnsConfig {
            servers: node.servers.clone(),
            searches: node.searches.clone(),
            options: node.options.clone(),
        },
    };
    if let Some(own) = &spec.dns_config {
        extend(&mut config.servers, own.nameservers.iter().flatten());
        extend(&mut config.searches, own.searches.iter().flatten());
        merge_options(
            &mut config.options,
            own.options.as_deref().unwrap_or_default(),
        );
    }
    limit(&mut config, &mut warnings);
    (config, warnings)
}

fn cluster_first(p: &Pod, cluster: ClusterDns<'_>, node: &ResolvConf) -> DnsConfig {
    let domain = cluster.domain;
    let mut searches = vec![
        format!("{}.svc.{domain}", pod::namespace(p)),
        format!("svc.{domain}"),
        domain.to_string(),
    ];
    extend(&mut searches, node.searches.iter());
    DnsConfig {
        servers: cluster.servers.iter().map(IpAddr::to_string).collect(),
        searches,
        options: vec!["ndots:5".into()],
    }
}

fn extend<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for s in more {
        if !list.contains(s) {
            list.push(s.clone());
        }
    }
}

fn merge_options(options: &mut Vec<String>, own: &[api::core::v1::PodDNSConfigOption]) {
    for o in own {
        let name = o.name.as_deref().unwrap_or_default();
        options.retain(|old| old.split(':').next() != Some(name));
        options.push(match o.value.as_deref() {
            Some(value) if !value.is_empty() => format!("{name}:{value}"),
            _ => name.to_string(),
        });
    }
}

fn limit(config: &mut DnsConfig, warnings: &mut Vec<Warning>) {
    if config.servers.len() > limits::DNS_NAMESERVERS {
        config.servers.truncate(limits::DNS_NAMESERVERS);
        warnings.push((
            "DNSConfigForming",
            format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
                config.servers.join(" ")
            ),
        ));
    }
    let before = config.searches.len();
    config.searches.retain(|s| s.len() <= 253);
    config.searches.truncate(limits::DNS_SEARCH_PATHS);
    while config.searches.join(" ").len() > limits::DNS_SEARCH_CHARS {
        config.searches.pop();
    }
    if config.searches.len() < before {
        warnings.push((
            "DNSConfigForming",
            format!(
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
                config.searches.join(" ")
            ),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod_of(spec: serde_json::Value) -> Pod {
        serde_json::from_value(
            json!({"metadata":{"name":"p","namespace":"n","uid":"u"},"spec":spec}),
        )
        .unwrap()
    }

    #[test]
    fn hosts_of_a_pod_with_subdomain_and_aliases() {
        let p = pod_of(json!({"containers":[],"hostname":"h","subdomain":"sub",
            "hostAliases":[{"ip":"123.45.67.89","hostnames":["foo","bar"]}]}));
        let text = hosts_file(&p, &names(&p, "cluster.local"), &["10.0.0.2".into()], None);
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(text.contains("10.0.0.2\th.sub.n.svc.cluster.local\th\n"));
        assert!(text.ends_with("\n\n# Entries added by HostAliases.\n123.45.67.89\tfoo\tbar\n"));
        let node = hosts_file(&p, &names(&p, "c"), &[], Some("127.0.0.1 x\n"));
        assert!(node.starts_with("# Kubernetes-managed hosts file (host network).\n127.0.0.1 x\n"));
    }

    #[test]
    fn policies() {
        let node =
            parse_resolv_conf("nameserver 8.8.8.8\nsearch example.com.\noptions timeout:1\n");
        let servers = [IpAddr::from([10, 96, 0, 10])];
        let cluster = ClusterDns {
            servers: &servers,
            domain: "cluster.local",
        };
        let (d, w) = dns(&pod_of(json!({"containers":[]})), cluster, &node);
        assert!(w.is_empty());
        assert_eq!(d.servers, ["10.96.0.10"]);
        assert_eq!(
            d.searches,
            [
                "n.svc.cluster.local",
                "svc.cluster.local",
                "cluster.local",
                "example.com"
            ]
        );
        assert_eq!(d.options, ["ndots:5"]);
        let host = pod_of(json!({"containers":[],"hostNetwork":true}));
        assert_eq!(dns(&host, cluster, &node).0.servers, ["8.8.8.8"]);
        let none = pod_of(json!({"containers":[],"dnsPolicy":"None","dnsConfig":{
            "nameservers":["1.1.1.1"],"searches":["a.b"],"options":[{"name":"ndots","value":"2"},{"name":"edns0"}]}}));
        let (d, _) = dns(&none, cluster, &node);
        assert_eq!(
            (d.servers, d.options),
            (
                vec!["1.1.1.1".to_string()],
                vec!["ndots:2".into(), "edns0".into()]
            )
        );
        let missing = ClusterDns {
            servers: &[],
            ..cluster
        };
        let (d, w) = dns(&pod_of(json!({"containers":[]})), missing, &node);
        assert_eq!(
            (d.servers[0].as_str(), w[0].0),
            ("8.8.8.8", "MissingClusterDNS")
        );
    }

    #[test]
    fn long_names() {
        let p = pod_of(
            json!({"containers":[],"hostname":"h","subdomain":"s".repeat(60),"setHostnameAsFQDN":true}),
        );
        let names = names(&p, "cluster.local");
        assert!(
            kernel_hostname(&p, &names, "node")
                .unwrap_err()
                .contains("is too long (64 characters is the max")
        );
    }
}
