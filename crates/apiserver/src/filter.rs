//! Which objects a list, watch or deletecollection is about.

use api::selector::{FieldSelector, LabelSelector};
use client::Entry;
use machinery::{ApiError, Descriptor};

use crate::call::Call;

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
    /// The filter of a request; 400 for selectors that are wrong or name unknown fields.
    pub fn of(call: &Call) -> Result<Self, ApiError> {
        let labels = LabelSelector::parse(call.query.get("labelSelector").unwrap_or(""))
            .map_err(ApiError::bad_request)?;
        let mut fields = FieldSelector::parse(call.query.get("fieldSelector").unwrap_or(""))
            .map_err(ApiError::bad_request)?;
        let d = call.descriptor();
        check_fields(d, &fields)?;
        for r in &mut fields.requirements {
            r.field = d.strategy.selects_as(&r.field).to_string();
        }
        let namespace = call.info.namespace.clone();
        let namespace = (d.namespaced() && !namespace.is_empty()).then_some(namespace);
        Ok(Self {
            namespace,
            labels,
            fields,
        })
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

fn check_fields(d: &Descriptor, fields: &FieldSelector) -> Result<(), ApiError> {
    for r in &fields.requirements {
        let known = r.field == "metadata.name"
            || (r.field == "metadata.namespace" && d.namespaced())
            || d.strategy.selectable_keys().contains(&r.field.as_str());
        if !known {
            return Err(ApiError::bad_request(format!(
                "field label not supported: {}",
                r.field
            )));
        }
    }
    Ok(())
}
