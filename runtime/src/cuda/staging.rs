//! Pinned buffers through which the host's bytes reach a GPU.

use std::sync::Arc;

use parking_lot::Mutex;
use slimpipe_kernels::cuda::{Context, DevicePtr, Event, Pinned, Stream, copy};

use crate::Result;

/// Buffers, used in turn.
const BUFFERS: usize = 16;
/// Bytes of each.
const BUFFER: usize = 256 << 10;

/// Copies from memory that the caller may change right after, without making the caller wait for the GPU:
/// from pageable memory the driver would wait until the stream has come to the copy.
#[derive(Default)]
pub(crate) struct Staging {
    ring: Mutex<Option<Ring>>,
}

struct Ring {
    memory: Arc<Pinned>,
    /// By buffer: passed when the last copy from it is over.
    free: Vec<Event>,
    next: usize,
}

impl Ring {
    fn new(context: &'static Context) -> Result<Self> {
        let memory = Arc::new(Pinned::new(context, BUFFERS * BUFFER)?);
        let free = (0..BUFFERS).map(|_| Event::new(context)).collect::<Result<_, _>>()?;
        Ok(Self { memory, free, next: 0 })
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
        let ring = match &mut *ring {
            Some(ring) => ring,
            none => none.insert(Ring::new(stream.context())?),
        };
        for (part, bytes) in bytes.chunks(BUFFER).enumerate() {
            let event = &ring.free[ring.next];
            if !event.is_done()? {
                event.synchronize()?; // the copy was enqueued many copies ago
            }
            // SAFETY: inside the pinned memory, whose last copy from here is over; `to` as the caller
            // promises.
            unsafe {
                let from = ring.memory.as_ptr().add(ring.next * BUFFER);
                from.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                copy::to_device(stream, from, to.offset((part * BUFFER) as u64), bytes.len())?;
            }
            stream.record(event)?;
            ring.next = (ring.next + 1) % BUFFERS;
        }
        Ok(())
    }
}
