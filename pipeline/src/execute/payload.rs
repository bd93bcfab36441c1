//! A tensor on its way to another rank: the handle travels, the receiver copies the bytes once.

use slimpipe_runtime::RawTensor;

/// A contiguous tensor as a message.
pub(crate) struct TensorPayload(RawTensor);

impl TensorPayload {
    /// Checks now that the bytes can be read, so that the receiver need not.
    pub(crate) fn new(tensor: RawTensor) -> slimpipe_runtime::Result<Self> {
        tensor.as_bytes("send")?;
        Ok(Self(tensor))
    }
}

impl AsRef<[u8]> for TensorPayload {
    fn as_ref(&self) -> &[u8] {
        // A unit's messages are read before the unit ends: its gradient can only arrive afterwards.
        self.0.as_bytes("send").expect("checked when the payload was made")
    }
}
