//! What a command is about: `TYPE NAME`, `TYPE/NAME`, `-l`, `-f`. Upstream: cli-runtime/resource.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::context::Context;
use crate::discovery::Resource;
use crate::error::{Error, Result, io_text};
use crate::limits;
use crate::object;
use crate::rest::Call;
use crate::yaml;

/// `-f`, `-R`, `-k`.
#[derive(Clone, Debug, Default, Args)]
pub struct Files {
    /// Filename, directory, or - for standard input
    #[arg(short, long = "filename", value_delimiter = ',')]
    pub filename: Vec<String>,
    /// Process the directory used in -f, --filename recursively
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Process a kustomization directory
    #[arg(short, long)]
    pub kustomize: Option<String>,
}

/// An object that a command is about.
#[derive(Clone, Debug)]
pub struct Info {
    pub resource: Resource,
    pub namespace: Option<String>,
    pub name: String,
    /// What a file says, or what the server has.
    pub object: Value,
    /// The file.
    pub source: String,
}

/// What was named on the command line, before the server is asked.
#[derive(Debug)]
pub struct Targets {
    /// Whole types.
    pub types: Vec<Resource>,
    /// Single objects.
    pub named: Vec<(Resource, String)>,
}

// === Info ===

impl Info {
    /// The path of the object.
    pub fn path(&self) -> String {
        self.resource
            .object_path(self.namespace.as_deref(), &self.name)
    }

    /// `deployment.apps/web`.
    pub fn display(&self) -> String {
        format!("{}/{}", self.resource.singular_name(), self.name)
    }

    /// Is called as the answer of a subresource is, as `scale.autoscaling`.
    pub fn of_answer(&mut self, answer: &Value) {
        let (group, version) = match object::text(answer, "/apiVersion").split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", object::text(answer, "/apiVersion")),
        };
        self.resource.group = group.to_string();
        self.resource.version = version.to_string();
        self.resource.kind = object::text(answer, "/kind").to_string();
    }

    /// Reads the object's present state.
    pub async fn read(&self, cx: &Context) -> Result<Value> {
        cx.rest().await?.json(&Call::get(self.path())).await
    }
}

// === Files ===

impl Files {
    /// Whether no file is named.
    pub fn is_empty(&self) -> bool {
        self.filename.is_empty() && self.kustomize.is_none()
    }

    /// The objects of all files, lists taken apart, with the file each comes from.
    pub fn read(&self) -> Result<Vec<(String, Value)>> {
        let mut all = Vec::new();
        if let Some(folder) = &self.kustomize {
            for value in crate::kustomize::build(folder)? {
                flatten(folder, value, &mut all)?;
            }
        }
        for name in &self.filename {
            for (source, text) in self.texts(name)? {
                let parse = |e: String| {
                    let first = e.lines().next().unwrap_or_default();
                    Error::text(format!("error parsing {source}: {first}"))
                };
                for value in yaml::parse_all(&text).map_err(parse)? {
                    flatten(&source, value, &mut all)?;
                }
            }
        }
        Ok(all)
    }

    fn texts(&self, name: &str) -> Result<Vec<(String, String)>> {
        if name == "-" {
            let text = std::io::read_to_string(std::io::stdin())?;
            return Ok(vec![("STDIN".into(), text)]);
        }
        if name.starts_with("http://") || name.starts_with("https://") {
            return Err(Error::text(format!(
                "cannot read {name}: files from the web are not there yet in this version"
            )));
        }
        let path = Path::new(name);
        if std::fs::metadata(path).is_err() {
            return Err(Error::text(format!("the path \"{name}\" does not exist")));
        }
        let mut paths = Vec::new();
        if path.is_dir() {
            self.walk(path, &mut paths)?;
        } else {
            paths.push(path.to_path_buf());
        }
        paths
            .into_iter()
            .map(|p| {
                let text = std::fs::read_to_string(&p)
                    .map_err(|e| Error::text(format!("open {}: {}", p.display(), io_text(&e))))?;
                Ok((p.display().to_string(), text))
            })
            .collect()
    }

