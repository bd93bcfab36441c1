//! Ranks that are threads: one for each, and one outcome.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use parking_lot::Mutex;

use super::CommError;

/// What the other ranks learn of one that has ended.
pub(super) trait Told: Sync {
    /// `rank` ended in order.
    fn left(&self, rank: u32);

    /// `rank` failed: all others are to end too.
    fn failed(&self, rank: u32, reason: String);

    /// The rank whose failure came first, if this is known better than by who said so first.
    fn first(&self) -> Option<u32>;
}

/// Runs `body` on a thread for each of `ends`, one per rank, and gives what each returned, by rank.
///
/// # Errors
/// The error of the rank that failed first; a panic counts as `CommError::PeerFailed`.
pub(super) fn run<C, T, E>(
    ends: Vec<C>,
    told: &impl Told,
    body: impl Fn(C) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E>
where
    C: Send,
    T: Send,
    E: From<CommError> + Display + Send,
{
    let first = Mutex::new(None);
    let failed = |rank: u32, reason: String| {
        first.lock().get_or_insert(rank);
        told.failed(rank, reason);
    };
    let run = |rank: u32, end: C| {
        let explained = || body(end).map_err(|error| (error.to_string(), error));
        let outcome = catch_unwind(AssertUnwindSafe(explained)).unwrap_or_else(|panic| {
            let reason = format!("it panicked: {}", message(&*panic));
            let error = CommError::PeerFailed { rank, reason: reason.clone() };
            Err((reason, error.into()))
        });
        match outcome {
            Ok(result) => {
                told.left(rank);
                Ok(result)
            }
            Err((reason, error)) => {
                failed(rank, reason);
                Err(error)
            }
        }
    };
    let mut results: Vec<Result<T, E>> = thread::scope(|scope| {
        let (run, failed) = (&run, &failed);
        let start = |(rank, end): (u32, C)| {
            let thread = thread::Builder::new().name(format!("rank-{rank}"));
            thread.spawn_scoped(scope, move || run(rank, end)).map_err(|error| {
                failed(rank, error.to_string());
                CommError::Spawn { rank, reason: error.to_string() }
            })
        };
        // All are started before any is waited for.
        let threads: Vec<_> = (0..).zip(ends).map(start).collect();
        threads
            .into_iter()
            .map(|thread| thread?.join().unwrap_or_else(|p| resume_unwind(p)))
            .collect()
    });
    if let Some(rank) = told.first().or(first.into_inner())
        && let Err(error) = results.swap_remove(rank as usize)
    {
        return Err(error);
    }
    results.into_iter().collect()
}

fn message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no message",
    }
}
