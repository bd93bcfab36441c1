//! Reserved ranges of addresses, and physical memory that is mapped into them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use cudarc::driver::sys::CUresult;
use slimpipe_mock_protocol::handles::Handles;

use super::{
    device::{self, FIRST_RESERVED},
    pages::Pages,
    space::{self, Access, Mapping, Origin},
};
use crate::counters::{Count, count};

/// Sizes and addresses are multiples of this many bytes.
pub const GRANULARITY: usize = 2 << 20;

const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;

static NEXT: AtomicU64 = AtomicU64::new(FIRST_RESERVED);

/// Reserved ranges by their beginning.
static RESERVED: Mutex<BTreeMap<u64, usize>> = Mutex::new(BTreeMap::new());

/// Physical memory by handle.
static PHYSICAL: Handles<Pages> = Handles::new();

/// Whether `bytes` at `address` have a size and a place that the driver takes.
fn check(address: u64, bytes: usize) -> Result<(), CUresult> {
    let fits = |n: usize| n.is_multiple_of(GRANULARITY);
    if bytes > 0 && fits(bytes) && fits(address as usize) { Ok(()) } else { Err(INVALID) }
}

/// Reserves a range of addresses.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` for a size that is no multiple of the granularity, or an alignment
/// that is no power of two.
pub fn reserve(bytes: usize, alignment: usize) -> Result<u64, CUresult> {
    check(0, bytes)?;
    if alignment != 0 && !alignment.is_power_of_two() {
        return Err(INVALID);
    }
    let alignment = alignment.max(GRANULARITY) as u64;
    // A gap behind the range, so that ranges never touch.
    let room = bytes as u64 + alignment + GRANULARITY as u64;
    let address = NEXT.fetch_add(room, Ordering::Relaxed).next_multiple_of(alignment);
    RESERVED.lock().unwrap_or_else(|e| e.into_inner()).insert(address, bytes);
    count(Count::Reservation);
    Ok(address)
}

/// Gives a reserved range back.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` for what is not exactly a reserved range, or one with memory in it.
pub fn unreserve(address: u64, bytes: usize) -> Result<(), CUresult> {
    let mut reserved = RESERVED.lock().unwrap_or_else(|e| e.into_inner());
    if reserved.get(&address) != Some(&bytes) || space::overlaps(address, bytes) {
        return Err(INVALID);
    }
    reserved.remove(&address);
    Ok(())
}

/// Whether all of `address..address + bytes` is reserved by one call.
pub fn is_reserved(address: u64, bytes: usize) -> bool {
    let reserved = RESERVED.lock().unwrap_or_else(|e| e.into_inner());
    let below = reserved.range(..=address).next_back();
    below.is_some_and(|(base, all)| {
        address.checked_add(bytes as u64).is_some_and(|end| end <= base + *all as u64)
    })
}

/// Takes physical memory of a device.
///
/// # Errors
/// `CUDA_ERROR_OUT_OF_MEMORY`; `CUDA_ERROR_INVALID_VALUE` for a size that is no multiple of the
/// granularity.
pub fn create(device: usize, bytes: usize) -> Result<u64, CUresult> {
    check(0, bytes)?;
    let pages = device::take("cuMemCreate", device, bytes)?;
    Ok(PHYSICAL.add::<()>(pages) as u64)
}

/// Gives a handle back; the memory is free when no mapping uses it.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` for what is no handle.
pub fn release(handle: u64) -> Result<(), CUresult> {
    PHYSICAL.remove(handle as *mut ()).ok_or(INVALID)?;
    count(Count::Free);
    Ok(())
}

/// Maps the first bytes of some physical memory into a reserved range. Nobody may access it yet.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` for a stale handle, addresses that are not reserved or mapped
/// already, more bytes than there are, an offset.
pub fn map(address: u64, bytes: usize, offset: usize, handle: u64) -> Result<(), CUresult> {
    check(address, bytes)?;
    let pages = PHYSICAL.get(handle as *mut ()).ok_or(INVALID)?;
    let free = is_reserved(address, bytes) && !space::overlaps(address, bytes);
    if !free || offset != 0 || bytes > pages.bytes() {
        return Err(INVALID);
    }
    let host = pages.address();
    let (origin, access) = (Origin::Virtual, Access::default());
    space::map(address, Mapping { bytes, host, pages: Some(pages), origin, access });
    count(Count::Map);
    Ok(())
}

/// Takes mappings away.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` unless the range consists of whole mappings.
pub fn unmap(address: u64, bytes: usize) -> Result<(), CUresult> {
    for base in mappings(address, bytes)? {
        space::unmap(base, |_| true);
        count(Count::Unmap);
    }
    Ok(())
}

/// Says whether a device may access a range.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` unless the range consists of whole mappings.
pub fn set_access(
    address: u64,
    bytes: usize,
    device: usize,
    allowed: bool,
) -> Result<(), CUresult> {
    space::set_access(&mappings(address, bytes)?, |access| access.with(device, allowed));
    Ok(())
}

/// Beginnings of the mappings that a range consists of.
fn mappings(address: u64, bytes: usize) -> Result<Vec<u64>, CUresult> {
    check(address, bytes)?;
    if !is_reserved(address, bytes) {
        return Err(INVALID);
    }
    space::tiling(address, bytes).ok_or(INVALID)
}

/// The physical memory behind an address, as one more handle.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` if nothing was mapped there.
pub fn handle_of(address: u64) -> Result<u64, CUresult> {
    let (_, mapping) = space::find(address).ok_or(INVALID)?;
    let pages: Arc<Pages> = mapping.pages.ok_or(INVALID)?;
    Ok(PHYSICAL.add::<()>(pages) as u64)
}
