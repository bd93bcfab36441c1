//! Reserved ranges of addresses, and physical memory that is mapped into them.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use cudarc::driver::sys::CUresult;
use slimpipe_mock_protocol::handles::Handles;

use super::{
    device::{self, FIRST_RESERVED},
    pages::Physical,
    shadow::Shadow,
    space::{self, Access, Mapping, Origin},
};
use crate::counters::{Count, count};

/// Sizes and addresses are multiples of this many bytes.
pub const GRANULARITY: usize = 2 << 20;

const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;

static NEXT: AtomicU64 = AtomicU64::new(FIRST_RESERVED);

/// A reserved range.
struct Range {
    bytes: usize,
    shadow: Shadow,
}

/// Reserved ranges by their beginning.
static RESERVED: Mutex<BTreeMap<u64, Range>> = Mutex::new(BTreeMap::new());

fn reserved() -> MutexGuard<'static, BTreeMap<u64, Range>> {
    RESERVED.lock().unwrap_or_else(|e| e.into_inner())
}

/// Physical memory by handle.
static PHYSICAL: Handles<Physical> = Handles::new();

/// Whether `bytes` at `address` have a size and a place that the driver takes.
fn check(address: u64, bytes: usize) -> Result<(), CUresult> {
    let fits = |n: usize| n.is_multiple_of(GRANULARITY);
    if bytes > 0 && fits(bytes) && fits(address as usize) { Ok(()) } else { Err(INVALID) }
}

/// Reserves a range of addresses.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` for a size that is no multiple of the granularity, or an alignment
/// that is no power of two; `CUDA_ERROR_OUT_OF_MEMORY` if the process has no such range.
pub fn reserve(bytes: usize, alignment: usize) -> Result<u64, CUresult> {
    check(0, bytes)?;
    if alignment != 0 && !alignment.is_power_of_two() {
        return Err(INVALID);
    }
    let alignment = alignment.max(GRANULARITY) as u64;
    // A gap behind the range, so that ranges never touch.
    let room = bytes as u64 + alignment + GRANULARITY as u64;
    let address = NEXT.fetch_add(room, Ordering::Relaxed).next_multiple_of(alignment);
    reserved().insert(address, Range { bytes, shadow: Shadow::new(bytes)? });
    count(Count::Reservation);
    Ok(address)
}

/// Gives a reserved range back.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` for what is not exactly a reserved range, or one with memory in it.
pub fn unreserve(address: u64, bytes: usize) -> Result<(), CUresult> {
    let mut reserved = reserved();
    let whole = reserved.get(&address).is_some_and(|range| range.bytes == bytes);
    if !whole || space::overlaps(address, bytes) {
        return Err(INVALID);
    }
    reserved.remove(&address);
    Ok(())
}

/// The reserved range that holds all of `address..address + bytes`, and the offset in it.
fn range_of(
    reserved: &BTreeMap<u64, Range>,
    address: u64,
    bytes: usize,
) -> Option<(&Range, usize)> {
    let (base, range) = reserved.range(..=address).next_back()?;
    let offset = (address - base) as usize;
    (offset.checked_add(bytes)? <= range.bytes).then_some((range, offset))
}

/// Whether an address is reserved.
pub fn is_reserved(address: u64) -> bool {
    range_of(&reserved(), address, 1).is_some()
}

/// Takes physical memory of a device.
///
/// # Errors
/// `CUDA_ERROR_OUT_OF_MEMORY`; `CUDA_ERROR_INVALID_VALUE` for a size that is no multiple of the
/// granularity.
pub fn create(device: usize, bytes: usize) -> Result<u64, CUresult> {
    check(0, bytes)?;
    let physical = device::take("cuMemCreate", bytes, || Physical::new(device, bytes))?;
    Ok(PHYSICAL.add::<()>(physical) as u64)
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
    let physical = PHYSICAL.get(handle as *mut ()).ok_or(INVALID)?;
    let reserved = reserved();
    let (range, at) = range_of(&reserved, address, bytes).ok_or(INVALID)?;
    if space::overlaps(address, bytes) || offset != 0 || bytes > physical.bytes() {
        return Err(INVALID);
    }
    range.shadow.put(at, bytes, &physical)?;
    let host = range.shadow.address() + at;
    let (origin, access) = (Origin::Virtual(physical), Access::default());
    space::map(address, Mapping { bytes, host, origin, access });
    count(Count::Map);
    Ok(())
}

/// Takes mappings away.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` unless the range consists of whole mappings.
pub fn unmap(address: u64, bytes: usize) -> Result<(), CUresult> {
    let reserved = reserved();
    for base in mappings(&reserved, address, bytes)? {
        let (range, at) = range_of(&reserved, base, 1).ok_or(INVALID)?;
        let mut cleared = Ok(());
        space::unmap(base, |_| true, |mapping| cleared = range.shadow.clear(at, mapping.bytes));
        cleared?;
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
    space::set_access(&mappings(&reserved(), address, bytes)?, device, allowed);
    Ok(())
}

/// Beginnings of the mappings that a range consists of.
fn mappings(
    reserved: &BTreeMap<u64, Range>,
    address: u64,
    bytes: usize,
) -> Result<Vec<u64>, CUresult> {
    check(address, bytes)?;
    range_of(reserved, address, bytes).ok_or(INVALID)?;
    space::tiling(address, bytes).ok_or(INVALID)
}

/// The physical memory behind an address, as one more handle.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` if nothing was mapped there.
pub fn handle_of(address: u64) -> Result<u64, CUresult> {
    match space::find(address).ok_or(INVALID)?.1.origin {
        Origin::Virtual(physical) => Ok(PHYSICAL.add::<()>(physical) as u64),
        _ => Err(INVALID),
    }
}
