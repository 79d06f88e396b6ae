//! `create secret generic|tls|docker-registry` and `create configmap`: data from files and literals.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Common, head};
use crate::error::{Error, Result, io_text};

/// Where data comes from.
#[derive(Clone, Debug, Args)]
pub struct Sources {
    /// Key files can be specified using their file path, optionally with a key name; a directory gives each file
    #[arg(long)]
    from_file: Vec<String>,
    /// Specify a key and literal value to insert (i.e. mykey=somevalue)
    #[arg(long)]
    from_literal: Vec<String>,
    /// Specify the path to a file to read lines of key=val pairs
    #[arg(long)]
    from_env_file: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub struct ConfigMap {
    name: String,
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Secret {
    /// Create a secret from a local file, directory, or literal value
    Generic(Generic),
    /// Create a TLS secret
    Tls(Tls),
    /// Create a secret for use with a Docker registry
    DockerRegistry(DockerRegistry),
}

#[derive(Clone, Debug, Args)]
pub struct Generic {
    name: String,
    #[command(flatten)]
    sources: Sources,
    /// The type of secret to create
    #[arg(long = "type")]
    kind: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Debug, Args)]
pub struct Tls {
    name: String,
    /// Path to PEM encoded public key certificate
    #[arg(long)]
    cert: String,
    /// Path to private key associated with given certificate
    #[arg(long)]
    key: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Debug, Args)]
pub struct DockerRegistry {
    name: String,
    /// Server location for Docker registry
    #[arg(long, default_value = "https://index.docker.io/v1/")]
    docker_server: String,
    /// Username for Docker registry authentication
    #[arg(long)]
    docker_username: String,
    /// Password for Docker registry authentication
    #[arg(long)]
    docker_password: String,
    /// Email for Docker registry
    #[arg(long, default_value = "", hide_default_value = true)]
    docker_email: String,
    #[command(flatten)]
    common: Common,
}

type Data = Vec<(String, Vec<u8>)>;

impl Sources {
    fn read(&self) -> Result<Data> {
        let mut all = Data::new();
        for arg in &self.from_file {
            let (key, path) = match arg.split_once('=') {
                Some((key, path)) => (Some(key), path),
                None => (None, arg.as_str()),
            };
            from_path(key, Path::new(path), &mut all)?;
        }
        for arg in &self.from_literal {
            let Some((key, value)) = arg.split_once('=').filter(|(k, _)| !k.is_empty()) else {
                return Err(Error::text(format!(
                    "invalid literal source {arg}, expected key=value"
                )));
            };
            add(&mut all, key, value.as_bytes().to_vec())?;
        }
        for path in &self.from_env_file {
            for line in String::from_utf8_lossy(&read(Path::new(path))?).lines() {
                let line = line.trim_start();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let (key, value) = match line.split_once('=') {
                    Some((key, value)) => (key, value.to_string()),
                    None => (line, std::env::var(line).unwrap_or_default()),
                };
                add(&mut all, key, value.into_bytes())?;
            }
        }
        Ok(all)
    }
}

fn add(all: &mut Data, key: &str, value: Vec<u8>) -> Result<()> {
    if all.iter().any(|(k, _)| k == key) {
        return Err(Error::text(format!(
            "cannot add key \"{key}\", another key by that name already exists"
        )));
    }
    all.push((key.to_string(), value));
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|e| Error::text(format!("open {}: {}", path.display(), io_text(&e))))
}

fn from_path(key: Option<&str>, path: &Path, all: &mut Data) -> Result<()> {
    let name = |p: &Path| {
        p.file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    if !path.is_dir() {
        let bytes = read(path)?;
        return add(all, key.unwrap_or(&name(path)), bytes);
    }
    if key.is_some() {
        return Err(Error::text("cannot give a key name for a directory path"));
    }
    let mut files: Vec<_> = std::fs::read_dir(path)?
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| p.is_file())
        .collect();
    files.sort();
    files.iter().try_for_each(|p| add(all, &name(p), read(p)?))
}

impl ConfigMap {
    pub fn object(self) -> Result<(Common, Value)> {
        let mut made = head("v1", "ConfigMap", &self.name);
        for (key, value) in self.sources.read()? {
            match String::from_utf8(value) {
                Ok(text) => made["data"][key] = text.into(),
                Err(e) => made["binaryData"][key] = STANDARD.encode(e.as_bytes()).into(),
            }
        }
        Ok((self.common, made))
    }
}

impl Secret {
    pub fn object(self) -> Result<(Common, Value)> {
        let (name, kind, data, common) = match self {
            Self::Generic(f) => (f.name, f.kind, f.sources.read()?, f.common),
            Self::Tls(f) => {
                let data = vec![
                    ("tls.crt".to_string(), read(Path::new(&f.cert))?),
                    ("tls.key".to_string(), read(Path::new(&f.key))?),
                ];
                (f.name, Some("kubernetes.io/tls".into()), data, f.common)
            }
            Self::DockerRegistry(f) => {
                let auth = STANDARD.encode(format!("{}:{}", f.docker_username, f.docker_password));
                let mut entry = json!({"username": f.docker_username, "password": f.docker_password, "auth": auth});
                if !f.docker_email.is_empty() {
                    entry["email"] = f.docker_email.into();
                }
                let file = json!({"auths": {f.docker_server: entry}});
                let data = vec![(
                    ".dockerconfigjson".to_string(),
                    file.to_string().into_bytes(),
                )];
                (
                    f.name,
                    Some("kubernetes.io/dockerconfigjson".into()),
                    data,
                    f.common,
                )
            }
        };
        let mut made = head("v1", "Secret", &name);
        for (key, value) in data {
            made["data"][key] = STANDARD.encode(value).into();
        }
        if let Some(kind) = kind {
            made["type"] = kind.into();
        }
        Ok((common, made))
    }
}
