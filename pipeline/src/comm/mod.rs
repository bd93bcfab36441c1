//! Messages and reductions between ranks.
//!
//! [`Communicator`] is what the executor and the trainer speak; [`local`] implements it for ranks
//! that are threads of one process.

mod error;
pub mod local;

pub use error::CommError;

/// Bytes on their way to another rank. The bytes stay where they are, owned by this handle, until
/// the receiver has copied them.
pub type Payload = Box<dyn AsRef<[u8]> + Send>;

/// What a message is about: the receiver asks for it by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(pub u64);

/// One rank's end of a group of ranks.
pub trait Communicator: Send {
    /// This rank.
    fn rank(&self) -> u32;

    /// Number of ranks.
    fn size(&self) -> u32;

    /// Hands `payload` to rank `to`. Returns before it is read unless too many earlier messages to
    /// that rank are unread.
    ///
    /// # Errors
    /// Another rank failed.
    fn send(&mut self, to: u32, tag: Tag, payload: Payload) -> Result<(), CommError>;

    /// Waits for the next message from rank `from` and copies it into `into`: the only copy there is.
    ///
    /// # Errors
    /// Another rank failed, or the message has another tag or size.
    fn recv(&mut self, from: u32, tag: Tag, into: &mut [u8]) -> Result<(), CommError>;

    /// Adds `values` over all ranks, in rank order, so that all get the same bits.
    ///
    /// # Errors
    /// Another rank failed.
    fn all_reduce_sum_f64(&mut self, values: &mut [f64]) -> Result<(), CommError>;

    /// Adds this rank's `values` and `peer`'s, the lower rank's first, on both.
    ///
    /// # Errors
    /// Another rank failed.
    fn exchange_add_f32(&mut self, peer: u32, values: &mut [f32]) -> Result<(), CommError>;

    /// Collects every rank's bytes on rank 0, by rank; `None` on the others.
    ///
    /// # Errors
    /// Another rank failed.
    fn gather(&mut self, bytes: Vec<u8>) -> Result<Option<Vec<Vec<u8>>>, CommError>;

    /// Waits for all ranks.
    ///
    /// # Errors
    /// Another rank failed.
    fn barrier(&mut self) -> Result<(), CommError> {
        self.all_reduce_sum_f64(&mut [])
    }
}
