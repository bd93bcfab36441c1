//! Device memory that is allocated as a whole.

use std::sync::atomic::{AtomicU64, Ordering};

use cudarc::driver::sys::CUresult;

use super::{
    pages::Pages,
    pool::Pool,
    space::{self, Access, Mapping, Origin},
};
use crate::{
    counters::{Count, count, count_bytes},
    settings,
};
use std::sync::Arc;

/// Where addresses of device memory begin: beyond what a processor's addresses reach.
pub const FIRST_ADDRESS: u64 = 1 << 52;

/// Where addresses of allocations end and those of reserved ranges begin.
pub const FIRST_RESERVED: u64 = 1 << 53;

/// Allocations begin at multiples of this, as the driver's do, and lie at least as far apart, so
/// that whoever runs over the end of one does not reach the next.
const ALIGNMENT: u64 = 512;

static NEXT: AtomicU64 = AtomicU64::new(FIRST_ADDRESS);

/// Takes physical memory of a device, by the function `name`, unless a planted fault strikes.
///
/// # Errors
/// `CUDA_ERROR_OUT_OF_MEMORY`; `CUDA_ERROR_INVALID_VALUE` for no bytes.
pub fn take<T>(
    name: &str,
    bytes: usize,
    take: impl FnOnce() -> Result<T, CUresult>,
) -> Result<T, CUresult> {
    if bytes == 0 {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    if settings::strikes(|s| &mut s.fail_allocation, name) {
        return Err(CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    }
    let taken = take()?;
    count_bytes(Count::Allocation, Count::AllocationBytes, bytes);
    Ok(taken)
}

/// Allocates device memory.
///
/// # Errors
/// Those of [`take`].
pub fn allocate(
    name: &str,
    device: usize,
    bytes: usize,
    pool: Option<Arc<Pool>>,
) -> Result<u64, CUresult> {
    let pages = take(name, bytes, || Pages::new(Some(device), bytes))?;
    let room = (bytes as u64).next_multiple_of(ALIGNMENT) + ALIGNMENT;
    let address = NEXT.fetch_add(room, Ordering::Relaxed);
    if let Some(pool) = &pool {
        pool.add(bytes);
    }
    let host = pages.address();
    let (origin, access) = (Origin::Allocation(pages, pool), Access::of(device));
    space::map(address, Mapping { bytes, host, origin, access });
    Ok(address)
}

/// Frees what [`allocate`] gave.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` if nothing allocated begins at `address`.
pub fn free(address: u64) -> Result<(), CUresult> {
    let allocated = |m: &Mapping| matches!(m.origin, Origin::Allocation(..));
    let give_back = |mapping: Mapping| {
        if let Origin::Allocation(_, Some(pool)) = &mapping.origin {
            pool.subtract(mapping.bytes);
        }
    };
    if !space::unmap(address, allocated, give_back) {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    count(Count::Free);
    Ok(())
}

/// Frees all that is allocated on a device, as the end of its context does.
pub fn free_all(device: usize) {
    let of_device =
        |m: &Mapping| matches!(m.origin, Origin::Allocation(..)) && m.device() == Some(device);
    for address in space::all(of_device) {
        let _ = free(address);
    }
}
