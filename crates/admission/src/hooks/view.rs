//! A write as a webhook sees it: in the version that its rules name. Upstream: admission.VersionedAttributes.

use std::sync::Arc;

use api::schema;
use machinery::request::{Attempt, GroupVersionKind};
use machinery::{ApiError, Descriptor, SubresourceKind, conform};
use serde_json::Value;

use super::matching::Invocation;

/// The objects of an attempt in some version. While it shows the version of the request, the attempt's own objects
/// are used and nothing is held here.
#[derive(Default)]
pub struct View {
    shown: Option<Shown>,
    /// Whether a patch has changed the object.
    pub dirty: bool,
}

struct Shown {
    version: Arc<Descriptor>,
    object: Option<Value>,
    before: Option<Value>,
}

impl View {
    /// The object as it is shown now.
    pub fn object<'a>(&'a self, a: &'a Attempt<'_>) -> Option<&'a Value> {
        match &self.shown {
            Some(s) => s.object.as_ref(),
            None => a.object.as_ref(),
        }
    }

    /// The stored object as it is shown now.
    pub fn before<'a>(&'a self, a: &'a Attempt<'_>) -> Option<&'a Value> {
        match &self.shown {
            Some(s) => s.before.as_ref(),
            None => a.before,
        }
    }

    /// Shows the version of an invocation.
    pub async fn show(&mut self, a: &Attempt<'_>, i: &Invocation) -> Result<(), ApiError> {
        // Options, Scales and Bindings are the same in every version of what they belong to.
        if !is_resource(a.descriptor, a.subresource) {
            return Ok(());
        }
        let shown = self.shown.as_ref().map(|s| s.version.version.clone());
        let wanted = i.version.as_ref();
        match (shown, wanted) {
            (None, None) => return Ok(()),
            (Some(shown), Some(wanted)) if shown == wanted.version => return Ok(()),
            _ => {}
        }
        let now = self.shown.take();
        let (object, before, from) = match now {
            Some(s) => (s.object, s.before, Some(s.version)),
            None => (a.object.clone(), a.before.cloned(), None),
        };
        let from: &Descriptor = from.as_deref().unwrap_or(a.descriptor);
        let to: Arc<Descriptor> = match wanted {
            Some(version) => version.clone(),
            None => Arc::new(a.descriptor.clone()),
        };
        let object = converted(a, object, from, &to).await?;
        let before = converted(a, before, from, &to).await?;
        self.shown = Some(Shown {
            version: to,
            object,
            before,
        });
        Ok(())
    }

    /// Puts a patched object in the place of the shown one.
    pub fn replace(&mut self, a: &mut Attempt<'_>, object: Value) {
        self.dirty = true;
        match &mut self.shown {
            Some(s) => s.object = Some(object),
            None => a.object = Some(object),
        }
    }

    /// Gives the attempt the object back, in its own version.
    pub async fn restore(self, a: &mut Attempt<'_>) -> Result<(), ApiError> {
        let Some(shown) = self.shown.filter(|_| self.dirty) else {
            return Ok(());
        };
        a.object = converted(a, shown.object, &shown.version, a.descriptor).await?;
        Ok(())
    }

    /// A patched object as it is once decoded again: fields that its kind does not know are gone, defaults are there.
    pub fn settled(
        &self,
        a: &Attempt<'_>,
        kind: &GroupVersionKind,
        mut object: Value,
    ) -> Result<Value, ApiError> {
        if let Some(schema) = schema::lookup(&kind.group, &kind.version, &kind.kind) {
            conform::conform(schema, &mut object).map_err(ApiError::internal)?;
        }
        if is_resource(a.descriptor, a.subresource) {
            let version = self.shown.as_ref().map(|s| &*s.version);
            let strategy = &version.unwrap_or(a.descriptor).strategy;
            strategy.set_defaults(&mut object);
        }
        Ok(object)
    }
}

/// Whether an endpoint's objects are of the resource's own kind.
fn is_resource(d: &Descriptor, sub: &str) -> bool {
    let found = d.subresources.iter().find(|s| s.name == sub);
    !matches!(
        found.map(|s| &s.kind),
        Some(SubresourceKind::Scale { .. } | SubresourceKind::Connect { .. })
    )
}

async fn converted(
    a: &Attempt<'_>,
    object: Option<Value>,
    from: &Descriptor,
    to: &Descriptor,
) -> Result<Option<Value>, ApiError> {
    match object {
        None => Ok(None),
        Some(object) if from.version == to.version && from.group == to.group => Ok(Some(object)),
        Some(object) => a.versions.convert(object, from, to).await.map(Some),
    }
}
