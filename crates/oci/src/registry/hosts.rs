//! Which hosts serve a registry. Follows containerd's docs/hosts.md.

use std::path::{Path, PathBuf};

use http::{HeaderName, HeaderValue, Uri};
use toml::{Table, Value};

use crate::error::Error;
use crate::limits;

/// A host that may have a registry's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub scheme: String,
    pub authority: String,
    /// Before the repository, such as `/v2`.
    pub path: String,
    pub pull: bool,
    pub resolve: bool,
    pub tls: Tls,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Requests name the registry meant (`?ns=`).
    pub namespace: Option<String>,
}

/// How a host's certificate is checked and which one is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    pub ca: Vec<PathBuf>,
    /// Certificate and key; the key may be in the certificate's file.
    pub client: Vec<(PathBuf, Option<PathBuf>)>,
    pub skip_verify: bool,
}

/// The hosts of a registry, in the order in which they are asked.
pub fn hosts(config: Option<&Path>, domain: &str) -> Result<Vec<Host>, Error> {
    let Some(dir) = config.and_then(|c| folder(c, domain)) else {
        return Ok(defaults(domain));
    };
    let path = dir.join("hosts.toml");
    match std::fs::read_to_string(&path) {
        Ok(text) if text.len() as u64 > limits::TEXT_BYTES => Err(Error::Limit {
            what: path.display().to_string(),
            limit: limits::TEXT_BYTES,
        }),
        Ok(text) => parse(&dir, &text, domain).map_err(|cause| Error::Hosts { path, cause }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => docker_style(&dir, domain),
        Err(e) => Err(Error::io("read", path)(e)),
    }
}

/// `host:port`, `host_port_`, then `_default`.
fn folder(config: &Path, domain: &str) -> Option<PathBuf> {
    let mut names = vec![domain.to_string()];
    if let Some((host, port)) = domain.rsplit_once(':') {
        names.push(format!("{host}_{port}_"));
    }
    names.push("_default".to_string());
    names
        .into_iter()
        .map(|n| config.join(n))
        .find(|p| p.is_dir())
}

/// Without any file: HTTPS, and for loopback HTTP where nobody speaks HTTPS.
fn defaults(domain: &str) -> Vec<Host> {
    let authority = match domain {
        "docker.io" => "registry-1.docker.io",
        other => other,
    };
    let host = |scheme: &str, skip_verify: bool| Host {
        scheme: scheme.to_string(),
        authority: authority.to_string(),
        path: "/v2".to_string(),
        pull: true,
        resolve: true,
        tls: Tls {
            skip_verify,
            ..Tls::default()
        },
        headers: Vec::new(),
        namespace: None,
    };
    match (is_loopback(domain), domain.rsplit_once(':')) {
        (true, Some((_, "80"))) => vec![host("http", false)],
        (true, Some((_, "443"))) => vec![host("https", true)],
        (true, _) => vec![host("https", true), host("http", false)],
        (false, _) => vec![host("https", false)],
    }
}

/// Whether a registry is on this machine.
fn is_loopback(domain: &str) -> bool {
    let host = match domain.strip_prefix('[').and_then(|d| d.split_once(']')) {
        Some((address, _)) => address,
        None => domain.split(':').next().unwrap_or(domain),
    };
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|a| a.is_loopback())
}

fn parse(dir: &Path, text: &str, domain: &str) -> Result<Vec<Host>, String> {
    let table: Table = text
        .parse()
        .map_err(|e: toml::de::Error| e.message().to_string())?;
    let mut hosts = Vec::new();
    if let Some(mirrors) = table.get("host") {
        let mirrors = mirrors.as_table().ok_or("\"host\" must be a table")?;
        if mirrors.len() > limits::HOSTS {
            return Err(format!("more than {} hosts", limits::HOSTS));
        }
        for (url, settings) in mirrors {
            let settings = settings
                .as_table()
                .ok_or(format!("host {url:?} must be a table"))?;
            hosts.push(host(dir, url, settings, domain)?);
        }
    }
    let mut servers = match table.get("server") {
        None => defaults(domain),
        Some(Value::String(url)) => vec![host(dir, url, &table, domain)?],
        Some(_) => return Err("\"server\" must be a string".to_string()),
    };
    if table.get("server").is_none() {
        for server in &mut servers {
            let named = format!("{}://{}", server.scheme, server.authority);
            let tls = host(dir, &named, &table, domain)?.tls;
            server.tls.ca = tls.ca;
            server.tls.client = tls.client;
            server.tls.skip_verify |= tls.skip_verify;
        }
    }
    hosts.extend(servers);
    Ok(hosts)
}

