//! Where bytes come from: a range of addresses reserved once and backed by pages as it fills.
//!
//! A region can then grow without moving, and "reserved" is what the process really holds. On Unix
//! the range is mapped inaccessible and made readable page by page. Elsewhere each range would need
//! that system's calls; the build says so.
//!
//! On Linux the range asks for huge pages. The kernel maps one only where all of it is committed, so
//! the process may hold more than is *active*, but never more than is *reserved*.

use std::io::{Error, Result};
use std::ptr::NonNull;
use std::sync::OnceLock;

/// Addresses that one region may come to use.
pub(crate) const RANGE: u64 = 256 << 30;
/// What a region makes do with where addresses are scarce (`ulimit -v`, very many ranks).
const SMALLEST_RANGE: u64 = 1 << 30;
/// Ranges begin at a huge page.
const HUGE_PAGE: u64 = 2 << 20;

/// A reserved range of addresses, committed from its start up to some page.
pub(crate) struct Range {
    base: NonNull<u8>,
    /// What the system gave; `base` is its first huge page.
    mapping: (NonNull<u8>, u64),
    committed: u64,
    capacity: u64,
}

// SAFETY: the range is plain memory owned by this value; it has no affinity to a thread.
unsafe impl Send for Range {}

#[cfg(unix)]
impl Range {
    pub(crate) fn reserve() -> Result<Self> {
        let mut capacity = RANGE;
        loop {
            match map_inaccessible(std::ptr::null_mut(), capacity + HUGE_PAGE, 0) {
                Ok(start) => {
                    let ahead = (start.as_ptr() as u64).wrapping_neg() % HUGE_PAGE;
                    // SAFETY: `ahead` is less than the huge page that was mapped in excess.
                    let base = unsafe { start.add(ahead as usize) };
                    let mapping = (start, capacity + HUGE_PAGE);
                    return Ok(Self { base, mapping, committed: 0, capacity });
                }
                Err(error) if capacity == SMALLEST_RANGE => return Err(error),
                Err(_) => capacity /= 2,
            }
        }
    }

    /// Makes the first `bytes` bytes readable and writable; new pages are zero.
    pub(crate) fn commit(&mut self, bytes: u64) -> Result<()> {
        let end = pages(bytes);
        if end > self.capacity {
            return Err(Error::other("the region's address range is full"));
        }
        if end > self.committed {
            let (start, len) = (self.at(self.committed), (end - self.committed) as usize);
            // SAFETY: the pages lie inside the range that this value owns.
            let code = unsafe {
                libc::mprotect(start.as_ptr().cast(), len, libc::PROT_READ | libc::PROT_WRITE)
            };
            if code != 0 {
                return Err(Error::last_os_error());
            }
            self.committed = end;
        }
        Ok(())
    }

    /// Gives the pages beyond the first `bytes` bytes back; the caller holds nothing live there.
    pub(crate) fn release(&mut self, bytes: u64) {
        let end = pages(bytes);
        if end >= self.committed {
            return;
        }
        let start = self.at(end).as_ptr();
        // Pages that cannot be given back stay committed, and are reported as such.
        if map_inaccessible(start, self.committed - end, libc::MAP_FIXED).is_ok() {
            self.committed = end;
        }
    }
}

/// Maps addresses without pages behind them: anywhere, or with `MAP_FIXED` over what was at `at`,
/// which must then belong to the caller.
#[cfg(unix)]
fn map_inaccessible(at: *mut u8, len: u64, fixed: i32) -> Result<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | fixed;
    // SAFETY: a fresh anonymous mapping, at an address of the system's choice or over the caller's.
    let start = unsafe { libc::mmap(at.cast(), len as usize, libc::PROT_NONE, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(Error::last_os_error());
    }
    #[cfg(target_os = "linux")]
    // SAFETY: advice on the mapping just made; it changes no contents, and its refusal no result.
    unsafe {
        libc::madvise(start, len as usize, libc::MADV_HUGEPAGE);
    }
    NonNull::new(start.cast()).ok_or_else(|| Error::other("the system mapped address zero"))
}

#[cfg(unix)]
impl Drop for Range {
    fn drop(&mut self) {
        let (start, len) = self.mapping;
        // SAFETY: exactly the mapping made in `reserve`; nothing points into it any more, since
        // every allocation keeps the memory it came from alive.
        unsafe { libc::munmap(start.as_ptr().cast(), len as usize) };
    }
}

#[cfg(not(unix))]
compile_error!(
    "slimpipe-allocator reserves address ranges with mmap; add VirtualAlloc to source.rs for this system"
);

impl Range {
    pub(crate) fn committed(&self) -> u64 {
        self.committed
    }

    /// The address of byte `offset`, which must not lie beyond the committed bytes.
    pub(crate) fn at(&self, offset: u64) -> NonNull<u8> {
        debug_assert!(offset <= self.committed);
        // SAFETY: inside the range that was mapped at `base`.
        unsafe { self.base.add(offset as usize) }
    }
}

/// `bytes` rounded up to whole pages.
pub(crate) fn pages(bytes: u64) -> u64 {
    static PAGE: OnceLock<u64> = OnceLock::new();
    // SAFETY: reads a constant of the system.
    let page = *PAGE.get_or_init(|| unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(4096) as u64);
    bytes.next_multiple_of(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_pages_come_back_zeroed_and_the_rest_keeps_its_contents() {
        let mut range = Range::reserve().unwrap();
        let bytes = 4 * pages(1);
        range.commit(bytes).unwrap();
        let all = |range: &Range| {
            // SAFETY: committed just before, and only this test uses the range.
            unsafe { std::slice::from_raw_parts_mut(range.at(0).as_ptr(), bytes as usize) }
        };
        all(&range).fill(7);
        range.release(pages(1) + 1);
        assert_eq!(range.committed(), 2 * pages(1));
        range.commit(bytes).unwrap();
        let kept = bytes as usize / 2;
        assert!(all(&range)[..kept].iter().all(|&byte| byte == 7));
        assert!(all(&range)[kept..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_range_does_not_grow_beyond_its_addresses() {
        let mut range = Range::reserve().unwrap();
        assert!(range.commit(RANGE + 1).is_err());
        assert_eq!(range.committed(), 0);
    }
}
