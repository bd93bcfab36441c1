//! Running a group: a thread per rank, and one outcome.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use super::LocalComm;
use crate::comm::CommError;

/// Runs `body` on `size` threads, one per rank, and gives what each returned, by rank.
///
/// If a rank fails or panics, every other rank's current or next communication fails too, and the
/// first failure is what is returned: nobody hangs.
///
/// # Errors
/// The error of the rank that failed first; a panic counts as `CommError::PeerFailed`.
pub fn launch<T, E>(
    size: u32,
    capacity: usize,
    body: impl Fn(LocalComm) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E>
where
    T: Send,
    E: From<CommError> + Display + Send,
{
    let comms = LocalComm::group(size, capacity);
    let Some(comm) = comms.first() else { return Ok(Vec::new()) };
    let world = comm.group.world().clone();
    let run = |comm: LocalComm| {
        let rank = comm.rank;
        let told = || body(comm).map_err(|error| (error.to_string(), error));
        let outcome = catch_unwind(AssertUnwindSafe(told)).unwrap_or_else(|panic| {
            let reason = format!("it panicked: {}", message(&*panic));
            let error = CommError::PeerFailed { rank, reason: reason.clone() };
            Err((reason, error.into()))
        });
        match outcome {
            Ok(result) => {
                world.leave(rank);
                Ok(result)
            }
            Err((reason, error)) => {
                world.fail(rank, reason);
                Err(error)
            }
        }
    };
    let mut results: Vec<Result<T, E>> = thread::scope(|scope| {
        let run = &run;
        let start = |comm: LocalComm| {
            let rank = comm.rank;
            let thread = thread::Builder::new().name(format!("rank-{rank}"));
            thread.spawn_scoped(scope, move || run(comm)).map_err(|error| {
                world.fail(rank, error.to_string());
                CommError::Spawn { rank, reason: error.to_string() }
            })
        };
        // All are started before any is waited for.
        let threads: Vec<_> = comms.into_iter().map(start).collect();
        threads
            .into_iter()
            .map(|thread| thread?.join().unwrap_or_else(|p| resume_unwind(p)))
            .collect()
    });
    if let Some(rank) = world.failed()
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
