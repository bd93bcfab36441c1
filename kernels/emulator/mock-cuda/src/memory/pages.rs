//! Physical memory: host pages that stand for a device's.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use cudarc::driver::sys::CUresult;
use memmap2::MmapMut;

use crate::settings::{self, MOST_DEVICES};

/// What new memory is filled with: as an f32 or bf16 it is a large negative number, so that results
/// that depend on it are visibly wrong.
const POISON: u8 = 0xCD;

/// Bytes of physical memory in use on each device.
static USED: [AtomicUsize; MOST_DEVICES] = [const { AtomicUsize::new(0) }; MOST_DEVICES];

/// Some physical memory. It is given back when the last mapping and handle are gone.
pub struct Pages {
    /// The mapping is only looked at through its address: kernels on several streams write to it.
    _map: MmapMut,
    address: usize,
    bytes: usize,
    /// The device whose capacity it takes; none for pinned host memory.
    device: Option<usize>,
}

impl Pages {
    /// Takes memory of a device, or of the host.
    ///
    /// # Errors
    /// `CUDA_ERROR_OUT_OF_MEMORY` if the device's capacity does not suffice, or the host's.
    pub fn new(device: Option<usize>, bytes: usize) -> Result<Arc<Pages>, CUresult> {
        let out_of_memory = CUresult::CUDA_ERROR_OUT_OF_MEMORY;
        if let Some(device) = device {
            let capacity = settings::with(|s| s.memory);
            let take = |used: usize| used.checked_add(bytes).filter(|all| *all <= capacity);
            USED[device]
                .try_update(Ordering::AcqRel, Ordering::Acquire, take)
                .map_err(|_| out_of_memory)?;
        }
        match MmapMut::map_anon(bytes) {
            Ok(mut map) => {
                map.fill(POISON);
                let address = map.as_mut_ptr() as usize;
                Ok(Arc::new(Pages { _map: map, address, bytes, device }))
            }
            Err(_) => {
                give_back(device, bytes);
                Err(out_of_memory)
            }
        }
    }

    /// Where it lies in this process.
    pub fn address(&self) -> usize {
        self.address
    }

    /// How much it is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The device it belongs to; none for pinned host memory.
    pub fn device(&self) -> Option<usize> {
        self.device
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        give_back(self.device, self.bytes);
    }
}

fn give_back(device: Option<usize>, bytes: usize) {
    if let Some(device) = device {
        USED[device].fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// Bytes that are free on a device.
pub fn free(device: usize) -> usize {
    settings::with(|s| s.memory).saturating_sub(USED[device].load(Ordering::Acquire))
}
