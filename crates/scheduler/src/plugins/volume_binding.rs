//! VolumeBinding. What pods that are not bound yet will use of volumes and claims.

/// Decisions about volumes by pods that are on their way.
#[derive(Debug, Default)]
pub struct Assumed;

impl Assumed {
    /// The pod with this UID is bound.
    pub fn settle(&mut self, _uid: &str) {}
}
