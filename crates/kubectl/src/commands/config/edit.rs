//! `kubectl config set-cluster|set-credentials|set|unset|delete-cluster|delete-user|rename-context`.

use base64::Engine;
use clap::Args;
use serde_json::{Value, json};

use super::{Named, change, named};
use crate::context::Context;
use crate::error::{Error, Result, io_text};

#[derive(Clone, Debug, Args)]
pub struct SetCluster {
    name: String,
    /// Embed-certs for the cluster entry in kubeconfig
    #[arg(long)]
    embed_certs: bool,
    /// Proxy URL for the cluster entry in kubeconfig
    #[arg(long)]
    proxy_url: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct SetCredentials {
    name: String,
    /// Embed client cert/key for the user entry in kubeconfig
    #[arg(long)]
    embed_certs: bool,
    /// username for the user entry in kubeconfig
    #[arg(long)]
    username: Option<String>,
    /// password for the user entry in kubeconfig
    #[arg(long)]
    password: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct Rename {
    from: String,
    to: String,
}

#[derive(Clone, Debug, Args)]
pub struct Set {
    property: String,
    value: String,
    /// When writing a []byte PROPERTY, write the given string directly without base64 decoding
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    set_raw_bytes: Option<bool>,
}

#[derive(Clone, Debug, Args)]
pub struct Unset {
    property: String,
}

/// The entry of a name, made where it is new.
fn entry<'a>(config: &'a mut Value, list: &str, item: &str, name: &str) -> Result<&'a mut Value> {
    if !config[list].is_array() {
        config[list] = json!([]);
    }
    let bad = || Error::text(format!("invalid kubeconfig: {list} is not a list"));
    let all = config[list].as_array_mut().ok_or_else(bad)?;
    let at = match all.iter().position(|e| e["name"] == name) {
        Some(at) => at,
        None => {
            all.push(json!({"name": name, item: {}}));
            all.len() - 1
        }
    };
    if !all[at][item].is_object() {
        all[at][item] = json!({});
    }
    Ok(&mut all[at][item])
}

/// Sets a file's path, or its content under `field-data`.
fn file(entry: &mut Value, field: &str, path: &str, embed: bool) -> Result<()> {
    let (set, other) = (field.to_string(), format!("{field}-data"));
    let (set, other, value) = if embed {
        let bytes = std::fs::read(path).map_err(|e| {
            Error::text(format!(
                "could not read {field} data from {path}: {}",
                io_text(&e)
            ))
        })?;
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        (other, set, text)
    } else {
        let whole = std::path::absolute(path)?;
        (set, other, whole.display().to_string())
    };
    entry[set.as_str()] = value.into();
    if let Some(fields) = entry.as_object_mut() {
        fields.remove(&other);
    }
    Ok(())
}

impl SetCluster {
    pub fn run(self, cx: &Context) -> Result<()> {
        let g = cx.globals.clone();
        change(cx, |config| {
            let cluster = entry(config, "clusters", "cluster", &self.name)?;
            for (value, field) in [
                (&g.server, "server"),
                (&g.tls_server_name, "tls-server-name"),
                (&self.proxy_url, "proxy-url"),
            ] {
                if let Some(value) = value {
                    cluster[field] = value.clone().into();
                }
            }
            if g.insecure_skip_tls_verify {
                cluster["insecure-skip-tls-verify"] = true.into();
            }
            match &g.certificate_authority {
                Some(path) => file(cluster, "certificate-authority", path, self.embed_certs),
                None => Ok(()),
            }
        })?;
        println!("Cluster \"{}\" set.", self.name);
        Ok(())
    }
}

impl SetCredentials {
    pub fn run(self, cx: &Context) -> Result<()> {
        let g = cx.globals.clone();
        if g.token.is_some() && self.username.is_some() {
            return Err(Error::text(
                "you cannot specify more than one authentication method at the same time: --token, --username/--password",
            ));
        }
        change(cx, |config| {
            let user = entry(config, "users", "user", &self.name)?;
            for (value, field) in [
                (&g.token, "token"),
                (&self.username, "username"),
                (&self.password, "password"),
            ] {
                if let Some(value) = value {
                    user[field] = value.clone().into();
                }
            }
            for (path, field) in [
                (&g.client_certificate, "client-certificate"),
                (&g.client_key, "client-key"),
            ] {
                if let Some(path) = path {
                    file(user, field, path, self.embed_certs)?;
                }
            }
            Ok(())
        })?;
        println!("User \"{}\" set.", self.name);
        Ok(())
    }
}

