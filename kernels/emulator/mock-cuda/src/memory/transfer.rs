//! Copies and fills by address, on the thread of the stream that they were put on.

use super::space::{self, Segment};
use crate::fault::Fault;

/// The memory behind a range, or the fault of a device that accesses it.
fn behind(what: &str, address: u64, bytes: usize) -> Result<Vec<Segment>, Fault> {
    space::segments(address, bytes).map_err(|at| {
        Fault::illegal_address(format!(
            "{what} of {bytes} bytes at {address:#x}: nothing accessible is mapped at {at:#x}"
        ))
    })
}

/// Copies `bytes` from `source` to `target`; either may be a device's or pinned memory.
///
/// # Errors
/// An illegal address; then nothing was copied.
pub fn copy(target: u64, source: u64, bytes: usize) -> Result<(), Fault> {
    let _held = space::hold();
    let from = behind("a copy from memory", source, bytes)?;
    let to = behind("a copy into memory", target, bytes)?;
    let (mut from, mut to) = (from.iter(), to.iter());
    let (mut source, mut target) = ((0, 0), (0, 0));
    let mut left = bytes;
    while left > 0 {
        source = next(source, &mut from);
        target = next(target, &mut to);
        let n = source.1.min(target.1);
        // SAFETY: both lie in segments of memory that is held. Another stream may write there at the
        // same time, as on a device; what is copied is then whatever was there.
        unsafe { std::ptr::copy(source.0 as *const u8, target.0 as *mut u8, n) };
        source = (source.0 + n, source.1 - n);
        target = (target.0 + n, target.1 - n);
        left -= n;
    }
    Ok(())
}

/// The rest of a segment, as place and length, or the next segment if nothing is left of it.
fn next<'a>(
    rest: (usize, usize),
    segments: &mut impl Iterator<Item = &'a Segment>,
) -> (usize, usize) {
    if rest.1 > 0 { rest } else { segments.next().map_or((0, 0), |s| (s.host, s.bytes)) }
}

/// Copies from memory to `target`, an address of this process.
///
/// # Errors
/// An illegal address.
///
/// # Safety
/// `target` must have room for `bytes`.
pub unsafe fn read(target: *mut u8, source: u64, bytes: usize) -> Result<(), Fault> {
    let _held = space::hold();
    let mut done = 0;
    for segment in behind("a copy from memory", source, bytes)? {
        // SAFETY: the segment's memory is held; the caller promises the target.
        unsafe {
            target.add(done).copy_from_nonoverlapping(segment.host as *const u8, segment.bytes)
        };
        done += segment.bytes;
    }
    Ok(())
}

/// Copies from `source`, an address of this process, into memory.
///
/// # Errors
/// An illegal address.
///
/// # Safety
/// `bytes` must be readable at `source`.
pub unsafe fn write(target: u64, source: *const u8, bytes: usize) -> Result<(), Fault> {
    let _held = space::hold();
    let mut done = 0;
    for segment in behind("a copy into memory", target, bytes)? {
        // SAFETY: the segment's memory is held; the caller promises the source.
        unsafe {
            (segment.host as *mut u8).copy_from_nonoverlapping(source.add(done), segment.bytes)
        };
        done += segment.bytes;
    }
    Ok(())
}

/// Fills memory with a pattern of 1, 2 or 4 bytes, which divides the length.
///
/// # Errors
/// An illegal address.
pub fn fill(target: u64, pattern: &[u8], bytes: usize) -> Result<(), Fault> {
    let _held = space::hold();
    let mut done = 0;
    for segment in behind("a fill", target, bytes)? {
        let first = segment.host as *mut u8;
        let head = segment.bytes.min(pattern.len());
        // SAFETY: within the segment, whose memory is held: first one pattern, then what is there,
        // doubled until it is full.
        unsafe {
            (0..head).for_each(|i| first.add(i).write(pattern[(done + i) % pattern.len()]));
            let mut filled = head;
            while filled < segment.bytes {
                let more = filled.min(segment.bytes - filled);
                first.add(filled).copy_from_nonoverlapping(first, more);
                filled += more;
            }
        }
        done += segment.bytes;
    }
    Ok(())
}
