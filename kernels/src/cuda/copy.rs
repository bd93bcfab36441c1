//! Copies and fills, enqueued on a stream.

use std::ffi::c_void;

use cudarc::driver::sys;

use super::DevicePtr;
use super::driver::check;
use super::error::Result;
use super::stream::Stream;

/// Copies `bytes` bytes from the host. From pageable memory the driver copies before it returns, so that
/// the source may change then; from [pinned](super::Pinned) memory it does not.
///
/// # Errors
/// The driver refuses.
///
/// # Safety
/// Both ranges are valid, and nobody else writes them until the stream has done it.
pub unsafe fn to_device(
    stream: &Stream,
    from: *const u8,
    to: DevicePtr,
    bytes: usize,
) -> Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    stream.context().bind()?;
    // SAFETY: as the caller promises.
    let copied =
        unsafe { sys::cuMemcpyHtoDAsync_v2(to.0, from.cast::<c_void>(), bytes, stream.raw()) };
    check("cuMemcpyHtoDAsync", copied)
}

/// Copies `bytes` bytes to the host, where they are once the stream has done it.
///
/// # Errors
/// The driver refuses.
///
/// # Safety
/// Both ranges are valid, and nobody else uses the host's until the stream has done it.
pub unsafe fn to_host(stream: &Stream, from: DevicePtr, to: *mut u8, bytes: usize) -> Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    stream.context().bind()?;
    // SAFETY: as the caller promises.
    let copied =
        unsafe { sys::cuMemcpyDtoHAsync_v2(to.cast::<c_void>(), from.0, bytes, stream.raw()) };
    check("cuMemcpyDtoHAsync", copied)
}

/// Copies `bytes` bytes on the GPU.
///
/// # Errors
/// The driver refuses.
///
/// # Safety
/// Both ranges are valid and do not overlap, and nobody else writes them until the stream has done it.
pub unsafe fn on_device(
    stream: &Stream,
    from: DevicePtr,
    to: DevicePtr,
    bytes: usize,
) -> Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    stream.context().bind()?;
    // SAFETY: as the caller promises.
    let copied = unsafe { sys::cuMemcpyDtoDAsync_v2(to.0, from.0, bytes, stream.raw()) };
    check("cuMemcpyDtoDAsync", copied)
}

/// Fills `count` 16-bit words with `value`.
///
/// # Errors
/// The driver refuses, as when the address is no multiple of 2.
///
/// # Safety
/// The range is valid, and nobody else uses it until the stream has done it.
pub unsafe fn fill_u16(stream: &Stream, at: DevicePtr, value: u16, count: usize) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    stream.context().bind()?;
    // SAFETY: as the caller promises.
    let filled = unsafe { sys::cuMemsetD16Async(at.0, value, count, stream.raw()) };
    check("cuMemsetD16Async", filled)
}

/// Fills `count` 32-bit words with `value`.
///
/// # Errors
/// The driver refuses, as when the address is no multiple of 4.
///
/// # Safety
/// As [`fill_u16`].
pub unsafe fn fill_u32(stream: &Stream, at: DevicePtr, value: u32, count: usize) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    stream.context().bind()?;
    // SAFETY: as the caller promises.
    let filled = unsafe { sys::cuMemsetD32Async(at.0, value, count, stream.raw()) };
    check("cuMemsetD32Async", filled)
}

/// Fills `bytes` bytes with `value`.
///
/// # Errors
/// The driver refuses.
///
/// # Safety
/// The range is valid, and nobody else uses it until the stream has done it.
pub unsafe fn fill(stream: &Stream, at: DevicePtr, value: u8, bytes: usize) -> Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    stream.context().bind()?;
    // SAFETY: as the caller promises.
    let filled = unsafe { sys::cuMemsetD8Async(at.0, value, bytes, stream.raw()) };
    check("cuMemsetD8Async", filled)
}
