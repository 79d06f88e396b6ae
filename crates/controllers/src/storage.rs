//! Controllers of volumes and their claims.

pub mod ephemeral_volume;
pub mod persistent_volume_binder;
pub mod persistent_volume_expander;

pub mod pv_protection;
pub mod pvc_protection;
pub mod vac_protection;
