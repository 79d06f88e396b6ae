//! The admission plugins over one attempt, in order, and the versions that they may ask for.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use machinery::request::{Attempt, Versions};
use machinery::{ApiError, Descriptor};
use serde_json::Value;

use crate::metrics::admission::Step;
use crate::server::Inner;

/// Runs the mutating plugins, and once more where one of them asks for it.
pub async fn mutate(server: &Inner, attempt: &mut Attempt<'_>) -> Result<(), ApiError> {
    let begun = Instant::now();
    let done = rounds(server, attempt).await;
    let step = Step {
        validates: false,
        operation: attempt.operation,
    };
    server
        .admission_times()
        .inspect(|t| t.step(step, begun.elapsed(), done.is_err()));
    done
}

async fn rounds(server: &Inner, attempt: &mut Attempt<'_>) -> Result<(), ApiError> {
    round(server, attempt).await?;
    if !attempt.reinvocation.wanted {
        return Ok(());
    }
    attempt.reinvocation.again = true;
    round(server, attempt).await
}

async fn round(server: &Inner, attempt: &mut Attempt<'_>) -> Result<(), ApiError> {
    let step = Step {
        validates: false,
        operation: attempt.operation,
    };
    for (place, plugin) in server.admission().iter().enumerate() {
        if plugin.handles(attempt.operation) {
            let begun = Instant::now();
            let done = plugin.mutate(attempt).await;
            server
                .admission_times()
                .inspect(|t| t.plugin(place, step, begun.elapsed(), done.is_err()));
            done?;
        }
    }
    Ok(())
}

/// Runs the validating plugins.
pub async fn validate(server: &Inner, attempt: &Attempt<'_>) -> Result<(), ApiError> {
    let whole = Instant::now();
    let step = Step {
        validates: true,
        operation: attempt.operation,
    };
    let mut done = Ok(());
    for (place, plugin) in server.admission().iter().enumerate() {
        if plugin.handles(attempt.operation) {
            let begun = Instant::now();
            done = plugin.validate(attempt).await;
            server
                .admission_times()
                .inspect(|t| t.plugin(place, step, begun.elapsed(), done.is_err()));
        }
        if done.is_err() {
            break;
        }
    }
    server
        .admission_times()
        .inspect(|t| t.step(step, whole.elapsed(), done.is_err()));
    done
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
