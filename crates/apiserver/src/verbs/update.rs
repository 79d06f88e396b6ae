//! UPDATE, and the loop that every change of a stored object goes through.
//! Upstream: registry/rest/update.go, GuaranteedUpdate; api-semantics §5.4.

use bytes::Bytes;
use client::Cache;
use machinery::object::{at, is_deleting, remove, set, str_at};
use machinery::request::Operation;
use machinery::{ApiError, Causes, SubresourceKind};
use serde_json::{Value, json};
use store::WriteError;

use super::managed;
use super::write::{self, Reservations, Target};
use crate::call::Call;
use crate::decode;
use crate::limits;
use crate::registry::storage_key;
use crate::response::Answer;

/// Replaces an object by the body's.
pub async fn update(call: &Call, body: &Bytes, sub: &str) -> Result<Answer, ApiError> {
    let d = call.descriptor().clone();
    let dry_run = call.write_options()?;
    let mut obj = decode::own(call, body)?;
    write::unique_owners(call, &mut obj, false);
    check_names(call, &obj)?;
    let namespace = call.info.namespace_of(&d);
    let missing = client::Cache::get(&**call.cache()?, &namespace, &call.info.name).is_none();
    if missing && sub.is_empty() && d.strategy.allow_create_on_update() {
        let (value, code) = super::create::new_object(call, obj, dry_run).await?;
        return super::get::written(call, code, value).await;
    }
    let value = replace(call, sub, dry_run, &mut |_| Ok(obj.clone())).await?;
    super::get::written(call, 200, value).await
}

/// A body must be named as the URL names it.
pub fn check_names(call: &Call, obj: &Value) -> Result<(), ApiError> {
    let given = str_at(obj, "metadata.namespace");
    let d = call.descriptor();
    if d.namespaced() && !given.is_empty() && given != call.info.namespace_of(d) {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let name = str_at(obj, "metadata.name");
    let url = &call.info.name;
    if name.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({url} based on URL) was undeterminable: name must be provided"
        )));
    }
    if name != url {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({url})"
        )));
    }
    Ok(())
}

/// Changes the object that the call names: `make` gives the new object from the stored one and runs
/// anew when somebody else was faster. What insists on a resourceVersion then meets a newer one: 409.
pub async fn replace(
    call: &Call,
    sub: &str,
    dry_run: bool,
    make: &mut (dyn FnMut(&Value) -> Result<Value, ApiError> + Send),
) -> Result<Value, ApiError> {
    let cache = call.cache()?.clone();
    let namespace = call.info.namespace_of(call.descriptor());
    for tried in 1.. {
        let name = &call.info.name;
        let entry = cache
            .get(&namespace, name)
            .ok_or_else(|| call.not_found(name))?;
        let before = call.view(&entry).await?;
        let mut obj = make(&before)?;
        check_identity(call, &mut obj, &before)?;
        let one = One {
            call,
            sub,
            dry_run,
            namespace: &namespace,
            entry: &entry,
            before: &before,
        };
        match one.change(obj, entry.revision).await? {
            Changed::Done(value) => return Ok(value),
            Changed::Conflict if tried >= limits::CONFLICT_TRIES => {
                let d = call.descriptor();
                return Err(ApiError::modified(&d.group, &d.resource, name));
            }
            // The newer state is in the store already; wait until this cache has it.
            Changed::Conflict => {
                let newest = call
                    .server
                    .store
                    .revision()
                    .await
                    .map_err(write::store_error)?;
                cache.wait_for(newest).await;
            }
        }
    }
    Err(ApiError::internal("no update was tried"))
}

