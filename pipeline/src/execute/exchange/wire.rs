//! Tensors on their way between ranks that share attention.

use std::time::Instant;

use slimpipe_allocator::{Region, scope};
use slimpipe_ops::copy::contiguous;
use slimpipe_runtime::{DType, Device, RawTensor, Shape};

use crate::comm::{AttentionTensor, Communicator, Tag};
use crate::execute::payload::{TensorPayload, room};
use crate::execute::{Result, Span, Timeline, Work};
use crate::schedule::{Pass, Unit};

/// The rank's lanes for shared attention, and a record of what it did for others.
pub(super) struct Wire {
    comm: Box<dyn Communicator>,
    /// Where the rank's tensors lie.
    device: Device,
    timeline: Timeline,
}

/// Whose attention, and in which layer.
#[derive(Clone, Copy)]
pub(super) struct Of {
    /// The rank at the other end.
    pub peer: u32,
    /// The owner's unit.
    pub unit: Unit,
    /// In the order of the pass.
    pub layer: usize,
}

impl Of {
    fn tag(self, tensor: AttentionTensor) -> Tag {
        Tag::Attention { unit: self.unit, layer: self.layer as u32, tensor }
    }
}

impl Wire {
    pub(super) fn new(comm: Box<dyn Communicator>, device: Device, origin: Instant) -> Self {
        Self { comm, device, timeline: Timeline::new(origin) }
    }

    /// Sends `x`; the peer reads it where it lies.
    pub(super) fn send(&mut self, of: Of, tensor: AttentionTensor, x: &RawTensor) -> Result<()> {
        let x = {
            let _message = scope::place(Region::Comm);
            contiguous(x)?
        };
        let payload = Box::new(TensorPayload::new(x)?);
        Ok(self.comm.send(of.peer, of.tag(tensor), payload)?)
    }

    /// Waits for a tensor.
    pub(super) fn receive(
        &mut self,
        of: Of,
        tensor: AttentionTensor,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<RawTensor> {
        let _message = scope::place(Region::Comm);
        let mut into = RawTensor::empty(shape, dtype, self.device, "receive")?;
        let (comm, bytes) = (&mut self.comm, room(&mut into)?);
        self.timeline.record(Work::ReceiveAttention(of.unit), || {
            comm.recv(of.peer, of.tag(tensor), bytes)
        })?;
        Ok(into)
    }

    /// Runs `compute`, which is for `pass` of another rank's `unit`.
    pub(super) fn compute<T>(&mut self, unit: Unit, pass: Pass, compute: impl FnOnce() -> T) -> T {
        let _message = scope::place(Region::Comm);
        self.timeline.record(Work::AttendFor(unit, pass), compute)
    }

    /// What was done since the last call.
    pub(super) fn take_spans(&mut self) -> Vec<Span> {
        let spans = self.timeline.spans().to_vec();
        self.timeline.clear();
        spans
    }

    /// Waits for all ranks: what was sent before has been read.
    pub(super) fn settle(&mut self) -> Result<()> {
        Ok(self.comm.barrier()?)
    }

    /// Ends the lanes.
    pub(super) fn end(&mut self) -> Result<()> {
        Ok(self.comm.finish()?)
    }
}