    fn walk(&self, folder: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)?
            .map(|e| e.map(|e| e.path()))
            .collect::<std::io::Result<_>>()?;
        entries.sort();
        for path in entries {
            let extension = path
                .extension()
                .and_then(|e| e.to_str())
                .unwrap_or_default();
            if path.is_dir() {
                if self.recursive {
                    self.walk(&path, out)?;
                }
            } else if ["json", "yaml", "yml"].contains(&extension) {
                out.push(path);
            }
        }
        Ok(())
    }

    /// The objects of all files as infos; with those that could not be used.
    pub async fn infos(&self, cx: &Context) -> Result<(Vec<Info>, Vec<Error>)> {
        let mut infos = Vec::new();
        let mut errors = Vec::new();
        for (source, object) in self.read()? {
            match info_of(cx, &source, object).await {
                Ok(info) => infos.push(info),
                Err(e) => errors.push(e),
            }
        }
        if infos.is_empty() && errors.is_empty() {
            return Err(Error::text("no objects passed to apply"));
        }
        Ok((infos, errors))
    }
}

fn flatten(source: &str, value: Value, out: &mut Vec<(String, Value)>) -> Result<()> {
    if !value.is_object() {
        return Err(Error::text(format!(
            "error parsing {source}: json: cannot unmarshal into Go value of type map[string]interface {{}}"
        )));
    }
    let is_list = object::text(&value, "/kind").ends_with("List") && value["items"].is_array();
    if is_list {
        for item in object::items(&value, "/items") {
            flatten(source, item.clone(), out)?;
        }
        return Ok(());
    }
    for field in ["kind", "apiVersion"] {
        if object::text(&value, &format!("/{field}")).is_empty() {
            return Err(Error::text(format!(
                "error validating \"{source}\": error validating data: {field} not set; if you choose to ignore these errors, turn validation off with --validate=false"
            )));
        }
    }
    out.push((source.to_string(), value));
    Ok(())
}

/// The resource and namespace of a manifest.
pub async fn info_of(cx: &Context, source: &str, mut object: Value) -> Result<Info> {
    let (api_version, kind) = (
        object::text(&object, "/apiVersion").to_string(),
        object::text(&object, "/kind").to_string(),
    );
    let name = object::name(&object).to_string();
    let discovery = cx.discovery().await?;
    let Some(resource) = discovery.of_kind(&api_version, &kind) else {
        return Err(Error::text(format!(
            "resource mapping not found for name: \"{name}\" namespace: \"{}\" from \"{source}\": no matches for kind \"{kind}\" in version \"{api_version}\"\nensure CRDs are installed first",
            object::namespace(&object)
        )));
    };
    let namespace = if resource.namespaced {
        let own = object::namespace(&object).to_string();
        let asked = cx.namespace()?;
        if own.is_empty() {
            object["metadata"]["namespace"] = asked.clone().into();
            Some(asked)
        } else if cx.globals.namespace.is_some() && own != asked {
            return Err(Error::text(format!(
                "the namespace from the provided object \"{own}\" does not match the namespace \"{asked}\". You must pass '--namespace={own}' to perform this operation."
            )));
        } else {
            Some(own)
        }
    } else {
        None
    };
    Ok(Info {
        resource: resource.clone(),
        namespace,
        name,
        object,
        source: source.to_string(),
    })
}

/// Reads `TYPE[,TYPE] [NAME…]` or `TYPE/NAME …`.
pub async fn targets(cx: &Context, args: &[String]) -> Result<Targets> {
    let discovery = cx.discovery().await?;
    let mut found = Targets {
        types: Vec::new(),
        named: Vec::new(),
    };
    if args.iter().any(|a| a.contains('/')) {
        for arg in args {
            let Some((kind, name)) = arg.split_once('/') else {
                return Err(Error::text(
                    "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource resource/<resource_name>'",
                ));
            };
            if kind.is_empty() || name.is_empty() || name.contains('/') {
                return Err(Error::text(
                    "arguments in resource/name form may not have more than one slash",
                ));
            }
            let r = discovery.resolve(kind)?.clone();
            found.named.push((r, name.to_string()));
        }
        return Ok(found);
    }
    let Some((types, names)) = args.split_first() else {
        return Ok(found);
    };
    for word in types.split(',') {
        let members = discovery.category(word);
        if members.is_empty() {
            found.types.push(discovery.resolve(word)?.clone());
        } else {
            found.types.extend(members.into_iter().cloned());
        }
    }
    if !names.is_empty() {
        for r in std::mem::take(&mut found.types) {
            found
                .named
                .extend(names.iter().map(|n| (r.clone(), n.clone())));
        }
    }
    Ok(found)
}

