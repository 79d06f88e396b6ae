//! The admission plugins over one attempt, in order, and the versions that they may ask for.

use std::sync::Arc;

use async_trait::async_trait;
use machinery::request::{Admission, Attempt, Versions};
use machinery::{ApiError, Descriptor};
use serde_json::Value;

use crate::server::Inner;

/// Runs the mutating plugins, and once more where one of them asks for it.
pub async fn mutate(
    plugins: &[Arc<dyn Admission>],
    attempt: &mut Attempt<'_>,
) -> Result<(), ApiError> {
    round(plugins, attempt).await?;
    if !attempt.reinvocation.wanted {
        return Ok(());
    }
    attempt.reinvocation.again = true;
    round(plugins, attempt).await
}

async fn round(plugins: &[Arc<dyn Admission>], attempt: &mut Attempt<'_>) -> Result<(), ApiError> {
    for plugin in plugins {
        if plugin.handles(attempt.operation) {
            plugin.mutate(attempt).await?;
        }
    }
    Ok(())
}

/// Runs the validating plugins.
pub async fn validate(
    plugins: &[Arc<dyn Admission>],
    attempt: &Attempt<'_>,
) -> Result<(), ApiError> {
    for plugin in plugins {
        if plugin.handles(attempt.operation) {
            plugin.validate(attempt).await?;
        }
    }
    Ok(())
}

#[async_trait]
impl Versions for Inner {
    fn equivalents(&self, d: &Descriptor) -> Vec<Arc<Descriptor>> {
        let all = self.registry.all().into_iter();
        let same =
            all.filter(|s| s.descriptor.stored && s.descriptor.storage_prefix == d.storage_prefix);
        same.map(|s| s.descriptor.clone()).collect()
    }

    async fn convert(
        &self,
        object: Value,
        from: &Descriptor,
        to: &Descriptor,
    ) -> Result<Value, ApiError> {
        crate::conversion::between(object, from, to).await
    }
}
