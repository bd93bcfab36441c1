//! A tensor on its way to another rank: the handle travels, the receiver copies the bytes once.

use slimpipe_allocator::Pin;
use slimpipe_kernels::cuda::{Event, PooledEvent, Stream};
use slimpipe_runtime::{Device, RawTensor, Result, stream};

use crate::comm::{Bytes, BytesMut, DeviceBytes, DeviceRoom, Payload};

/// A contiguous tensor as a message.
pub(crate) struct TensorPayload {
    tensor: RawTensor,
    /// Of a tensor on a GPU: the stream that writes it, and where it has.
    written: Option<(Stream, PooledEvent)>,
    _stays: Pin,
}

impl TensorPayload {
    /// Checks now that the bytes can be read, so that the receiver need not; until then they
    /// stay where they are.
    pub(crate) fn new(tensor: RawTensor) -> Result<Self> {
        let _stays = tensor.storage().allocation().pin();
        let written = match tensor.device() {
            Device::Cuda(ordinal) => {
                tensor.device_message("send")?;
                let compute = stream::current(ordinal)?.compute().clone();
                let ready = Event::pooled(compute.context())?;
                compute.record(&ready)?;
                Some((compute, ready))
            }
            Device::Cpu | Device::Meta => {
                tensor.as_bytes("send")?;
                None
            }
        };
        Ok(Self { tensor, written, _stays })
    }
}

impl Payload for TensorPayload {
    fn bytes(&self) -> Result<Bytes<'_>, String> {
        // A unit's messages are read before it ends, for its gradient can only arrive afterwards;
        // unless the sender broke off.
        let bytes = match &self.written {
            Some((stream, ready)) => self.tensor.device_message("send").map(|at| {
                Bytes::Device(DeviceBytes { at, len: self.tensor.bytes(), stream, ready })
            }),
            None => self.tensor.as_bytes("send").map(Bytes::Host),
        };
        bytes.map_err(|error| error.to_string())
    }
}

/// The room that a contiguous, unshared tensor is for a message.
pub(crate) fn room(into: &mut RawTensor) -> Result<BytesMut<'_>> {
    match into.device() {
        Device::Cuda(ordinal) => room_in(into, stream::current(ordinal)?.compute()),
        Device::Cpu | Device::Meta => Ok(into.as_bytes_mut("receive")?.into()),
    }
}

/// The same of a tensor on a GPU, used in the order of `stream`.
pub(crate) fn room_in<'a>(into: &mut RawTensor, stream: &Stream) -> Result<BytesMut<'a>> {
    let (at, len) = (into.device_ptr_mut("receive")?, into.bytes());
    Ok(BytesMut::Device(DeviceRoom { at, len, stream: stream.clone() }))
}