/// Whether commands can be run in a pod: it has not ended.
pub fn is_live(pod: &Info) -> Result<()> {
    let phase = object::text(&pod.object, "/status/phase");
    if ["Succeeded", "Failed"].contains(&phase) {
        return Err(Error::text(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        )));
    }
    Ok(())
}

/// How lists are narrowed.
#[derive(Clone, Debug, Default)]
pub struct Narrow {
    pub labels: String,
    pub fields: String,
    pub all_namespaces: bool,
    pub all: bool,
}

/// The objects that args, files and selectors mean, as the server has them.
pub async fn existing(
    cx: &Context,
    args: &[String],
    files: &Files,
    narrow: &Narrow,
) -> Result<(Vec<Info>, Vec<Error>)> {
    let mut infos = Vec::new();
    let mut errors = Vec::new();
    if !files.is_empty() {
        let (listed, bad) = files.infos(cx).await?;
        errors.extend(bad);
        for mut info in listed {
            match info.read(cx).await {
                Ok(object) => {
                    info.object = object;
                    infos.push(info);
                }
                Err(e) => errors.push(e),
            }
        }
        return Ok((infos, errors));
    }
    let found = targets(cx, args).await?;
    if found.types.is_empty() && found.named.is_empty() {
        return Err(Error::text(
            "You must provide one or more resources by argument or filename.\nExample resource specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   '<resource> <name>'\n   '<resource>'",
        ));
    }
    if !found.types.is_empty()
        && !narrow.all
        && narrow.labels.is_empty()
        && narrow.fields.is_empty()
    {
        return Err(Error::text(
            "resource(s) were provided, but no name was specified",
        ));
    }
    let own = cx.namespace()?;
    for (resource, name) in found.named {
        let namespace = resource.namespaced.then(|| own.clone());
        let mut info = Info {
            resource,
            namespace,
            name,
            object: Value::Null,
            source: String::new(),
        };
        match info.read(cx).await {
            Ok(object) => {
                info.object = object;
                infos.push(info);
            }
            Err(e) => errors.push(e),
        }
    }
    for resource in found.types {
        match list(cx, &resource, narrow).await {
            Ok(some) => infos.extend(some),
            Err(e) => errors.push(e),
        }
    }
    Ok((infos, errors))
}

/// Every object of a resource, page by page.
pub async fn list(cx: &Context, resource: &Resource, narrow: &Narrow) -> Result<Vec<Info>> {
    let namespace = (resource.namespaced && !narrow.all_namespaces)
        .then(|| cx.namespace())
        .transpose()?;
    let mut infos = Vec::new();
    let mut next = String::new();
    loop {
        let call = Call::get(resource.path(namespace.as_deref()))
            .query("limit", limits::PAGE.to_string())
            .query_some("labelSelector", &narrow.labels)
            .query_some("fieldSelector", &narrow.fields)
            .query_some("continue", &next);
        let mut page = cx.rest().await?.json(&call).await?;
        next = object::text(&page, "/metadata/continue").to_string();
        let Some(Value::Array(list)) = page.get_mut("items").map(Value::take) else {
            return Ok(infos);
        };
        for mut item in list {
            item["apiVersion"] = resource.api_version().into();
            item["kind"] = resource.kind.clone().into();
            let ns = object::namespace(&item).to_string();
            infos.push(Info {
                resource: resource.clone(),
                namespace: (!ns.is_empty()).then_some(ns),
                name: object::name(&item).to_string(),
                object: item,
                source: String::new(),
            });
        }
        if next.is_empty() {
            return Ok(infos);
        }
    }
}

/// The one object an argument means: `TYPE/NAME`, `TYPE NAME`, or a bare name of `default`.
pub async fn one(cx: &Context, args: &[String], default: &str) -> Result<Info> {
    let words: Vec<String> = match args {
        [name] if !name.contains('/') => vec![default.to_string(), name.clone()],
        other => other.to_vec(),
    };
    let (mut infos, errors) = existing(cx, &words, &Files::default(), &Narrow::default()).await?;
    Error::collect(errors)?;
    match infos.len() {
        1 => Ok(infos.remove(0)),
        n => Err(Error::text(format!(
            "exactly one resource is expected, got {n}"
        ))),
    }
}
