//! The environment of a container: services, envFrom, env. Upstream: pkg/kubelet makeEnvironmentVariables
//! and pkg/kubelet/envvars.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use api::core::v1::{ConfigMap, Container, EnvVar, Pod, Secret, Service};

use crate::downward::{self, Facts};
use crate::expansion::expand;
use crate::pod;

/// Objects that an environment or a volume is made of.
pub trait Objects: Send + Sync {
    /// A ConfigMap; `None` where there is none.
    fn config_map(&self, namespace: &str, name: &str) -> Option<Arc<ConfigMap>>;
    /// A Secret; `None` where there is none.
    fn secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>>;
    /// Services of a namespace.
    fn services(&self, namespace: &str) -> Vec<Arc<Service>>;
}

/// Everything that one environment depends on.
pub struct Context<'a> {
    pub pod: &'a Pod,
    pub facts: &'a Facts,
    pub objects: &'a dyn Objects,
    /// Where the pod's volumes are, for fileKeyRef.
    pub volume_path: &'a dyn Fn(&str) -> Option<std::path::PathBuf>,
}

/// The environment in order; service variables first, names of env and envFrom override them.
pub fn environment(cx: &Context<'_>, c: &Container) -> Result<Vec<(String, String)>, String> {
    let services = service_variables(cx);
    let mut result: BTreeMap<String, String> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let mut put = |result: &mut BTreeMap<String, String>, name: String, value: String| {
        if result.insert(name.clone(), value).is_none() {
            order.push(name);
        }
    };
    for from in c.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        for (key, value) in env_from(cx, from)? {
            put(&mut result, format!("{prefix}{key}"), value);
        }
    }
    for var in c.env.iter().flatten() {
        let value = match (&var.value_from, var.value.as_deref()) {
            (Some(_), None | Some("")) => value_from(cx, c, var)?,
            (_, value) => {
                let lookup = |n: &str| {
                    let found = result.get(n).or_else(|| services.get(n));
                    found.map(String::as_str)
                };
                Some(expand(value.unwrap_or_default(), lookup))
            }
        };
        if let Some(value) = value {
            put(&mut result, var.name.clone(), value);
        }
    }
    let mut out: Vec<(String, String)> = services
        .into_iter()
        .filter(|(n, _)| !result.contains_key(n))
        .collect();
    out.extend(order.into_iter().filter_map(|n| {
        let value = result.remove(&n)?;
        Some((n, value))
    }));
    Ok(out)
}

fn env_from(
    cx: &Context<'_>,
    from: &api::core::v1::EnvFromSource,
) -> Result<Vec<(String, String)>, String> {
    let ns = pod::namespace(cx.pod);
    if let Some(r) = &from.config_map_ref {
        let Some(found) = cx.objects.config_map(ns, &r.name) else {
            return missing(r.optional, format!("configmap {:?} not found", r.name));
        };
        return Ok(found.data.clone().unwrap_or_default().into_iter().collect());
    }
    if let Some(r) = &from.secret_ref {
        let Some(found) = cx.objects.secret(ns, &r.name) else {
            return missing(r.optional, format!("secret {:?} not found", r.name));
        };
        let data = found.data.iter().flatten();
        return Ok(data.map(|(k, v)| (k.clone(), lossy(&v.0))).collect());
    }
    Ok(Vec::new())
}