/// Checks resourceVersion and uid against what is stored, and fills them in where the request names none.
fn check_identity(call: &Call, obj: &mut Value, before: &Value) -> Result<(), ApiError> {
    let d = call.descriptor();
    let stored = str_at(before, "metadata.resourceVersion").to_string();
    let asked = str_at(obj, "metadata.resourceVersion").to_string();
    let uid = str_at(obj, "metadata.uid").to_string();
    let known = str_at(before, "metadata.uid").to_string();
    if uid.is_empty() {
        set(obj, "metadata.uid", json!(known));
    } else if uid != known && call.info.verb == "update" {
        // A patch of it fails validation.
        let key = storage_key(d, &call.info.namespace_of(d), &call.info.name);
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {known}"
        );
        return Err(ApiError::conflict(
            &d.group,
            &d.resource,
            &call.info.name,
            &why,
        ));
    }
    if !asked.is_empty()
        && let Err(why) = crate::list_options::unsigned(&asked)
    {
        return Err(ApiError::new(500, "", why));
    }
    if asked.is_empty() || asked == "0" {
        if !d.strategy.allow_unconditional_update() {
            let mut causes = Causes::new();
            causes.at("metadata", |c| {
                c.at("resourceVersion", |c| {
                    c.invalid(&json!(0), "must be specified for an update");
                });
            });
            // Upstream names the resource here, as if it were the kind.
            return Err(ApiError::invalid(
                &d.group,
                &d.resource,
                &call.info.name,
                causes.as_slice(),
            ));
        }
        set(obj, "metadata.resourceVersion", json!(stored));
        return Ok(());
    }
    if asked != stored {
        return Err(ApiError::modified(&d.group, &d.resource, &call.info.name));
    }
    Ok(())
}

enum Changed {
    Done(Value),
    Conflict,
}

/// One try of a change.
struct One<'a> {
    call: &'a Call,
    sub: &'a str,
    dry_run: bool,
    namespace: &'a str,
    entry: &'a client::Entry,
    before: &'a Value,
}