fn host(dir: &Path, url: &str, table: &Table, domain: &str) -> Result<Host, String> {
    let full = if url.contains("://") {
        url.to_string()
    } else {
        format!("https://{url}")
    };
    let uri: Uri = full.parse().map_err(|e| format!("host {url:?}: {e}"))?;
    let authority = uri
        .authority()
        .ok_or(format!("host {url:?} has no name"))?
        .to_string();
    let scheme = uri.scheme_str().unwrap_or("https").to_string();
    if scheme != "http" && scheme != "https" {
        return Err(format!("host {url:?}: scheme must be http or https"));
    }
    let flag = |key: &str| table.get(key).and_then(Value::as_bool).unwrap_or(false);
    let base = uri.path().trim_end_matches('/');
    let path = if flag("override_path") {
        base.to_string()
    } else {
        format!("{base}/v2")
    };
    let can = |what: &str| match table.get("capabilities").and_then(Value::as_array) {
        None => true,
        Some(list) => list.iter().any(|c| c.as_str() == Some(what)),
    };
    let own = authority == domain || (domain == "docker.io" && authority == "registry-1.docker.io");
    Ok(Host {
        pull: can("pull"),
        resolve: can("resolve"),
        tls: Tls {
            ca: paths(dir, table.get("ca"))?,
            client: clients(dir, table.get("client"))?,
            skip_verify: flag("skip_verify"),
        },
        headers: headers(table.get("header"))?,
        namespace: (!own).then(|| domain.to_string()),
        scheme,
        authority,
        path,
    })
}

fn paths(dir: &Path, value: Option<&Value>) -> Result<Vec<PathBuf>, String> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(path)) => Ok(vec![dir.join(path)]),
        Some(Value::Array(list)) => list
            .iter()
            .map(|p| {
                p.as_str()
                    .map(|p| dir.join(p))
                    .ok_or("a path must be a string".to_string())
            })
            .collect(),
        Some(_) => Err("a path must be a string or a list of strings".to_string()),
    }
}

fn clients(dir: &Path, value: Option<&Value>) -> Result<Vec<(PathBuf, Option<PathBuf>)>, String> {
    let Some(Value::Array(list)) = value else {
        return Ok(paths(dir, value)?.into_iter().map(|p| (p, None)).collect());
    };
    let mut out = Vec::new();
    for entry in list {
        let mut pair = paths(dir, Some(entry))?.into_iter();
        match (pair.next(), pair.next(), pair.next()) {
            (Some(certificate), key, None) => out.push((certificate, key)),
            _ => return Err("a client certificate must be a path or a pair of paths".to_string()),
        }
    }
    Ok(out)
}

fn headers(value: Option<&Value>) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let Some(value) = value else {
        return Ok(Vec::new());
    };
    let table = value.as_table().ok_or("\"header\" must be a table")?;
    let mut out = Vec::new();
    for (name, value) in table {
        let values = match value {
            Value::String(one) => vec![one.as_str()],
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            _ => return Err(format!("header {name:?} must be a string or a list")),
        };
        for value in values {
            out.push((
                name.parse()
                    .map_err(|_| format!("header {name:?} is no name"))?,
                value
                    .parse()
                    .map_err(|_| format!("header {name:?} has a bad value"))?,
            ));
        }
    }
    Ok(out)
}

/// A folder without hosts.toml: `*.crt` are authorities, `*.cert` with `*.key` client certificates.
fn docker_style(dir: &Path, domain: &str) -> Result<Vec<Host>, Error> {
    let mut tls = Tls::default();
    let mut names: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io("list", dir))? {
        names.push(entry.map_err(Error::io("list", dir))?.path());
    }
    names.sort();
    for path in names {
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => tls.ca.push(path),
            Some("cert") => tls
                .client
                .push((path.clone(), Some(path.with_extension("key")))),
            _ => {}
        }
    }
    let mut hosts = defaults(domain);
    for host in &mut hosts {
        host.tls.ca = tls.ca.clone();
        host.tls.client = tls.client.clone();
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::{defaults, hosts};

    #[test]
    fn loopback_may_be_plain() {
        let schemes = |d: &str| {
            defaults(d)
                .into_iter()
                .map(|h| h.scheme)
                .collect::<Vec<_>>()
        };
        assert_eq!(schemes("localhost:5000"), ["https", "http"]);
        assert_eq!(schemes("127.0.0.1:80"), ["http"]);
        assert_eq!(schemes("[::1]:5000"), ["https", "http"]);
        assert_eq!(schemes("q.io"), ["https"]);
        assert_eq!(defaults("docker.io")[0].authority, "registry-1.docker.io");
        assert!(!defaults("q.io")[0].tls.skip_verify);
    }

    #[test]
    fn mirrors_come_first_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let registry = dir.path().join("q.io_5000_");
        std::fs::create_dir(&registry).unwrap();
        let text = r#"
server = "https://real.q.io"
ca = "own.crt"
[host."http://z:1/sub"]
  capabilities = ["pull"]
  [host."http://z:1/sub".header]
    x-key = ["a", "b"]
[host."https://a"]
  skip_verify = true
  override_path = true
  client = [["c.pem", "k.pem"]]
"#;
        std::fs::write(registry.join("hosts.toml"), text).unwrap();
        let found = hosts(Some(dir.path()), "q.io:5000").unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|h| format!("{}://{}{}", h.scheme, h.authority, h.path))
            .collect();
        assert_eq!(
            names,
            ["http://z:1/sub/v2", "https://a", "https://real.q.io/v2"]
        );
        assert!(found[0].pull && !found[0].resolve && found[0].headers.len() == 2);
        assert_eq!(found[0].namespace.as_deref(), Some("q.io:5000"));
        assert!(found[1].tls.skip_verify);
        assert_eq!(found[2].tls.ca, [registry.join("own.crt")]);
        std::fs::write(registry.join("hosts.toml"), "server = 1").unwrap();
        assert!(hosts(Some(dir.path()), "q.io:5000").is_err());
    }
}
