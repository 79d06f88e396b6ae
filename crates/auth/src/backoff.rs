//! Tries again what a webhook could not answer. Upstream: k8s.io/apiserver/pkg/util/webhook, WithExponentialBackoff
//! with the servers' DefaultAuthWebhookRetryBackoff.

use std::time::Duration;

use webhook::Failure;

use crate::limits;

/// The answer of the first call that is not to be tried again, or the last failure.
pub async fn retried<T, F>(call: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    after(limits::WEBHOOK_RETRY_FIRST, call).await
}

async fn after<T, F>(first: Duration, mut call: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut wait = first;
    for _ in 1..limits::WEBHOOK_TRIES {
        match call().await {
            Err(failure) if failure.retry => {}
            done => return done,
        }
        tokio::time::sleep(jittered(wait)).await;
        wait = wait.mul_f64(1.5);
    }
    call().await
}

/// Up to a fifth more.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(1.0 + rand::random_range(0.0..0.2))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn only_what_may_succeed_later_is_tried_again() {
        for (retry, wanted) in [(true, limits::WEBHOOK_TRIES), (false, 1)] {
            let calls = Cell::new(0);
            let failed: Result<(), Failure> = after(Duration::ZERO, || {
                calls.set(calls.get() + 1);
                let failure = Failure {
                    error: webhook::CallError {
                        text: "no".into(),
                        code: 500,
                    },
                    timed_out: false,
                    retry,
                };
                async move { Err(failure) }
            })
            .await;
            assert_eq!(failed.unwrap_err().error.text, "no");
            assert_eq!(calls.get(), wanted);
        }
    }
}
