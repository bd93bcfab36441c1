//! Pinned buffers through which the host's bytes reach a GPU, and come back.

use std::sync::Arc;

use parking_lot::Mutex;
use slimpipe_kernels::cuda::{Context, DevicePtr, Event, Pinned, Stream, copy};

use crate::Result;

/// Buffers, used in turn.
const BUFFERS: usize = 64;
/// Bytes of each.
const BUFFER: usize = 64 << 10;

/// Copies from memory that the caller may change right after, without making the caller wait for the GPU:
/// from pageable memory the driver would wait until the stream has come to the copy.
#[derive(Default)]
pub(crate) struct Staging {
    ring: Mutex<Option<Ring>>,
}

struct Ring {
    memory: Arc<Pinned>,
    /// By buffer: passed when the last copy from or to it is over.
    free: Vec<Event>,
    next: usize,
}

impl Ring {
    fn new(context: &'static Context) -> Result<Self> {
        let memory = Arc::new(Pinned::new(context, BUFFERS * BUFFER)?);
        let free = (0..BUFFERS).map(|_| Event::new(context)).collect::<Result<_, _>>()?;
        Ok(Self { memory, free, next: 0 })
    }

    /// The next buffer, when it is free: its first byte, and the event to record behind its use.
    fn take(&mut self) -> Result<(*mut u8, &Event)> {
        let (at, event) = (self.next, &self.free[self.next]);
        self.next = (at + 1) % BUFFERS;
        if !event.is_done()? {
            event.synchronize()?; // the copy was enqueued many copies ago
        }
        // SAFETY: inside the memory.
        Ok((unsafe { self.memory.as_ptr().add(at * BUFFER) }, event))
    }
}

impl Staging {
    /// Copies `bytes` to `to` in the order of `stream`.
    ///
    /// # Errors
    /// The driver refuses.
    ///
    /// # Safety
    /// As many bytes are valid at `to`, and nobody else uses them until the stream has done it.
    pub(crate) unsafe fn upload(&self, stream: &Stream, bytes: &[u8], to: DevicePtr) -> Result<()> {
        let mut ring = self.ring.lock();
        let ring = Self::ready(&mut ring, stream)?;
        for (part, bytes) in bytes.chunks(BUFFER).enumerate() {
            let (buffer, event) = ring.take()?;
            // SAFETY: nobody uses the buffer, which has room for a chunk; `to` as the caller promises.
            unsafe {
                buffer.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                copy::to_device(stream, buffer, to.offset((part * BUFFER) as u64), bytes.len())?;
            }
            stream.record(event)?;
        }
        Ok(())
    }

    /// Copies what is at `from` to `bytes` and waits until `stream` has come that far: only for it, for a copy
    /// to pageable memory may wait for the whole device.
    ///
    /// # Errors
    /// The driver refuses.
    ///
    /// # Safety
    /// As many bytes are valid at `from`, written in the order of `stream`.
    pub(crate) unsafe fn download(
        &self,
        stream: &Stream,
        from: DevicePtr,
        bytes: &mut [u8],
    ) -> Result<()> {
        let mut ring = self.ring.lock();
        let ring = Self::ready(&mut ring, stream)?;
        let mut from = from;
        for parts in bytes.chunks_mut(BUFFERS * BUFFER) {
            let first = ring.next;
            for part in parts.chunks(BUFFER) {
                let (buffer, event) = ring.take()?;
                // SAFETY: nobody uses the buffer, which has room for a chunk; `from` as the caller promises.
                unsafe { copy::to_host(stream, from, buffer, part.len())? };
                stream.record(event)?;
                from = from.offset(part.len() as u64);
            }
            for (place, part) in parts.chunks_mut(BUFFER).enumerate() {
                let at = (first + place) % BUFFERS;
                ring.free[at].synchronize()?;
                // SAFETY: inside the memory; the copy that wrote it is over.
                unsafe {
                    let buffer = ring.memory.as_ptr().add(at * BUFFER);
                    buffer.copy_to_nonoverlapping(part.as_mut_ptr(), part.len());
                }
            }
        }
        Ok(())
    }

    fn ready<'a>(ring: &'a mut Option<Ring>, stream: &Stream) -> Result<&'a mut Ring> {
        Ok(match ring {
            Some(ring) => ring,
            none => none.insert(Ring::new(stream.context())?),
        })
    }
}
