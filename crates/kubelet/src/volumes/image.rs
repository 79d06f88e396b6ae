//! image: the root filesystem of an image, mounted read-only by the runtime. The pull is done before
//! containers start (`sync`). Upstream: pkg/volume/image.

use super::{Kind, Mounted};

pub static KIND: Kind = Kind {
    plugin: "",
    is: |v| v.image.is_some(),
    setup: |cx| {
        Box::pin(async move {
            let reference = cx.volume.image.as_ref().and_then(|i| i.reference.clone());
            Ok(Mounted {
                read_only: true,
                image: Some(reference.unwrap_or_default()),
                ..Mounted::default()
            })
        })
    },
};
