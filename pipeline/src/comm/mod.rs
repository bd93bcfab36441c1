//! Messages and reductions between ranks.
//!
//! [`Communicator`] is what the executor and the trainer speak; [`local`] implements it for ranks
//! that are threads of one process, on the host or on one GPU, and [`nccl`] for ranks with a GPU each, be
//! they threads or processes. [`environment`] reads which rank a launched process is.

mod buffer;
pub mod environment;
mod error;
pub mod local;
mod mesh;
pub mod nccl;
mod payload;
mod route;
mod share;
mod tag;
mod threads;

pub use buffer::{Bytes, BytesMut, DeviceBytes, DeviceRoom};
pub use error::CommError;
pub use mesh::{Axis, Mesh};
pub use payload::Payload;
pub use route::Route;
pub use share::{pieces, share};
pub use tag::{AttentionTensor, Lane, Tag};

/// How numbers of several ranks become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Their sum, added in rank order.
    Sum,
    /// The largest; NaN if one is.
    Max,
}

/// One rank's end of a group of ranks.
///
/// All ranks of a group must call the same collectives in the same order. What one group does never
/// waits for another's: a rank may use two of its groups from two threads. Every call fails once
/// another rank has failed, of this group or not; none hangs. Errors name ranks as the group of all
/// ranks numbers them.
pub trait Communicator: Send {
    /// This rank.
    fn rank(&self) -> u32;

    /// Number of ranks.
    fn size(&self) -> u32;

    /// Prepares messages of `routes`, which all ranks must name before the first of them; only those of
    /// [`Lane::Blocks`] need none. All ranks must call this with the same.
    ///
    /// # Errors
    /// Another rank failed, or does not come.
    fn open(&mut self, routes: Vec<Route>) -> Result<(), CommError> {
        let _ = routes;
        Ok(())
    }

    /// Hands `payload` to rank `to`. Returns before it is read unless too many earlier messages of
    /// its lane are unread.
    ///
    /// # Errors
    /// Another rank failed.
    fn send(&mut self, to: u32, tag: Tag, payload: Box<dyn Payload>) -> Result<(), CommError>;

    /// Waits for the next message from rank `from` in `tag`'s lane and copies it into `into`: the
    /// only copy there is. On a GPU the copy is made in the order of the streams of both.
    ///
    /// # Errors
    /// Another rank failed, or the message has another tag or size, or lies on another device.
    fn recv(&mut self, from: u32, tag: Tag, into: BytesMut<'_>) -> Result<(), CommError>;

    /// Sends `payload` to `peer` and receives as much from it `into`: both ranks call this.
    ///
    /// # Errors
    /// As [`Communicator::send`] and [`Communicator::recv`].
    fn swap(
        &mut self,
        peer: u32,
        tag: Tag,
        payload: Box<dyn Payload>,
        into: BytesMut<'_>,
    ) -> Result<(), CommError> {
        self.send(peer, tag, payload)?;
        self.recv(peer, tag, into)
    }

    /// Adds `values` over all ranks, in rank order, so that all get the same bits.
    ///
    /// # Errors
    /// Another rank failed, or does something else.
    fn all_reduce_sum_f64(&mut self, values: &mut [f64]) -> Result<(), CommError>;

    /// Collects every rank's bytes on rank 0, by rank; `None` on the others.
    ///
    /// # Errors
    /// Another rank failed, or does something else.
    fn gather(&mut self, bytes: Vec<u8>) -> Result<Option<Vec<Vec<u8>>>, CommError>;

    /// Divides the group: ranks with the same `color` are a new group, in the order of their `key`
    /// (then of their rank here), with lanes and collectives of its own. A split with one color for
    /// all gives the same group once more, for another thread.
    ///
    /// # Errors
    /// Another rank failed, or does something else.
    fn split(&mut self, color: u32, key: u32) -> Result<Box<dyn Communicator>, CommError>;

    /// Reduces `parts`, a flat space of f32 numbers that has the same shape on all ranks, so that each rank
    /// has the result in its own [`share`]; what is in the others' shares is of no use afterwards. The order
    /// in which numbers are taken does not depend on who comes when: the same run gives the same bits.
    ///
    /// # Errors
    /// Another rank failed, or has parts of other lengths.
    fn reduce_scatter_f32(
        &mut self,
        op: Reduction,
        parts: &mut [BytesMut<'_>],
    ) -> Result<(), CommError>;

    /// Completes `parts`, a flat space of elements of `width` bytes that has the same shape on all
    /// ranks and to which each rank contributes its own [`share`].
    ///
    /// # Errors
    /// Another rank failed, or has parts of other lengths.
    fn all_gather(&mut self, width: usize, parts: &mut [BytesMut<'_>]) -> Result<(), CommError>;

    /// Reduces f32 `values` over all ranks, so that all get the same bits.
    ///
    /// # Errors
    /// Another rank failed, or has another length.
    fn all_reduce_f32(&mut self, op: Reduction, values: BytesMut<'_>) -> Result<(), CommError> {
        let parts = &mut [values];
        self.reduce_scatter_f32(op, parts)?;
        self.all_gather(size_of::<f32>(), parts)
    }

    /// Reduces f32 `values` over all ranks on rank `root`; what is left in the others' is of no use.
    ///
    /// # Errors
    /// Another rank failed, or has another length.
    fn reduce_f32(
        &mut self,
        root: u32,
        op: Reduction,
        values: BytesMut<'_>,
    ) -> Result<(), CommError>;

    /// Fills every rank's `bytes` with those of rank `root`. All have the same length.
    ///
    /// # Errors
    /// Another rank failed, or has another length.
    fn broadcast(&mut self, root: u32, bytes: BytesMut<'_>) -> Result<(), CommError>;

    /// Waits for all ranks.
    ///
    /// # Errors
    /// Another rank failed, or does something else.
    fn barrier(&mut self) -> Result<(), CommError> {
        self.all_reduce_sum_f64(&mut [])
    }

    /// Ends the group when all that it was given has been done; a group that is dropped before counts as
    /// failed where that can be told. All ranks must call this.
    ///
    /// # Errors
    /// The group has failed.
    fn finish(&mut self) -> Result<(), CommError> {
        Ok(())
    }
}
