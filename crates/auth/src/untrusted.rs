//! What clients show and ask: where the fuzz targets enter (`tools/fuzz`).

use std::sync::Arc;

use client::Reads;
use machinery::Causes;
use serde_json::Value;

use crate::bootstrap_token::BootstrapTokens;
use crate::reviews::AccessReview;
use crate::{reviews, x509};

/// A bootstrap token against the Secrets that `reads` holds.
pub fn bootstrap_token(token: &str, reads: Arc<dyn Reads>) -> bool {
    BootstrapTokens::new(reads).check(token, 0).is_some()
}

/// The user that a DER certificate names.
pub fn certificate(der: &[u8]) -> bool {
    x509::user_of(der).is_ok_and(|user| user.is_some())
}

/// A review of the SubjectAccessReview family: validated, and made a question to authorizers.
pub fn access_review(body: &Value) -> bool {
    let kinds = [
        AccessReview::Subject,
        AccessReview::LocalSubject,
        AccessReview::SelfSubject,
    ];
    let mut valid = false;
    for kind in kinds {
        let mut causes = Causes::new();
        kind.validate(body, &mut causes);
        valid |= causes.is_empty();
    }
    let attributes = reviews::attributes_of(body, reviews::subject_of(body));
    let fields = attributes.field_selector.as_deref().unwrap_or("");
    let labels = attributes.label_selector.as_deref().unwrap_or("");
    let parsed = api::selector::FieldSelector::parse(fields).is_ok()
        && api::selector::LabelSelector::parse(labels).is_ok();
    valid && parsed
}
