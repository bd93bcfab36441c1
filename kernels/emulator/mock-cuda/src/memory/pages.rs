//! Physical memory: host pages that stand for a device's.

use std::{
    ffi::CStr,
    fs::File,
    os::fd::FromRawFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use cudarc::driver::sys::CUresult;
use memmap2::MmapMut;

use crate::settings::{self, MOST_DEVICES};

/// What new memory is filled with: as an f32 or bf16 it is a large negative number, so that results
/// that depend on it are visibly wrong.
const POISON: u8 = 0xCD;

/// Bytes of physical memory in use on each device.
static USED: [AtomicUsize; MOST_DEVICES] = [const { AtomicUsize::new(0) }; MOST_DEVICES];

const OUT_OF_MEMORY: CUresult = CUresult::CUDA_ERROR_OUT_OF_MEMORY;

/// A part of a device's capacity.
struct Claim {
    device: usize,
    bytes: usize,
}

impl Claim {
    fn new(device: usize, bytes: usize) -> Result<Claim, CUresult> {
        let capacity = settings::with(|s| s.memory);
        let take = |used: usize| used.checked_add(bytes).filter(|all| *all <= capacity);
        let taken = USED[device].try_update(Ordering::AcqRel, Ordering::Acquire, take);
        taken.map(|_| Claim { device, bytes }).map_err(|_| OUT_OF_MEMORY)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        USED[self.device].fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Bytes that are free on a device.
pub fn free(device: usize) -> usize {
    settings::with(|s| s.memory).saturating_sub(USED[device].load(Ordering::Acquire))
}

/// Memory that lies at one place of this process: an allocation, or pinned host memory.
pub struct Pages {
    /// The mapping is only looked at through its address: kernels on several streams write to it.
    _map: MmapMut,
    address: usize,
    /// Pinned host memory takes no device's capacity.
    claim: Option<Claim>,
}

impl Pages {
    /// Takes memory of a device, or of the host.
    ///
    /// # Errors
    /// `CUDA_ERROR_OUT_OF_MEMORY` if the device's capacity does not suffice, or the host's.
    pub fn new(device: Option<usize>, bytes: usize) -> Result<Arc<Pages>, CUresult> {
        let claim = device.map(|device| Claim::new(device, bytes)).transpose()?;
        let mut map = MmapMut::map_anon(bytes).map_err(|_| OUT_OF_MEMORY)?;
        map.fill(POISON);
        let address = map.as_mut_ptr() as usize;
        Ok(Arc::new(Pages { _map: map, address, claim }))
    }

    /// Where it lies in this process.
    pub fn address(&self) -> usize {
        self.address
    }

    /// The device it belongs to; none for pinned host memory.
    pub fn device(&self) -> Option<usize> {
        self.claim.as_ref().map(|claim| claim.device)
    }
}

/// Memory without a place, which can be mapped to several.
pub struct Physical {
    file: File,
    claim: Claim,
}

impl Physical {
    /// Takes memory of a device.
    ///
    /// # Errors
    /// `CUDA_ERROR_OUT_OF_MEMORY` if the device's capacity does not suffice, or the host's.
    pub fn new(device: usize, bytes: usize) -> Result<Arc<Physical>, CUresult> {
        let claim = Claim::new(device, bytes)?;
        let name: &CStr = c"mock device memory";
        // SAFETY: the name is NUL-terminated; a descriptor that is good belongs to nobody else.
        let file = unsafe {
            match libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) {
                -1 => return Err(OUT_OF_MEMORY),
                descriptor => File::from_raw_fd(descriptor),
            }
        };
        file.set_len(bytes as u64).map_err(|_| OUT_OF_MEMORY)?;
        // SAFETY: the file has no name, so nobody else changes it.
        let mut map = unsafe { MmapMut::map_mut(&file) }.map_err(|_| OUT_OF_MEMORY)?;
        map.fill(POISON);
        Ok(Arc::new(Physical { file, claim }))
    }

    /// The file whose bytes it is.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// How much it is.
    pub fn bytes(&self) -> usize {
        self.claim.bytes
    }

    /// The device it belongs to.
    pub fn device(&self) -> usize {
        self.claim.device
    }
}
