//! Addresses on a GPU, reserved once and backed by memory as they are needed.

use std::ffi::c_int;

use cudarc::driver::sys::{
    self, CUmemAccess_flags, CUmemAccessDesc, CUmemAllocationGranularity_flags as Granularity,
    CUmemAllocationHandleType, CUmemAllocationProp, CUmemAllocationProp_st__bindgen_ty_1,
    CUmemAllocationType, CUmemGenericAllocationHandle, CUmemLocation, CUmemLocationType, CUresult,
};

use super::DevicePtr;
use super::context::Context;
use super::driver::check;
use super::error::{CudaError, Result};

/// Most bytes of one piece of memory: what is given back, is given back in whole pieces.
const PIECE: u64 = 32 << 20;

/// A reserved range of addresses on a GPU, committed from its start up to some granule.
pub struct Range {
    start: u64,
    capacity: u64,
    /// Where each piece of memory ends, and its handle; back to back from the start.
    pieces: Vec<(u64, CUmemGenericAllocationHandle)>,
    context: &'static Context,
}

impl Range {
    /// Memory comes in multiples of this many bytes: what Hopper's driver wants.
    pub const GRANULE: u64 = 2 << 20;

    /// Reserves `capacity` bytes of addresses, rounded up to granules. It takes no memory.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn reserve(context: &'static Context, capacity: u64) -> Result<Self> {
        context.bind()?;
        let (mut granule, flag) = (0, Granularity::CU_MEM_ALLOC_GRANULARITY_MINIMUM);
        let properties = properties(context);
        // SAFETY: writes one integer.
        let asked = unsafe { sys::cuMemGetAllocationGranularity(&mut granule, &properties, flag) };
        check("cuMemGetAllocationGranularity", asked)?;
        let granule = granule as u64;
        if granule == 0 || !Self::GRANULE.is_multiple_of(granule) {
            return Err(CudaError::Granule { found: granule, assumed: Self::GRANULE });
        }
        let capacity = capacity.next_multiple_of(Self::GRANULE);
        let mut start = 0;
        // SAFETY: writes one address.
        let reserved = unsafe {
            sys::cuMemAddressReserve(&mut start, capacity as usize, Self::GRANULE as usize, 0, 0)
        };
        check("cuMemAddressReserve", reserved)?;
        Ok(Self { start, capacity, pieces: Vec::new(), context })
    }

    /// The first address.
    pub fn start(&self) -> DevicePtr {
        DevicePtr(self.start)
    }

    /// Bytes of addresses.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes from the start that have memory behind them.
    pub fn committed(&self) -> u64 {
        self.pieces.last().map_or(0, |piece| piece.0)
    }

    /// Puts memory behind the first `bytes` bytes. Its contents are unspecified. If there is not enough,
    /// what was committed before stays, and nothing is added.
    ///
    /// # Errors
    /// The range or the GPU's memory is full.
    pub fn commit(&mut self, bytes: u64) -> Result<()> {
        let end = bytes.next_multiple_of(Self::GRANULE);
        if end > self.capacity {
            let (capacity, ordinal) = (self.capacity, self.context.ordinal());
            return Err(CudaError::RangeFull { capacity, ordinal });
        }
        let before = self.committed();
        if end <= before {
            return Ok(());
        }
        self.context.bind()?;
        while self.committed() < end {
            let piece = (end - self.committed()).min(PIECE);
            if let Err(error) = self.add(piece) {
                self.unmap(before);
                return Err(self.explain(error, end - before));
            }
        }
        self.allow(before, end - before).inspect_err(|_| self.unmap(before))
    }

    /// Maps one more piece of memory behind what is committed.
    fn add(&mut self, bytes: u64) -> Result<()> {
        let (mut handle, at) = (0, self.committed());
        let properties = properties(self.context);
        // SAFETY: writes one handle.
        check("cuMemCreate", unsafe {
            sys::cuMemCreate(&mut handle, bytes as usize, &properties, 0)
        })?;
        // SAFETY: addresses of this range that nothing is mapped to.
        let mapped = unsafe { sys::cuMemMap(self.start + at, bytes as usize, 0, handle, 0) };
        if let Err(error) = check("cuMemMap", mapped) {
            // SAFETY: made just before, and mapped nowhere.
            let _ = unsafe { sys::cuMemRelease(handle) };
            return Err(error);
        }
        self.pieces.push((at + bytes, handle));
        Ok(())
    }

    /// Lets the GPU read and write what was mapped.
    fn allow(&self, at: u64, bytes: u64) -> Result<()> {
        let access = CUmemAccessDesc {
            location: location(self.context),
            flags: CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
        };
        // SAFETY: addresses of this range that were just mapped.
        let set = unsafe { sys::cuMemSetAccess(self.start + at, bytes as usize, &access, 1) };
        check("cuMemSetAccess", set)
    }

    /// Takes the memory behind all but the first `bytes` bytes away, as far as whole pieces can be. It waits
    /// for everything that runs on the GPU, which may use it.
    ///
    /// # Errors
    /// Something that was running failed; nothing is taken away then.
    pub fn release(&mut self, bytes: u64) -> Result<()> {
        let first = self.pieces.partition_point(|piece| piece.0 < bytes);
        let keep = if bytes == 0 { 0 } else { self.pieces.get(first).map_or(bytes, |p| p.0) };
        if keep < self.committed() {
            self.context.synchronize()?;
            self.unmap(keep);
        }
        Ok(())
    }

    /// Unmaps all pieces that end beyond `end`, the last first.
    fn unmap(&mut self, end: u64) {
        while let Some(&(piece_end, handle)) = self.pieces.last()
            && piece_end > end
        {
            self.pieces.pop();
            let at = self.committed();
            // SAFETY: one whole piece, mapped once, that nothing on the GPU uses any more.
            unsafe {
                let _ = sys::cuMemUnmap(self.start + at, (piece_end - at) as usize);
                let _ = sys::cuMemRelease(handle);
            }
        }
    }

    /// Says how full the GPU is, if that is why.
    fn explain(&self, error: CudaError, bytes: u64) -> CudaError {
        let full = CUresult::CUDA_ERROR_OUT_OF_MEMORY as u32;
        match error {
            CudaError::Driver { call, code, .. } if code == full => {
                let (free, total) = self.context.memory().unwrap_or_default();
                let ordinal = self.context.ordinal();
                CudaError::OutOfMemory { call, bytes, free, total, ordinal }
            }
            other => other,
        }
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        // Work that was enqueued may still use the memory; if it failed, nothing runs any more.
        let _ = self.context.synchronize();
        self.unmap(0);
        // SAFETY: reserved once, and nothing is mapped there any more.
        let _ = unsafe { sys::cuMemAddressFree(self.start, self.capacity as usize) };
    }
}

fn location(context: &Context) -> CUmemLocation {
    let type_ = CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
    CUmemLocation { type_, id: context.device() as c_int }
}

/// Memory of the GPU, for this process alone.
fn properties(context: &Context) -> CUmemAllocationProp {
    CUmemAllocationProp {
        type_: CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED,
        requestedHandleTypes: CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_NONE,
        location: location(context),
        win32HandleMetaData: std::ptr::null_mut(),
        allocFlags: CUmemAllocationProp_st__bindgen_ty_1 {
            compressionType: 0,
            gpuDirectRDMACapable: 0,
            usage: 0,
            reserved: [0; 4],
        },
    }
}
