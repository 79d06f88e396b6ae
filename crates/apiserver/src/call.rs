//! One request on its way through a verb: what it is about, who asks, which options it carries.

use std::sync::Arc;

use http::HeaderMap;
use jiff::Timestamp;
use machinery::request::User;
use machinery::{ApiError, Descriptor};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::cache::WatchCache;
use crate::negotiate::{Format, Media, Transform};
use crate::query::Query;
use crate::registry::Served;
use crate::request_info::RequestInfo;
use crate::server::Inner;

/// A resource request.
pub struct Call {
    pub server: Arc<Inner>,
    pub served: Arc<Served>,
    pub info: RequestInfo,
    pub user: User,
    pub query: Query,
    pub headers: HeaderMap,
    pub format: Format,
    pub now: Timestamp,
    warnings: Mutex<Vec<String>>,
}

/// What to do about fields that are unknown or given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validation {
    Ignore,
    Warn,
    Strict,
}

// === Call ===

impl Call {
    /// A call that has passed the filters.
    pub fn new(
        server: Arc<Inner>,
        served: Arc<Served>,
        info: RequestInfo,
        user: User,
        (query, headers, format): (Query, HeaderMap, Format),
    ) -> Self {
        let warnings = Mutex::default();
        let now = Timestamp::now();
        Self {
            server,
            served,
            info,
            user,
            query,
            headers,
            format,
            now,
            warnings,
        }
    }

    /// The resource's descriptor.
    pub fn descriptor(&self) -> &Arc<Descriptor> {
        &self.served.descriptor
    }

    /// The resource's cache; 405 for kinds that are never stored.
    pub fn cache(&self) -> Result<&Arc<WatchCache>, ApiError> {
        self.served
            .cache
            .as_ref()
            .ok_or_else(|| self.not_allowed(&self.info.verb))
    }

    /// 405 for a verb.
    pub fn not_allowed(&self, verb: &str) -> ApiError {
        ApiError::method_not_allowed(&self.descriptor().group, &self.descriptor().resource, verb)
    }

    /// 404 for an object of this resource.
    pub fn not_found(&self, name: &str) -> ApiError {
        ApiError::not_found(&self.descriptor().group, &self.descriptor().resource, name)
    }

    /// A stored object as this version shows it.
    pub fn view(&self, entry: &client::Entry) -> Result<Value, ApiError> {
        let mut value = entry.value().map_err(ApiError::internal)?;
        self.descriptor().strategy.from_stored(&mut value);
        Ok(value)
    }

    /// Whether stored bytes are what the client is sent, as they are.
    pub fn sends_stored_bytes(&self) -> bool {
        self.format.transform == Transform::None
            && self.format.media == Media::Json
            && !self.format.pretty
            && !self.descriptor().strategy.converts()
    }

    /// Adds a text for a `Warning` header.
    pub fn warn(&self, text: impl Into<String>) {
        self.warnings.lock().push(text.into());
    }

    /// The texts for `Warning` headers.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }

    /// Whether nothing may be written. 422 for an unknown directive.
    pub fn dry_run(&self) -> Result<bool, ApiError> {
        let mut on = false;
        for value in self.query.all("dryRun") {
            if value != "All" {
                return Err(self.bad_option(&format!(
                    "dryRun: Unsupported value: \"{value}\": supported values: \"All\""
                )));
            }
            on = true;
        }
        Ok(on)
    }

    /// The fieldValidation directive. 422 for an unknown one.
    pub fn validation(&self) -> Result<Validation, ApiError> {
        match self.query.get("fieldValidation") {
            None | Some("" | "Warn") => Ok(Validation::Warn),
            Some("Ignore") => Ok(Validation::Ignore),
            Some("Strict") => Ok(Validation::Strict),
            Some(other) => Err(self.bad_option(&format!(
                "fieldValidation: Unsupported value: \"{other}\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
            ))),
        }
    }

    fn bad_option(&self, text: &str) -> ApiError {
        let kind = match self.info.verb.as_str() {
            "create" => "CreateOptions",
            "patch" => "PatchOptions",
            "delete" | "deletecollection" => "DeleteOptions",
            _ => "UpdateOptions",
        };
        ApiError::new(
            422,
            "Invalid",
            format!("{kind}.meta.k8s.io \"\" is invalid: {text}"),
        )
    }

    /// Who owns fields written by this request: `fieldManager`, else the user agent's first part.
    pub fn field_manager(&self) -> String {
        if let Some(name) = self.query.get("fieldManager").filter(|n| !n.is_empty()) {
            return name.to_string();
        }
        let agent = self
            .headers
            .get(http::header::USER_AGENT)
            .and_then(|v| v.to_str().ok());
        let agent = agent
            .unwrap_or("unknown")
            .split('/')
            .next()
            .unwrap_or("unknown");
        agent.chars().take(128).collect()
    }

    /// The options object that admission sees.
    pub fn options(&self, kind: &str) -> Value {
        let mut out = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if self.query.get("dryRun").is_some() {
            out["dryRun"] = json!(["All"]);
        }
        for name in ["fieldManager", "fieldValidation"] {
            if let Some(v) = self.query.get(name) {
                out[name] = json!(v);
            }
        }
        out
    }
}
