//! Which objects a list, watch or deletecollection is about.

use api::selector::{FieldSelector, LabelSelector};
use client::Entry;
use machinery::ApiError;

use crate::call::Call;
use crate::list_options::ListOptions;

/// Namespace, labels and fields that an object must have.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `None` for all namespaces.
    pub namespace: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
}

// === Filter ===

impl Filter {
    /// The filter of a request; an error where its options are wrong.
    pub fn of(call: &Call) -> Result<Self, ApiError> {
        Ok(Self::with(call, &ListOptions::of(call)?))
    }

    /// The filter of a request with these options.
    pub fn with(call: &Call, options: &ListOptions) -> Self {
        let namespace = call.info.namespace.clone();
        let namespaced = call.descriptor().namespaced() && !namespace.is_empty();
        Self {
            namespace: namespaced.then_some(namespace),
            labels: options.labels.clone(),
            fields: options.fields.clone(),
        }
    }

    /// Whether an object is meant.
    pub fn matches(&self, e: &Entry) -> bool {
        if self
            .namespace
            .as_deref()
            .is_some_and(|n| n != &*e.namespace)
        {
            return false;
        }
        if !self.labels.is_empty() && !self.labels.matches(|k| e.labels.get(k).map(|v| &**v)) {
            return false;
        }
        self.fields.is_empty() || self.fields.matches(|f| field(e, f))
    }

    /// How much of a resource is asked for, as metrics say it.
    pub fn scope(&self) -> &'static str {
        match self.namespace {
            Some(_) => "namespace",
            None => "cluster",
        }
    }

    /// Whether fields are asked for.
    pub fn names_fields(&self) -> bool {
        !self.fields.is_empty()
    }

    /// Whether nothing but the namespace is asked for.
    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether at most one object can be meant: upstream then reads one key.
    pub fn is_single(&self, namespaced: bool) -> bool {
        let namespace = self.namespace.as_deref();
        let namespace = namespace.or_else(|| self.fields.requires("metadata.namespace"));
        let name = self.fields.requires("metadata.name");
        let is_segment = |n: &str| !n.is_empty() && is_path_segment(n);
        name.is_some_and(is_segment) && (!namespaced || namespace.is_some_and(is_segment))
    }
}

/// Whether a name can stand in a path. Upstream: content.IsPathSegmentName.
pub fn is_path_segment(name: &str) -> bool {
    ![".", ".."].contains(&name) && !name.contains(['/', '%'])
}

fn field<'a>(e: &'a Entry, name: &str) -> Option<&'a str> {
    match name {
        "metadata.name" => Some(&e.name),
        "metadata.namespace" => Some(&e.namespace),
        other => e
            .fields
            .iter()
            .find(|(k, _)| *k == other)
            .map(|(_, v)| &**v),
    }
}
