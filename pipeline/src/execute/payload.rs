//! A tensor on its way to another rank: the handle travels, the receiver copies the bytes once.

use slimpipe_allocator::Pin;
use slimpipe_runtime::RawTensor;

use crate::comm::Payload;

/// A contiguous tensor as a message.
pub(crate) struct TensorPayload {
    tensor: RawTensor,
    _stays: Pin,
}

impl TensorPayload {
    /// Checks now that the bytes can be read, so that the receiver need not; until then they
    /// stay where they are.
    pub(crate) fn new(tensor: RawTensor) -> slimpipe_runtime::Result<Self> {
        let _stays = tensor.storage().allocation().pin();
        tensor.as_bytes("send")?;
        Ok(Self { tensor, _stays })
    }
}

impl Payload for TensorPayload {
    fn bytes(&self) -> Result<&[u8], String> {
        // A unit's messages are read before it ends, for its gradient can only arrive afterwards;
        // unless the sender broke off.
        self.tensor.as_bytes("send").map_err(|error| error.to_string())
    }
}
