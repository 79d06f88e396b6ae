//! What every write shares: system fields, admission, validation, encoding, storing.

use bytes::Bytes;
use client::Cache;
use machinery::descriptor::Reservation;
use machinery::object::{list_at, remove, set, str_at};
use machinery::request::{Attempt, Operation};
use machinery::{ApiError, Causes, WriteContext};
use rand::Rng;
use serde_json::{Value, json};

use crate::admit;
use crate::call::Call;
use crate::limits;

/// Letters of generated names: upstream leaves out vowels and look-alikes.
const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A write on its way: which operation on which part of which object.
pub struct Target<'a> {
    pub operation: Operation,
    /// `""` for the main resource.
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub dry_run: bool,
    pub options: Value,
}

/// What the strategy is told about a write.
pub fn context<'a>(call: &'a Call, namespace: &'a str, subresource: &'a str) -> WriteContext<'a> {
    WriteContext {
        now: call.now,
        user: &call.user,
        namespace,
        subresource,
    }
}

/// Runs the mutating plugins over an object.
pub async fn mutate(
    call: &Call,
    t: &Target<'_>,
    object: Option<Value>,
    before: Option<&Value>,
) -> Result<Option<Value>, ApiError> {
    let mut attempt = attempt(call, t, object, before);
    let done = admit::mutate(&call.server, &mut attempt).await;
    call.note(&attempt);
    done.map(|()| attempt.object)
}

/// Runs the validating plugins over an object.
pub async fn validate(
    call: &Call,
    t: &Target<'_>,
    object: Option<Value>,
    before: Option<&Value>,
) -> Result<Option<Value>, ApiError> {
    let attempt = attempt(call, t, object, before);
    let done = admit::validate(&call.server, &attempt).await;
    call.note(&attempt);
    done.map(|()| attempt.object)
}

fn attempt<'a>(
    call: &'a Call,
    t: &'a Target<'_>,
    object: Option<Value>,
    before: Option<&'a Value>,
) -> Attempt<'a> {
    Attempt {
        subresource: t.subresource,
        namespace: t.namespace,
        name: t.name,
        object,
        before,
        dry_run: t.dry_run,
        options: &t.options,
        deadline: call.deadline,
        versions: &*call.server,
        ..Attempt::new(t.operation, call.descriptor(), &call.user)
    }
}

/// Drops owners that an object names twice, and warns of them.
pub fn unique_owners(call: &Call, obj: &mut Value, mutated: bool) {
    let all = list_at(obj, "metadata.ownerReferences");
    let (mut kept, mut twice): (Vec<Value>, Vec<&str>) = (Vec::new(), Vec::new());
    for owner in all {
        match kept.contains(owner) {
            true => twice.push(str_at(owner, "uid")),
            false => kept.push(owner.clone()),
        }
    }
    if twice.is_empty() {
        return;
    }
    let when = if mutated {
        " after mutating admission happens"
    } else {
        ""
    };
    call.warn(format!(
        ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        twice.join(", ")
    ));
    set(obj, "metadata.ownerReferences", json!(kept));
}

/// Fills in defaults. What an applied configuration leaves behind is not tidied up: validation judges it.
pub fn defaults(call: &Call, obj: &mut Value) {
    let strategy = &call.descriptor().strategy;
    let scale = call.info.subresource == "scale";
    if call.is_custom() && (scale || call.applies()) {
        // Upstream decodes a Scale, and puts its replicas into what is stored; what is applied got its defaults then.
        return;
    }
    if call.applies() && !scale {
        strategy.fill_defaults(obj);
    } else {
        strategy.set_defaults(obj);
    }
}

/// Fills in what the server owns of a new object's metadata; a generateName becomes a name.
pub fn system_fields(call: &Call, obj: &mut Value, namespace: &str) {
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
    ] {
        remove(obj, &format!("metadata.{field}"));
    }
    set(obj, "metadata.uid", json!(crate::filters::fresh_uid()));
    set(
        obj,
        "metadata.creationTimestamp",
        json!(timestamp(call.now)),
    );
    if call.descriptor().namespaced() {
        set(obj, "metadata.namespace", json!(namespace));
    }
    let base = str_at(obj, "metadata.generateName").to_string();
    if str_at(obj, "metadata.name").is_empty() && !base.is_empty() {
        set(obj, "metadata.name", json!(generate_name(&base)));
    }
    if call.descriptor().strategy.has_generation() {
        set(obj, "metadata.generation", json!(1));
    } else {
        remove(obj, "metadata.generation");
    }
}

