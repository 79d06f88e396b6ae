//! The admission plugins over one attempt, in order, and the versions that they may ask for.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use machinery::request::{Attempt, Operation, Versions};
use machinery::{ApiError, Descriptor};
use serde_json::Value;

use crate::metrics::admission::{Admission, Step};
use crate::server::Inner;

/// Runs the mutating plugins, and once more where one of them asks for it.
pub async fn mutate(server: &Inner, attempt: &mut Attempt<'_>) -> Result<(), ApiError> {
    let clock = Clock::start(server, false, attempt.operation);
    let done = rounds(server, attempt).await;
    clock.step(done.is_err());
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
    let mut clock = Clock::start(server, false, attempt.operation);
    for (place, plugin) in server.admission().iter().enumerate() {
        if plugin.steps().mutates() && plugin.handles(attempt.operation) {
            let done = plugin.mutate(attempt).await;
            clock.plugin(place, done.is_err());
            done?;
        }
    }
    Ok(())
}

/// Runs the validating plugins.
pub async fn validate(server: &Inner, attempt: &Attempt<'_>) -> Result<(), ApiError> {
    let mut clock = Clock::start(server, true, attempt.operation);
    let mut done = Ok(());
    for (place, plugin) in server.admission().iter().enumerate() {
        if plugin.steps().validates() && plugin.handles(attempt.operation) {
            done = plugin.validate(attempt).await;
            clock.plugin(place, done.is_err());
        }
        if done.is_err() {
            break;
        }
    }
    clock.step(done.is_err());
    done
}

/// Times a step and its plugins. It is asked for the time once a plugin: one's end is the next one's begin.
struct Clock<'a> {
    times: Option<&'a Admission>,
    step: Step,
    begun: Instant,
    last: Instant,
}

impl<'a> Clock<'a> {
    fn start(server: &'a Inner, validates: bool, operation: Operation) -> Self {
        let now = Instant::now();
        Self {
            times: server.admission_times(),
            step: Step {
                validates,
                operation,
            },
            begun: now,
            last: now,
        }
    }

    /// The plugin at a place of the chain has answered.
    fn plugin(&mut self, place: usize, refused: bool) {
        let now = Instant::now();
        if let Some(times) = self.times {
            times.plugin(place, self.step, now - self.last, refused);
        }
        self.last = now;
    }

    /// All have.
    fn step(&self, refused: bool) {
        if let Some(times) = self.times {
            times.step(self.step, self.begun.elapsed(), refused);
        }
    }
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