impl One<'_> {
    async fn change(&self, mut obj: Value, expected: u64) -> Result<Changed, ApiError> {
        let call = self.call;
        let d = call.descriptor().clone();
        if d.namespaced() {
            set(&mut obj, "metadata.namespace", json!(self.namespace));
        }
        write::defaults(call, &mut obj);
        let target = Target {
            operation: Operation::Update,
            subresource: self.sub,
            namespace: self.namespace,
            name: &call.info.name,
            dry_run: self.dry_run,
            options: call.options("UpdateOptions"),
        };
        // Who owns what of a Scale is found out with it.
        if !call.applies() && self.sub != "scale" {
            managed::track(call, Some(self.before), &mut obj, self.sub);
        }
        let mut obj = self.mutated(&target, obj).await?;
        write::unique_owners(call, &mut obj, true);
        write::defaults(call, &mut obj);
        let owners = remove(&mut obj, "metadata.managedFields");
        self.prepare(&mut obj);
        // A strategy that freezes metadata does not mean these.
        match owners {
            Some(owners) => set(&mut obj, "metadata.managedFields", owners),
            None => {
                remove(&mut obj, "metadata.managedFields");
            }
        }
        let before = Some(self.before);
        let reserved = Reservations::begin(call, &mut obj, before, self.dry_run).await?;
        self.judge(&obj)?;
        if call.is_custom() {
            decode::whole_numbers(&mut obj);
        }
        d.strategy
            .warnings(&obj, before)
            .into_iter()
            .for_each(|w| call.warn(w));
        let mut obj = self.admitted(&target, obj).await?;
        managed::keep_times(&mut obj, self.before);
        if self.dry_run && call.is_custom() {
            crate::conversion::reread(&d, &mut obj);
        }
        let same = obj == *self.before;
        if self.dry_run || (same && !d.strategy.converts()) {
            return Ok(Changed::Done(obj));
        }
        let key = storage_key(&d, self.namespace, &call.info.name);
        let finished = is_finished(&d, &obj);
        let written = if finished && !same {
            let gone = call.server.store.delete(key.into(), expected).await;
            if gone.is_ok() {
                super::delete::release(call, &obj).await;
            }
            gone
        } else {
            let data = write::encode(call, &mut obj).await?;
            if self.is_stored(&data) {
                return Ok(Changed::Done(self.before.clone()));
            }
            let lease = write::lease(call).await?;
            let store = &call.server.store;
            store.update(key.into(), data, expected, lease).await
        };
        match written {
            Ok(revision) => {
                reserved.commit();
                if finished {
                    // What is gone is shown as it was asked for.
                    call.cache()?.wait_for(revision).await;
                } else {
                    write::visible(call, &mut obj, revision).await?;
                }
                crate::conversion::reread(&d, &mut obj);
                Ok(Changed::Done(obj))
            }
            Err(WriteError::Conflict(None)) => Err(call.not_found(&call.info.name)),
            Err(WriteError::Conflict(Some(_))) => Ok(Changed::Conflict),
            Err(WriteError::Store(e)) => Err(write::store_error(e)),
        }
    }

    /// Whether this is what is stored, byte for byte. What is read may be more: fields have defaults and are left out by
    /// the schema of today, and what was stored in another version or by another schema is written again.
    fn is_stored(&self, data: &[u8]) -> bool {
        crate::cache::with_revision(data, self.entry.revision) == self.entry.bytes
    }

    /// The Scale that stands for an object, where this is a write of one.
    fn scale(&self, obj: &Value) -> Option<(&SubresourceKind, Value)> {
        let subs = &self.call.descriptor().subresources;
        let kind = &subs.iter().find(|s| s.name == self.sub)?.kind;
        Some((kind, crate::scale::shown(kind, obj)?))
    }

    async fn mutated(&self, target: &Target<'_>, obj: Value) -> Result<Value, ApiError> {
        let call = self.call;
        if let (Some((kind, scale)), Some((_, before))) =
            (self.scale(&obj), self.scale(self.before))
        {
            let after = write::mutate(call, target, Some(scale.clone()), Some(&before)).await?;
            return match after {
                Some(after) if after != scale => crate::scale::with_shown(call, kind, &obj, &after),
                _ => Ok(obj),
            };
        }
        let obj = write::mutate(call, target, Some(obj), Some(self.before)).await?;
        Ok(obj.unwrap_or_default())
    }

    async fn admitted(&self, target: &Target<'_>, obj: Value) -> Result<Value, ApiError> {
        let call = self.call;
        if let (Some((_, scale)), Some((_, before))) = (self.scale(&obj), self.scale(self.before)) {
            write::validate(call, target, Some(scale), Some(&before)).await?;
            return Ok(obj);
        }
        let obj = write::validate(call, target, Some(obj), Some(self.before)).await?;
        Ok(obj.unwrap_or_default())
    }

    /// The strategy's preparation, and the metadata that clients cannot change.
    fn prepare(&self, obj: &mut Value) {
        let strategy = &self.call.descriptor().strategy;
        let cx = write::context(self.call, self.namespace, self.sub);
        match self.sub {
            "" => strategy.prepare_update(obj, self.before, &cx),
            "status" => strategy.prepare_status_update(obj, self.before, &cx),
            other => strategy.prepare_subresource(other, obj, self.before, &cx),
        }
        for field in [
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
        ] {
            let path = format!("metadata.{field}");
            match at(self.before, &path) {
                Some(v) => set(obj, &path, v.clone()),
                None => {
                    remove(obj, &path);
                }
            }
        }
        remove(obj, "metadata.selfLink");
        let counts = strategy.has_generation() && self.sub != "status";
        if counts && strategy.generation_changes(obj, self.before) {
            let n = machinery::object::i64_at(self.before, "metadata.generation").unwrap_or(0);
            set(obj, "metadata.generation", json!(n + 1));
        }
    }

    fn judge(&self, obj: &Value) -> Result<(), ApiError> {
        let strategy = &self.call.descriptor().strategy;
        let mut causes = Causes::new();
        if self.call.is_generic() {
            machinery::meta::validate_generic_update(obj, self.before, &mut causes);
        } else {
            machinery::meta::validate_update(obj, self.before, &mut causes);
        }
        match self.sub {
            "" => strategy.validate_update(obj, self.before, &mut causes),
            "status" => strategy.validate_status_update(obj, self.before, &mut causes),
            other => strategy.validate_subresource(other, obj, self.before, &mut causes),
        }
        write::judge(self.call, obj, &causes)
    }
}

/// Whether a deleted object has nothing left that holds it.
pub fn is_finished(d: &machinery::Descriptor, obj: &Value) -> bool {
    is_deleting(obj)
        && machinery::object::list_at(obj, "metadata.finalizers").is_empty()
        && machinery::object::i64_at(obj, "metadata.deletionGracePeriodSeconds").unwrap_or(0) == 0
        && !d.strategy.is_held(obj)
}
