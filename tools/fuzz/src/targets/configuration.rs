//! Files that administrators write.

use apiserver::audit::Policy;
use apiserver::encryption::EncryptionConfig;
use apiserver::query::Query;
use apiserver::request_info;
use cluster::ClusterConfig;

use super::{TREE, text};
use crate::Target;

/// Beyond the files' own limit, which must hold.
const FILE: usize = 2 << 20;

pub const AUDIT_POLICY: Target = Target {
    name: "audit_policy",
    run: |data| {
        let Ok(policy) = Policy::parse(&text(data)) else {
            return;
        };
        let path = "/api/v1/namespaces/default/pods/web";
        if let Ok(info) = request_info::parse(&http::Method::GET, path, &Query::default()) {
            policy.verdict(&info, None);
        }
    },
    seeds: || {
        let all = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: RequestResponse\n  users: [a]\n  verbs: [get]\n  resources:\n  - {group: apps, resources: ['deployments/*', '*/scale'], resourceNames: [x]}\n  namespaces: ['', n]\n  omitManagedFields: true\n- level: None\n  nonResourceURLs: ['/a*', '*']\n- level: Metadata\n";
        vec![all.into(), apiserver::audit::DEFAULT_POLICY.into()]
    },
    input_max: FILE,
    memory: TREE,
};

pub const ENCRYPTION: Target = Target {
    name: "encryption",
    run: |data| {
        if let Ok(config) = EncryptionConfig::parse(&text(data)) {
            let again = EncryptionConfig::parse(&config.text());
            assert!(again.is_ok(), "written and read again");
        }
    },
    seeds: || {
        let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
        let all = format!(
            "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n- resources: [secrets, '*.apps']\n  providers:\n  - aescbc: {{keys: [{{name: a, secret: {key}}}]}}\n  - aesgcm: {{keys: [{{name: a, secret: {key}}}]}}\n  - secretbox: {{keys: [{{name: a, secret: {key}}}]}}\n  - identity: {{}}\n"
        );
        let kms = "kind: EncryptionConfiguration\napiVersion: v1\nresources:\n- resources: ['*.*']\n  providers:\n  - kms: {apiVersion: v2, name: k, endpoint: 'unix:///x', timeout: 3s}\n";
        vec![all.into_bytes(), kms.into()]
    },
    input_max: FILE,
    memory: TREE,
};

pub const K0S_YAML: Target = Target {
    name: "k0s_yaml",
    run: |data| {
        if let Ok(config) = ClusterConfig::parse(&text(data)) {
            let _ = (config.dns_ip(), config.api_service_ip());
        }
    },
    seeds: || {
        let sans = ["10.0.0.1".to_string(), "example.com".to_string()];
        let own = ClusterConfig::default_yaml("10.0.0.1", &sans, true);
        let etcd = "spec:\n  storage: {type: etcd, etcd: {externalCluster: {endpoints: ['https://a:1'], etcdPrefix: p}}}\n  network: {podCIDR: 10.244.0.0/16, serviceCIDR: 10.96.0.0/12}\n  workerProfiles: [{name: a, values: {maxPods: 5}}]\n";
        let kine = "apiVersion: k0s.k0sproject.io/v1beta1\nkind: ClusterConfig\nspec: {storage: {type: kine, kine: {dataSource: 'mysql://u:p@tcp(h:1)/d?tls=x'}}, api: {extraArgs: {feature-gates: A=true}}}\n";
        vec![own.into_bytes(), etcd.into(), kine.into()]
    },
    input_max: FILE,
    memory: TREE,
};
