//! Kinds that are asked and never stored: what all of them share. The answers come from crate `auth`.

use machinery::{Descriptor, Scope, Strategy, Verb};

/// Reviews have no rules of their own here: whoever answers checks the question.
struct Review;

impl Strategy for Review {
    fn name_problems(&self, _name: &str, _prefix: bool) -> Vec<String> {
        Vec::new()
    }
}

/// The descriptor of a create-only kind.
pub fn descriptor(
    group: &'static str,
    kind: &'static str,
    resource: &'static str,
    scope: Scope,
) -> Descriptor {
    Descriptor {
        verbs: &[Verb::Create],
        stored: false,
        ..Descriptor::new(group, "v1", kind, resource, scope, Review)
    }
}