/// `delete-cluster` and `delete-user`.
pub fn delete(cx: &Context, list: &str, what: &str, f: &Named) -> Result<()> {
    let path = cx.kubeconfig_path();
    change(cx, |config| {
        if named(config, list, &f.name).is_none() {
            return Err(Error::text(format!(
                "cannot delete {what} {}, not in {}",
                f.name,
                path.display()
            )));
        }
        if let Some(all) = config[list].as_array_mut() {
            all.retain(|e| e["name"] != f.name.as_str());
        }
        Ok(())
    })?;
    println!("deleted {what} {} from {}", f.name, path.display());
    Ok(())
}

impl Rename {
    pub fn run(self, cx: &Context) -> Result<()> {
        let path = cx.kubeconfig_path();
        change(cx, |config| {
            let refused = |why: String| {
                Err(Error::text(format!(
                    "cannot rename the context \"{}\", {why} in {}",
                    self.from,
                    path.display()
                )))
            };
            if named(config, "contexts", &self.from).is_none() {
                return refused("it's not".into());
            }
            if named(config, "contexts", &self.to).is_some() {
                return refused(format!("the context \"{}\" already exists", self.to));
            }
            for context in config["contexts"].as_array_mut().into_iter().flatten() {
                if context["name"] == self.from.as_str() {
                    context["name"] = self.to.clone().into();
                }
            }
            if config["current-context"] == self.from.as_str() {
                config["current-context"] = self.to.clone().into();
            }
            Ok(())
        })?;
        println!("Context \"{}\" renamed to \"{}\".", self.from, self.to);
        Ok(())
    }
}

/// What a property names: a field of the file, or of an entry.
struct Property<'a> {
    list: &'a str,
    name: &'a str,
    fields: Vec<&'a str>,
}

impl<'a> Property<'a> {
    /// `current-context`, or `contexts.NAME.FIELD`; a name may have dots where it is known.
    fn parse(config: &Value, text: &'a str) -> Result<Self> {
        let Some((list, rest)) = text.split_once('.') else {
            return Ok(Self {
                list: text,
                name: "",
                fields: Vec::new(),
            });
        };
        if !["clusters", "contexts", "users"].contains(&list) {
            return Err(Error::text(format!("unable to parse path: {text}")));
        }
        let known = config[list].as_array().into_iter().flatten();
        let known = known
            .filter_map(|e| e["name"].as_str())
            .filter(|n| rest == *n || rest.strip_prefix(n).is_some_and(|r| r.starts_with('.')))
            .map(str::len)
            .max();
        let length = known.unwrap_or_else(|| rest.find('.').unwrap_or(rest.len()));
        let (name, rest) = rest.split_at(length);
        let fields = rest.split('.').filter(|f| !f.is_empty()).collect();
        Ok(Self { list, name, fields })
    }

    fn item(&self) -> &'a str {
        self.list.strip_suffix('s').unwrap_or(self.list)
    }
}

impl Set {
    pub fn run(self, cx: &Context) -> Result<()> {
        change(cx, |config| {
            let property = Property::parse(config, &self.property)?;
            if property.name.is_empty() {
                config[property.list] = self.value.clone().into();
                return Ok(());
            }
            let mut at = entry(config, property.list, property.item(), property.name)?;
            for field in &property.fields {
                at = &mut at[*field];
            }
            *at = match self.value.as_str() {
                "true" => true.into(),
                "false" => false.into(),
                text => text.into(),
            };
            Ok(())
        })?;
        println!("Property \"{}\" set.", self.property);
        Ok(())
    }
}

impl Unset {
    pub fn run(self, cx: &Context) -> Result<()> {
        change(cx, |config| {
            let property = Property::parse(config, &self.property)?;
            match (property.name, property.fields.split_last()) {
                ("", _) => {
                    if let Some(all) = config.as_object_mut() {
                        all.remove(property.list);
                    }
                }
                (name, None) => {
                    if let Some(all) = config[property.list].as_array_mut() {
                        all.retain(|e| e["name"] != name);
                    }
                }
                (name, Some((last, path))) => {
                    let mut at = entry(config, property.list, property.item(), name)?;
                    for field in path {
                        at = &mut at[*field];
                    }
                    if let Some(all) = at.as_object_mut() {
                        all.remove(*last);
                    }
                }
            }
            Ok(())
        })?;
        println!("Property \"{}\" unset.", self.property);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_name_fields_of_entries() {
        let config = json!({"users": [{"name": "a.b", "user": {}}]});
        let p = Property::parse(&config, "users.a.b.token").unwrap();
        assert_eq!((p.list, p.item(), p.name), ("users", "user", "a.b"));
        assert_eq!(p.fields, ["token"]);
        let p = Property::parse(&config, "contexts.new.namespace").unwrap();
        assert_eq!((p.name, p.fields), ("new", vec!["namespace"]));
        assert_eq!(
            Property::parse(&config, "current-context").unwrap().name,
            ""
        );
        assert!(Property::parse(&config, "other.x").is_err());
    }
}
