//! What an admission webhook answers: where the fuzz target enters (`tools/fuzz`).

use machinery::patch;
use serde_json::Value;

use crate::hooks::review::{answer, denial};

/// An AdmissionReview's answer, its refusal, and its patch on an object.
pub fn admission_answer(body: &[u8], object: &Value) -> bool {
    for (version, mutating) in [("v1", true), ("v1", false), ("v1beta1", true)] {
        let Ok(found) = answer(body, version, "uid", mutating) else {
            continue;
        };
        let _ = denial("hook.example.com", found.status.as_ref());
        if let Ok(operations) = patch::operations(&found.patch) {
            return patch::apply_operations(object, &operations).is_ok();
        }
    }
    false
}
