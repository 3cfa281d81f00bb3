//! Many calls, so many at the same time.

use futures_util::{StreamExt, future::BoxFuture, stream};

/// Runs all of them, `most` at the same time, and gives what came of each in their order. One that hangs takes one place:
/// a stream that is buffered in order would begin none of those far behind it before it has ended.
///
/// # Cancel safety
/// Dropping it drops those that are under way, and the others never begin.
pub(crate) async fn abreast<'a, T: Send + 'a>(calls: Vec<BoxFuture<'a, T>>, most: usize) -> Vec<T> {
    let mut numbered: Vec<BoxFuture<'a, (usize, T)>> = Vec::with_capacity(calls.len());
    for (at, call) in calls.into_iter().enumerate() {
        numbered.push(Box::pin(async move { (at, call.await) }));
    }
    let mut all: Vec<(usize, T)> = stream::iter(numbered).buffer_unordered(most).collect().await;
    all.sort_unstable_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, outcome)| outcome).collect()
}
