//! The host's memory, page by page.
//!
//! On Unix the range is mapped inaccessible and made readable page by page. Elsewhere each range would need
//! that system's calls; the build says so. On Linux the range asks for huge pages. The kernel maps one only
//! where all of it is committed, so the process may hold more than is *active*, but never more than is
//! *reserved*.

use std::io::{Error, Result};
use std::ptr::NonNull;
use std::sync::OnceLock;

use super::{RANGE, Range, Source, Space};

/// What a region makes do with where addresses are scarce (`ulimit -v`, very many ranks).
const SMALLEST_RANGE: u64 = 1 << 30;
/// Ranges begin at a huge page.
const HUGE_PAGE: u64 = 2 << 20;
/// What an empty overflow region keeps, so that a thread which makes and drops one small tensor after another
/// does not call the system each time.
const KEEPS: u64 = 64 << 10;

/// This process's memory.
#[derive(Clone, Copy, Debug)]
pub struct Host;

impl Source for Host {
    fn space(&self) -> Space {
        Space::Host
    }

    fn name(&self) -> &'static str {
        "the operating system"
    }

    fn granule(&self) -> u64 {
        page()
    }

    fn keeps(&self) -> u64 {
        KEEPS
    }

    fn reserve(&self) -> Result<Box<dyn Range>> {
        Ok(Box::new(Pages::reserve()?))
    }

    unsafe fn fill(&self, at: NonNull<u8>, byte: u8, bytes: u64) {
        // SAFETY: as the caller promises.
        unsafe { at.as_ptr().write_bytes(byte, bytes as usize) };
    }
}

/// A reserved range of addresses, committed from its start up to some page.
struct Pages {
    base: NonNull<u8>,
    /// What the system gave; `base` is its first huge page.
    mapping: (NonNull<u8>, u64),
    committed: u64,
    capacity: u64,
}

// SAFETY: the range is plain memory owned by this value; it has no affinity to a thread.
unsafe impl Send for Pages {}

#[cfg(unix)]
impl Pages {
    fn reserve() -> Result<Self> {
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
}

#[cfg(unix)]
impl Range for Pages {
    fn start(&self) -> NonNull<u8> {
        self.base
    }

    fn committed(&self) -> u64 {
        self.committed
    }

    fn commit(&mut self, bytes: u64) -> Result<()> {
        let end = pages(bytes);
        if end > self.capacity {
            return Err(Error::other("the region's address range is full"));
        }
        if end > self.committed {
            let (start, len) = (super::at(self, self.committed), (end - self.committed) as usize);
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

    fn release(&mut self, bytes: u64) {
        let end = pages(bytes);
        if end >= self.committed {
            return;
        }
        let start = super::at(self, end).as_ptr();
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
impl Drop for Pages {
    fn drop(&mut self) {
        let (start, len) = self.mapping;
        // SAFETY: exactly the mapping made in `reserve`; nothing points into it any more, since
        // every allocation keeps the memory it came from alive.
        unsafe { libc::munmap(start.as_ptr().cast(), len as usize) };
    }
}

#[cfg(not(unix))]
compile_error!(
    "slimpipe-allocator reserves address ranges with mmap; add VirtualAlloc to source/host.rs for this system"
);

/// `bytes` rounded up to whole pages.
fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(page())
}

fn page() -> u64 {
    static PAGE: OnceLock<u64> = OnceLock::new();
    // SAFETY: reads a constant of the system.
    *PAGE.get_or_init(|| unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(4096) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_pages_come_back_zeroed_and_the_rest_keeps_its_contents() {
        let mut range = Pages::reserve().unwrap();
        let bytes = 4 * pages(1);
        range.commit(bytes).unwrap();
        let all = |range: &Pages| {
            // SAFETY: committed just before, and only this test uses the range.
            unsafe { std::slice::from_raw_parts_mut(range.start().as_ptr(), bytes as usize) }
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
        let mut range = Pages::reserve().unwrap();
        assert!(range.commit(RANGE + 1).is_err());
        assert_eq!(range.committed(), 0);
    }
}
