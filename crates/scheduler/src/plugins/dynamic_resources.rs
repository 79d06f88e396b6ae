//! DynamicResources. Devices are not allocated yet: a pod with resource claims is refused with a text
//! that says so; for all others the plugin speaks as upstream's does.

use crate::framework::{Attempt, Cycle, Plugin, PostFilter, PreFilter, Rejection};

pub struct DynamicResources;

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        "DynamicResources"
    }

    fn pre_filter<'a>(&self, cycle: &Cycle<'a>) -> Result<PreFilter<'a>, Rejection> {
        if cycle.pod.has_claims {
            let text = "spec.resourceClaims: dynamic resource allocation is not supported yet";
            return Err(Rejection::unresolvable(text));
        }
        Ok(PreFilter::Skip)
    }

    fn post_filter(&self, attempt: &Attempt<'_>) -> PostFilter {
        let reason = if attempt.cycle.pod.has_claims {
            "still not schedulable"
        } else {
            "no new claims to deallocate"
        };
        PostFilter::Rejected {
            reason: reason.into(),
            clear_nomination: false,
        }
    }
}
