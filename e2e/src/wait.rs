//! Waiting for a condition, never for a while.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, anyhow};

/// How long a condition rests between two looks: short against what the tests
/// measure, long against what a look costs.
const INTERVAL: Duration = Duration::from_millis(50);

/// Looks at a condition until it holds, at most for `limit`.
///
/// `check` returns the value waited for, or `None` for "not yet". An error
/// counts as "not yet" too, since parts may be starting or stopped on purpose;
/// the last one is in the message when time is up.
pub async fn wait_for<T, F, Fut>(what: &str, limit: Duration, mut check: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let mut last = None;
    let attempts = async {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match check().await {
                Ok(Some(value)) => return value,
                Ok(None) => last = None,
                Err(error) => last = Some(error),
            }
        }
    };
    match tokio::time::timeout(limit, attempts).await {
        Ok(value) => Ok(value),
        Err(_) => Err(match last {
            Some(error) => error.context(format!("waited {limit:?} in vain for {what}")),
            None => anyhow!("waited {limit:?} in vain for {what}"),
        }),
    }
}

/// [`wait_for`] with a yes or no.
pub async fn wait_until<F, Fut>(what: &str, limit: Duration, mut check: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool>>,
{
    wait_for(what, limit, || {
        let answer = check();
        async move { Ok(answer.await?.then_some(())) }
    })
    .await
}
