//! ephemeral: a claim of its own, made by the ephemeral-volume controller. Upstream: pkg/volume/ephemeral.

use super::{Kind, persistent_volume_claim};
use crate::pod;

pub static KIND: Kind = Kind {
    plugin: "",
    is: |v| v.ephemeral.is_some(),
    setup: |cx| {
        Box::pin(async move {
            let claim = format!("{}-{}", pod::name(cx.pod), cx.volume.name);
            persistent_volume_claim::bound(cx, &claim, false, Some(pod::uid(cx.pod)))
        })
    },
};
