//! A second memory beside a GPU's: pinned memory of the host.

use std::io::{self, Error};
use std::sync::Arc;

use parking_lot::Mutex;
use slimpipe_allocator::offload::{Completion, CopyQueue, Move, Way};
use slimpipe_kernels::cuda::{
    CudaError, DevicePtr, Event, Pinned, PooledEvent, Result, Stream, copy,
};

use crate::stream::Streams;

/// Bytes by which the memory grows at least: growing takes the driver a while.
const PIECE: u64 = 32 << 20;

/// Pinned memory of the host for activations of a GPU. Copies run on the rank's two transfer streams beside
/// its computation, and nobody waits for them but streams.
pub struct PinnedMemory {
    streams: Streams,
    /// Back to back: the first byte of each, and its memory.
    pieces: Mutex<Vec<(u64, Pinned)>>,
}

impl PinnedMemory {
    /// Memory that is empty, for the rank of these streams.
    pub fn new(streams: Streams) -> Self {
        Self { streams, pieces: Mutex::default() }
    }

    /// Enqueues copies between a GPU's address and byte `at` here, piece by piece.
    ///
    /// # Safety
    /// As for [`CopyQueue::enqueue`].
    unsafe fn copy(&self, way: Way, stream: &Stream, of: Move) -> Result<()> {
        let pieces = self.pieces.lock();
        let (mut at, end) = (of.at, of.at + of.bytes);
        let first = pieces.partition_point(|(start, _)| *start <= at).saturating_sub(1);
        for (start, piece) in &pieces[first..] {
            let bytes = end.min(start + piece.bytes() as u64) - at;
            let device = DevicePtr(of.address.as_ptr().addr() as u64).offset(at - of.at);
            // SAFETY: inside the piece; the device's side as the caller promises. The piece lives as long
            // as this value, which waits for its streams when it goes.
            unsafe {
                let host = piece.as_ptr().add((at - start) as usize);
                match way {
                    Way::Out => copy::to_host(stream, device, host, bytes as usize)?,
                    Way::In => copy::to_device(stream, host, device, bytes as usize)?,
                }
            }
            at += bytes;
            if at == end {
                break;
            }
        }
        Ok(())
    }
}

impl CopyQueue for PinnedMemory {
    fn name(&self) -> String {
        "pinned memory of the host".to_owned()
    }

    fn grow(&self, bytes: u64) -> io::Result<()> {
        let mut pieces = self.pieces.lock();
        let end = pieces.last().map_or(0, |(start, piece)| start + piece.bytes() as u64);
        if bytes > end {
            let more = (bytes - end).max(PIECE) as usize;
            let piece = Pinned::new(self.streams.context(), more).map_err(Error::other)?;
            pieces.push((end, piece));
        }
        Ok(())
    }

    unsafe fn enqueue(&self, way: Way, moves: Vec<Move>) -> Arc<dyn Completion> {
        let compute = self.streams.compute();
        let stream = match way {
            Way::Out => self.streams.transfer_out(),
            Way::In => self.streams.transfer_in(),
        };
        let enqueue = || {
            // What computes on these addresses now ends first.
            stream.wait(&*mark(compute)?)?;
            for of in moves {
                // SAFETY: as the caller promises.
                unsafe { self.copy(way, stream, of)? };
            }
            mark(stream)
        };
        Arc::new(Copied { copied: enqueue().map_err(Arc::new), compute: compute.clone() })
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        // If they fail, nothing copies any more.
        let _ = self.streams.transfer_out().synchronize();
        let _ = self.streams.transfer_in().synchronize();
    }
}

/// An event recorded on `stream`.
fn mark(stream: &Stream) -> Result<PooledEvent> {
    let event = Event::pooled(stream.context())?;
    stream.record(&event)?;
    Ok(event)
}

/// Copies that were enqueued.
struct Copied {
    /// Passed when they are over.
    copied: Result<PooledEvent, Arc<CudaError>>,
    compute: Stream,
}

impl Completion for Copied {
    fn wait(&self) {
        if let Ok(event) = &self.copied {
            // A stream that cannot wait has failed, and says so at the next operation.
            let _ = self.compute.wait(event);
        }
    }

    fn result(&self) -> io::Result<()> {
        self.copied.as_ref().map(|_| ()).map_err(|error| Error::other(error.clone()))
    }
}
