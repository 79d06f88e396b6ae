//! One request on its way through a verb: what it is about, who asks, which options it carries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use jiff::Timestamp;
use machinery::request::{Attempt, User};
use machinery::{ApiError, Causes, Descriptor};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::cache::WatchCache;
use crate::fairness::Seat;
use crate::limits;
use crate::negotiate::{Format, Media, Transform};
use crate::query::Query;
use crate::registry::Served;
use crate::request_info::RequestInfo;
use crate::server::Inner;

/// A resource request.
pub struct Call {
    pub server: Arc<Inner>,
    pub served: Arc<Served>,
    pub info: Arc<RequestInfo>,
    pub user: User,
    pub query: Query,
    pub headers: HeaderMap,
    pub format: Format,
    pub now: Timestamp,
    /// When the request is answered with a timeout.
    pub deadline: Option<Instant>,
    warnings: Mutex<Vec<String>>,
    annotations: Mutex<BTreeMap<String, String>>,
    upgrade: Mutex<Option<hyper::upgrade::OnUpgrade>>,
    seat: Mutex<Option<Seat>>,
}

/// What to do about fields that are unknown or given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validation {
    Ignore,
    Warn,
    Strict,
}

/// Directives of fieldValidation.
const VALIDATIONS: [&str; 4] = ["", "Ignore", "Strict", "Warn"];

/// Only `All` is known.
pub fn check_dry_run(values: &[&str], causes: &mut Causes) {
    if values.iter().any(|v| *v != "All") {
        causes.at("dryRun", |c| c.not_supported(&json!(values), &["All"]));
    }
}

/// 422 about options, where something is wrong with them.
pub fn refuse(kind: &str, causes: &Causes) -> Result<(), ApiError> {
    if causes.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(
        "meta.k8s.io",
        kind,
        "",
        causes.as_slice(),
    ))
}

/// Entries as a version shows them, where that is not as they are stored.
pub struct Shown {
    entries: Option<Vec<Arc<client::Entry>>>,
    by_webhook: bool,
}

impl Shown {
    /// An entry as selectors see it, by its place among those that were asked about.
    pub fn selected<'a>(
        &'a self,
        place: usize,
        stored: &'a Arc<client::Entry>,
    ) -> &'a Arc<client::Entry> {
        self.entries.as_ref().map_or(stored, |all| &all[place])
    }

    /// What is sent is made of it: of what a webhook made, or else of what is stored, for of another version's it would be
    /// made twice.
    pub fn sent(&self, place: usize, stored: Arc<client::Entry>) -> Arc<client::Entry> {
        match &self.entries {
            Some(all) if self.by_webhook => all[place].clone(),
            _ => stored,
        }
    }
}

// === Call ===

