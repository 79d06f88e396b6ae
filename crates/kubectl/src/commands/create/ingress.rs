//! `create ingress`.

use clap::Args;
use serde_json::{Value, json};

use super::{Common, head};
use crate::error::{Error, Result};

#[derive(Clone, Debug, Args)]
pub struct Ingress {
    name: String,
    /// Ingress Class to be used
    #[arg(long)]
    class: Option<String>,
    /// Rule in format host/path=service:port[,tls=secretname]; a path that ends with * is a prefix
    #[arg(long)]
    rule: Vec<String>,
    /// Default service for backend, in format of svcname:port
    #[arg(long)]
    default_backend: Option<String>,
    /// Annotation to insert in the ingress object, in the format annotation=value
    #[arg(long)]
    annotation: Vec<String>,
    #[command(flatten)]
    common: Common,
}

impl Ingress {
    pub fn object(self) -> Result<(Common, Value)> {
        if self.rule.is_empty() && self.default_backend.is_none() {
            return Err(Error::text(
                "not enough information provided: every ingress has to either specify a default-backend (which catches all traffic) or a list of rules (which catch specific paths)",
            ));
        }
        let mut made = head("networking.k8s.io/v1", "Ingress", &self.name);
        made["spec"] = json!({});
        made["status"] = json!({"loadBalancer": {}});
        for pair in &self.annotation {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            made["metadata"]["annotations"][key] = value.into();
        }
        if let Some(class) = self.class {
            made["spec"]["ingressClassName"] = class.into();
        }
        if let Some(service) = &self.default_backend {
            made["spec"]["defaultBackend"] = backend(service)?;
        }
        let (mut rules, mut tls): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
        for rule in &self.rule {
            let (host, path, secret) = parse(rule)?;
            let same = |r: &&mut Value| r["host"].as_str().unwrap_or_default() == host;
            match rules.iter_mut().find(same) {
                Some(known) => {
                    if let Some(paths) = known["http"]["paths"].as_array_mut() {
                        paths.push(path);
                    }
                }
                None => {
                    let mut new = json!({"http": {"paths": [path]}});
                    if !host.is_empty() {
                        new["host"] = host.clone().into();
                    }
                    rules.push(new);
                }
            }
            let Some(secret) = secret else { continue };
            let mut entry = json!({"hosts": [host]});
            if !secret.is_empty() {
                entry["secretName"] = secret.into();
            }
            if !tls.contains(&entry) {
                tls.push(entry);
            }
        }
        for (list, field) in [(rules, "rules"), (tls, "tls")] {
            if !list.is_empty() {
                made["spec"][field] = list.into();
            }
        }
        Ok((self.common, made))
    }
}

fn backend(text: &str) -> Result<Value> {
    let Some((name, port)) = text.split_once(':') else {
        return Err(Error::text(format!("service {text} is not NAME:PORT")));
    };
    let port = match port.parse::<u16>() {
        Ok(number) => json!({"number": number}),
        Err(_) => json!({"name": port}),
    };
    Ok(json!({"service": {"name": name, "port": port}}))
}

/// Host, path, and the secret of its TLS where that is asked for.
fn parse(rule: &str) -> Result<(String, Value, Option<String>)> {
    let bad = || {
        Error::text(format!(
            "rule {rule} is invalid and should be in format host/path=svcname:svcport[,tls[=secret]]"
        ))
    };
    let (rule, tls) = match rule.split_once(",tls") {
        Some((rule, secret)) => (rule, Some(secret.trim_start_matches('=').to_string())),
        None => (rule, None),
    };
    let (place, service) = rule.split_once('=').ok_or_else(bad)?;
    let (host, path) = place.split_once('/').ok_or_else(bad)?;
    let (path, kind) = match path.strip_suffix('*') {
        Some(prefix) => (prefix, "Prefix"),
        None => (path, "Exact"),
    };
    let path = json!({"path": format!("/{path}"), "pathType": kind, "backend": backend(service)?});
    Ok((host.to_string(), path, tls))
}
