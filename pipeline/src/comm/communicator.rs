//! What a rank sees of the others.

use std::time::Duration;

use super::{Result, Tag};

/// A message on its way: a handle on the sender's bytes, which stay where they are until the
/// receiver has copied them.
///
/// It may be dropped on any thread, but goes back to its sender where that is possible: a payload
/// usually frees memory of the sender's arena, which should happen at points of the sender's own
/// program and without contention.
pub type Payload = Box<dyn AsRef<[u8]> + Send + Sync>;

/// One rank's way to the others. All calls that name a length must agree on it across ranks, and
/// every rank must take part in a collective (all but `send` and `recv`) in the same order.
///
/// # Errors
/// Every call fails with [`CommError::PeerFailed`](super::CommError::PeerFailed) once any rank has
/// failed, with [`CommError::NoSuchPeer`](super::CommError::NoSuchPeer) for a peer that is no other
/// rank, and with another [`CommError`](super::CommError) where ranks do not agree on what they do.
pub trait Communicator: Send {
    /// This rank, from 0.
    fn rank(&self) -> u32;

    /// How many ranks there are.
    fn size(&self) -> u32;

    /// Posts a message. Waits for the receiver only if the channel is full: as many earlier
    /// messages to `to` of the same sort (activations, gradients) as the channel holds are unread.
    ///
    /// # Errors
    /// See the trait.
    fn send(&mut self, to: u32, tag: Tag, payload: Payload) -> Result<()>;

    /// Waits for the next message of a channel and copies it into `into`: the only copy there is.
    ///
    /// # Errors
    /// The message has another tag or another length; and see the trait.
    fn recv(&mut self, from: u32, tag: Tag, into: &mut [u8]) -> Result<()>;

    /// Replaces each value with its sum over all ranks, added in rank order; so the results are
    /// bitwise the same on all ranks and in all runs.
    ///
    /// # Errors
    /// See the trait.
    fn all_reduce_sum_f64(&mut self, values: &mut [f64]) -> Result<()>;

    /// Adds the values of this rank and `peer` on both of them, the lower rank's first. Goes in
    /// blocks: whatever the length, at most 1 MiB of scratch memory per rank.
    ///
    /// # Errors
    /// See the trait.
    fn exchange_add_f32(&mut self, peer: u32, values: &mut [f32]) -> Result<()>;

    /// Replaces `bytes` with those of rank `root`, in blocks of bounded size.
    ///
    /// # Errors
    /// See the trait.
    fn broadcast(&mut self, root: u32, bytes: &mut [u8]) -> Result<()>;

    /// Brings every rank's bytes, of any length, to rank 0: there the result holds one entry per
    /// rank, elsewhere it is `None`.
    ///
    /// # Errors
    /// See the trait.
    fn gather(&mut self, bytes: &[u8]) -> Result<Option<Vec<Vec<u8>>>>;

    /// Waits until all ranks are here.
    ///
    /// # Errors
    /// See the trait.
    fn barrier(&mut self) -> Result<()>;

    /// All the time this rank spent blocked in calls (copying is not waiting).
    fn waited(&self) -> Duration;

    /// Makes every blocked and later call of all ranks fail with this rank and `reason`.
    fn abort(&self, reason: &str);
}