/// A time as the API writes it: whole seconds.
pub fn timestamp(t: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(t.as_second())
        .unwrap_or(t)
        .to_string()
}

/// A base with five random letters behind it.
pub fn generate_name(base: &str) -> String {
    let mut rng = rand::rng();
    let mut end = base.len().min(limits::GENERATE_BASE);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let letters =
        (0..limits::SUFFIX_LETTERS).map(|_| char::from(SUFFIX[rng.random_range(0..SUFFIX.len())]));
    format!("{}{}", &base[..end], letters.collect::<String>())
}

/// 422 where something is wrong.
pub fn judge(call: &Call, obj: &Value, causes: &Causes) -> Result<(), ApiError> {
    causes.warnings().iter().for_each(|w| call.warn(w.clone()));
    if causes.is_empty() {
        return Ok(());
    }
    let d = call.descriptor();
    let name = match str_at(obj, "metadata.name") {
        "" => str_at(obj, "metadata.generateName"),
        name => name,
    };
    let (mut group, mut kind) = (&*d.group, &*d.kind);
    if call.is_custom() {
        // Upstream goes by what the object says.
        kind = str_at(obj, "kind");
        group = str_at(obj, "apiVersion")
            .split_once('/')
            .map_or("", |(group, _)| group);
    }
    Err(ApiError::invalid(group, kind, name, causes.as_slice()))
}

/// Reservations of a write; whatever way it ends, each is told.
#[derive(Default)]
pub struct Reservations(Vec<Box<dyn Reservation>>);

impl Reservations {
    /// Asks every allocator of the resource.
    pub async fn begin(
        call: &Call,
        obj: &mut Value,
        before: Option<&Value>,
        dry_run: bool,
    ) -> Result<Self, ApiError> {
        let mut all = Self::default();
        for allocator in &call.descriptor().allocators {
            all.0.push(allocator.begin(obj, before, dry_run).await?);
        }
        Ok(all)
    }

    /// The write was stored.
    pub fn commit(mut self) {
        for r in self.0.drain(..) {
            r.finish(true);
        }
    }
}

impl Drop for Reservations {
    fn drop(&mut self) {
        for r in self.0.drain(..) {
            r.finish(false);
        }
    }
}

/// The bytes to store: no resourceVersion, which goes from the object too, maps sorted.
pub async fn encode(call: &Call, obj: &mut Value) -> Result<Bytes, ApiError> {
    remove(obj, "metadata.resourceVersion");
    let other = crate::conversion::stored(call.descriptor(), obj).await?;
    let data = serde_json::to_vec(other.as_ref().unwrap_or(obj)).map_err(ApiError::internal)?;
    if data.len() > store::limits::VALUE_BYTES {
        return Err(ApiError::too_large("etcdserver: request is too large"));
    }
    Ok(data.into())
}

/// A lease for objects that expire by themselves, 0 for all others.
pub async fn lease(call: &Call) -> Result<i64, ApiError> {
    let d = call.descriptor();
    if d.resource != "events" {
        return Ok(0);
    }
    call.server.event_lease().await
}

/// Waits until readers see a write, and puts its revision into the object.
pub async fn visible(call: &Call, obj: &mut Value, revision: u64) -> Result<(), ApiError> {
    set(obj, "metadata.resourceVersion", json!(revision.to_string()));
    call.cache()?.wait_for(revision).await;
    Ok(())
}

/// An error of the store as the client reads it.
pub fn store_error(e: store::Error) -> ApiError {
    match e {
        store::Error::TooLarge(text) => ApiError::too_large(text),
        // etcd's text, with the code and no reason, as upstream passes it on.
        store::Error::NoSpace => {
            ApiError::new(500, "", "etcdserver: mvcc: database space exceeded")
        }
        store::Error::Closed => ApiError::unavailable("the store is closed"),
        other => ApiError::internal(other),
    }
}