fn missing<T: Default>(optional: Option<bool>, why: String) -> Result<T, String> {
    if optional == Some(true) {
        Ok(T::default())
    } else {
        Err(why)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `None` where an optional reference leads nowhere.
fn value_from(cx: &Context<'_>, c: &Container, var: &EnvVar) -> Result<Option<String>, String> {
    let ns = pod::namespace(cx.pod);
    let Some(source) = &var.value_from else {
        return Ok(None);
    };
    if let Some(f) = &source.field_ref {
        return downward::field(cx.pod, &f.field_path, cx.facts).map(Some);
    }
    if let Some(r) = &source.resource_field_ref {
        return downward::resource(cx.pod, Some(c), r, cx.facts).map(Some);
    }
    if let Some(r) = &source.config_map_key_ref {
        let Some(found) = cx.objects.config_map(ns, &r.name) else {
            return missing(r.optional, format!("configmap {:?} not found", r.name));
        };
        return match found.data.as_ref().and_then(|d| d.get(&r.key)) {
            Some(value) => Ok(Some(value.clone())),
            None => missing(
                r.optional,
                format!("couldn't find key {} in ConfigMap {ns}/{}", r.key, r.name),
            ),
        };
    }
    if let Some(r) = &source.secret_key_ref {
        let Some(found) = cx.objects.secret(ns, &r.name) else {
            return missing(r.optional, format!("secret {:?} not found", r.name));
        };
        return match found.data.as_ref().and_then(|d| d.get(&r.key)) {
            Some(value) => Ok(Some(lossy(&value.0))),
            None => missing(
                r.optional,
                format!("couldn't find key {} in Secret {ns}/{}", r.key, r.name),
            ),
        };
    }
    if let Some(r) = &source.file_key_ref {
        let path = (cx.volume_path)(&r.volume_name).ok_or_else(|| {
            format!(
                "cannot find the volume {:?} referenced by FileKeyRef",
                r.volume_name
            )
        })?;
        let found = file_key(&path.join(&r.path), &r.key)?;
        return match found {
            Some(value) => Ok(Some(value)),
            None => missing(
                r.optional,
                format!(
                    "environment variable key {:?} not found in file {:?}",
                    r.key, r.path
                ),
            ),
        };
    }
    Ok(None)
}

/// One key of a file with `NAME='value'` lines; `None` where file or key is missing.
fn file_key(path: &Path, key: &str) -> Result<Option<String>, String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("couldn't parse env file: {e}")),
    };
    let bad = || "couldn't parse env file".to_string();
    let (mut rest, mut found) = (text.as_str(), None);
    loop {
        rest = rest.trim_start_matches(['\n', '\r', ' ', '\t']);
        if rest.is_empty() {
            return Ok(found);
        }
        if rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, r)| r);
            continue;
        }
        let (name, value) = rest.split_once('=').ok_or_else(bad)?;
        if name.contains(|c: char| c.is_whitespace()) {
            return Err(bad());
        }
        let (text, after) = match value.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').ok_or_else(bad)?,
            None if value.is_empty() || value.starts_with(char::is_whitespace) => ("", value),
            None => return Err(bad()),
        };
        if name == key {
            found = Some(text.to_string());
        }
        rest = after;
    }
}

/// Variables of the services that the pod may know of.
fn service_variables(cx: &Context<'_>) -> BTreeMap<String, String> {
    let ns = pod::namespace(cx.pod);
    let links = pod::spec(cx.pod).enable_service_links.unwrap_or(true);
    let mut chosen: BTreeMap<String, Arc<Service>> = BTreeMap::new();
    let name = |s: &Service| s.metadata.name.clone().unwrap_or_default();
    for s in cx.objects.services("default") {
        if name(&s) == "kubernetes" {
            chosen.insert(name(&s), s);
        }
    }
    if links {
        for s in cx.objects.services(ns) {
            chosen.insert(name(&s), s);
        }
    }
    let mut out = BTreeMap::new();
    for s in chosen.values() {
        one_service(s, &mut out);
    }
    out
}

fn one_service(s: &Service, out: &mut BTreeMap<String, String>) {
    let Some(spec) = &s.spec else { return };
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    if ip.is_empty() || ip == "None" {
        return;
    }
    let upper = |t: &str| t.to_uppercase().replace('-', "_");
    let prefix = upper(s.metadata.name.as_deref().unwrap_or_default());
    let host = if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_string()
    };
    out.insert(format!("{prefix}_SERVICE_HOST"), ip.into());
    for (i, port) in spec.ports.iter().flatten().enumerate() {
        let n = port.port;
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{n}", protocol.to_lowercase());
        if i == 0 {
            out.insert(format!("{prefix}_SERVICE_PORT"), n.to_string());
            out.insert(format!("{prefix}_PORT"), url.clone());
        }
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            out.insert(
                format!("{prefix}_SERVICE_PORT_{}", upper(name)),
                n.to_string(),
            );
        }
        let each = format!("{prefix}_PORT_{n}_{}", protocol.to_uppercase());
        out.insert(format!("{each}_PROTO"), protocol.to_lowercase());
        out.insert(format!("{each}_PORT"), n.to_string());
        out.insert(format!("{each}_ADDR"), ip.into());
        out.insert(each, url);
    }
}

#[cfg(test)]
mod tests;