impl Call {
    /// A call that has passed the filters.
    pub fn new(
        server: Arc<Inner>,
        served: Arc<Served>,
        info: Arc<RequestInfo>,
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
            deadline: None,
            warnings,
            annotations: Mutex::default(),
            upgrade: Mutex::default(),
            seat: Mutex::default(),
        }
    }

    /// The same call with a deadline.
    pub fn until(self, deadline: Option<Instant>) -> Self {
        Self { deadline, ..self }
    }

    /// The same call on a connection that can be upgraded.
    pub fn upgradable(self, upgrade: Option<hyper::upgrade::OnUpgrade>) -> Self {
        Self {
            upgrade: Mutex::new(upgrade),
            ..self
        }
    }

    /// The same call with what it takes up of its priority level.
    pub(crate) fn seated(self, seat: Option<Seat>) -> Self {
        Self {
            seat: Mutex::new(seat),
            ..self
        }
    }

    /// What the call takes up of its priority level, to be given back before the answer ends.
    pub(crate) fn take_seat(&self) -> Option<Seat> {
        self.seat.lock().take()
    }

    /// The connection, where the client asks to go on with WebSocket.
    pub fn take_websocket(&self) -> Option<hyper::upgrade::OnUpgrade> {
        if !crate::connect::websocket::is_websocket(&self.headers) {
            return None;
        }
        self.upgrade.lock().take()
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

    /// 404 for an object of this resource; 500 where it is there but cannot be read.
    pub fn not_found(&self, name: &str) -> ApiError {
        let namespace = self.info.namespace_of(self.descriptor());
        let cache = self.served.cache.as_ref();
        if let Some(why) = cache.and_then(|c| c.broken(&namespace, name)) {
            return ApiError::internal(why);
        }
        ApiError::not_found(&self.descriptor().group, &self.descriptor().resource, name)
    }

    /// A stored object as this version shows it.
    pub async fn view(&self, entry: &Arc<client::Entry>) -> Result<Value, ApiError> {
        let d = self.descriptor();
        if d.strategy.converter().is_some() {
            let shown = crate::conversion::entry(&self.server, d, entry).await?;
            return shown.value().map_err(ApiError::internal);
        }
        self.plain_view(entry)
    }

    /// An object that no webhook needs to convert as this version shows it.
    pub fn plain_view(&self, entry: &client::Entry) -> Result<Value, ApiError> {
        let mut value = entry.value().map_err(ApiError::internal)?;
        self.descriptor().strategy.from_stored(&mut value);
        Ok(value)
    }

    /// Entries as selectors of this call must see them.
    pub async fn selectable(
        &self,
        entries: &[Arc<client::Entry>],
        filter: &crate::filter::Filter,
    ) -> Result<Shown, ApiError> {
        let d = self.descriptor();
        let by_webhook = d.strategy.converter().is_some();
        let looks = filter.names_fields() || by_webhook;
        let mut shown = Shown {
            entries: None,
            by_webhook,
        };
        if looks && crate::conversion::selects_shown(d) {
            let all = crate::conversion::entries(&self.server, d, entries.to_vec());
            shown.entries = Some(all.await?);
        }
        Ok(shown)
    }

    /// Whether stored bytes are what the client is sent, as they are.
    pub fn sends_stored_bytes(&self) -> bool {
        self.format.transform == Transform::None
            && self.format.media == Media::Json
            && !self.format.pretty
            && !self.descriptor().strategy.converts()
    }

    /// Whether the resource's kind has a protobuf form.
    pub fn has_protobuf(&self) -> bool {
        let d = self.descriptor();
        api::protobuf::has_form(&d.group, &d.version, &d.kind)
    }

    /// Whether the resource is one that a CRD defines.
    pub fn is_custom(&self) -> bool {
        self.descriptor().strategy.is_custom()
    }

    /// Whether upstream's generic server has the resource: definitions and custom resources.
    pub fn is_generic(&self) -> bool {
        self.is_custom() || self.descriptor().group == crate::crd::GROUP
    }

    /// Whether this is a server-side apply.
    pub fn applies(&self) -> bool {
        let kind = self.content_type().strip_prefix("application/apply-patch+");
        self.info.verb == "patch" && matches!(kind, Some("yaml" | "cbor"))
    }

    /// The bare media type of the body, as sent.
    pub fn content_type(&self) -> &str {
        let text = self.headers.get(http::header::CONTENT_TYPE);
        let text = text.and_then(|v| v.to_str().ok()).unwrap_or("");
        text.split(';').next().unwrap_or("")
    }

    /// 403 where the user may not create what an apply or update of a missing object would create.
    pub async fn may_create(&self) -> Result<(), ApiError> {
        let info = RequestInfo {
            verb: "create".into(),
            ..RequestInfo::clone(&self.info)
        };
        let attributes = crate::filters::attributes(&info, &Query::default(), &self.user);
        crate::filters::authorize(&self.server, &attributes).await
    }

    /// Adds a text for a `Warning` header.
    pub fn warn(&self, text: impl Into<String>) {
        self.warnings.lock().push(text.into());
    }

    /// The texts for `Warning` headers.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }

    /// Takes over what admission plugins have to say.
    pub fn note(&self, attempt: &Attempt<'_>) {
        let (warnings, annotations) = (attempt.warnings.take(), attempt.audit_annotations.take());
        warnings.into_iter().for_each(|w| self.warn(w));
        let mut all = self.annotations.lock();
        for (key, value) in annotations {
            all.entry(key).or_insert(value);
        }
    }

    /// The annotations for the audit event.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.annotations.lock().clone()
    }

    /// Whether nothing may be written.
    pub fn dry_run(&self) -> bool {
        self.query.all("dryRun").any(|v| v == "All")
    }

    /// Checks the options of a write, and gives whether it is a dry run.
    pub fn write_options(&self) -> Result<bool, ApiError> {
        self.check_write_options()?;
        Ok(self.dry_run())
    }

    /// 422 that tells all that is wrong with the options of a write.
    /// Upstream: metav1 validation of CreateOptions, UpdateOptions and PatchOptions.
    fn check_write_options(&self) -> Result<(), ApiError> {
        let mut causes = Causes::new();
        let kind = match self.info.verb.as_str() {
            "create" => "CreateOptions",
            "patch" => "PatchOptions",
            // They have validation of their own.
            "delete" | "deletecollection" => return Ok(()),
            _ => "UpdateOptions",
        };
        let manager = self.query.get("fieldManager").unwrap_or("");
        if kind == "PatchOptions" {
            match (self.applies(), self.query.get("force")) {
                (true, _) if manager.is_empty() => causes.at("fieldManager", |c| {
                    c.required("is required for apply patch");
                }),
                (false, Some(_)) => causes.at("force", |c| {
                    c.forbidden("may not be specified for non-apply patch");
                }),
                _ => {}
            }
        }
        causes.at("fieldManager", |c| {
            if manager.len() > limits::FIELD_MANAGER_BYTES {
                c.too_long(limits::FIELD_MANAGER_BYTES);
            }
            for (at, letter) in manager.char_indices().filter(|(_, l)| l.is_control()) {
                let code = u32::from(letter);
                let text = format!("invalid character U+{code:04X} (at position {at})");
                c.invalid(&json!(manager), text);
            }
        });
        let dry: Vec<&str> = self.query.all("dryRun").collect();
        check_dry_run(&dry, &mut causes);
        let validation = self.query.get("fieldValidation").unwrap_or("");
        if !VALIDATIONS.contains(&validation) {
            causes.at("fieldValidation", |c| {
                c.not_supported(&json!(validation), &VALIDATIONS);
            });
        }
        refuse(kind, &causes)
    }

    /// The fieldValidation directive, which was checked before.
    pub fn validation(&self) -> Validation {
        match self.query.get("fieldValidation") {
            Some("Ignore") => Validation::Ignore,
            Some("Strict") => Validation::Strict,
            _ => Validation::Warn,
        }
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
        let agent = agent.unwrap_or("").split('/').next().unwrap_or("");
        if agent.is_empty() {
            return "unknown".into();
        }
        let printable = agent.chars().filter(|c| !c.is_control());
        printable.take(limits::FIELD_MANAGER_BYTES).collect()
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
