//! Running a group: a thread per rank, and one outcome.

use std::fmt::Display;
use std::sync::Arc;

use super::LocalComm;
use super::world::World;
use crate::comm::{CommError, threads};

impl threads::Told for Arc<World> {
    fn left(&self, rank: u32) {
        self.leave(rank);
    }

    fn failed(&self, rank: u32, reason: String) {
        self.fail(rank, reason);
    }

    fn first(&self) -> Option<u32> {
        World::failed(self)
    }
}

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
    threads::run(comms, &world, body)
}
