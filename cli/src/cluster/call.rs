//! One call to the API server: a time limit for each attempt, and again, a little later each time,
//! while the failure may be a passing one.
//!
//! 429, 503 and 504 are tried again further below, by kube's own policy, which sees the header
//! Retry-After ([`super::connect`]); here the rest: other 5xx, connections refused and cut.

use std::future::Future;
use std::time::Duration;

use super::error::Cause;
use super::{CallError, Object, Verb};

/// How long one attempt may take, with what kube's own policy adds.
const LIMIT: Duration = Duration::from_secs(30);

/// How long to wait before the second attempt, and so on: about 3 s together.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(900),
    Duration::from_millis(1600),
];

/// Makes a call, several times if need be.
pub(crate) async fn call<T, F>(
    verb: Verb,
    object: &Object,
    mut attempt: impl FnMut() -> F,
) -> Result<T, CallError>
where
    F: Future<Output = kube::Result<T>>,
{
    for pause in PAUSES {
        match once(verb, object, attempt()).await {
            Err(error) if error.cause.is_passing() => log::debug!("{error}; trying again"),
            result => return result,
        }
        tokio::time::sleep(pause).await;
    }
    once(verb, object, attempt()).await
}

/// Makes a call once, for those who try again in a way of their own.
pub(crate) async fn once<T>(
    verb: Verb,
    object: &Object,
    attempt: impl Future<Output = kube::Result<T>>,
) -> Result<T, CallError> {
    let cause = match tokio::time::timeout(LIMIT, attempt).await {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => Cause::from(error),
        Err(_) => Cause::TimedOut(LIMIT),
    };
    Err(CallError { verb, object: object.clone(), cause })
}
