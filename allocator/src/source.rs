//! Where bytes come from: a range of addresses reserved once and backed by pages as it fills.
//!
//! A region can then grow without moving, and "reserved" is what the process really holds. On Unix
//! the range is mapped inaccessible and made readable page by page. Elsewhere each range would need
//! that system's calls; the build says so.

use std::ptr::NonNull;

use crate::{AllocError, Bytes};

/// Bytes per page that ranges are committed in.
pub(crate) const PAGE: u64 = 4096;

/// Addresses one region may come to use.
const RANGE: u64 = 256 << 30;

/// A reserved range of addresses, committed from its start up to some page.
pub(crate) struct Range {
    base: NonNull<u8>,
    committed: u64,
}

// SAFETY: the range is plain memory owned by this value; it has no affinity to a thread.
unsafe impl Send for Range {}

#[cfg(unix)]
impl Range {
    pub(crate) fn reserve() -> Result<Self, AllocError> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping at an address of the system's choice.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), RANGE as usize, libc::PROT_NONE, flags, -1, 0)
        };
        match NonNull::new(base.cast::<u8>()) {
            Some(base) if base.as_ptr().cast() != libc::MAP_FAILED => {
                Ok(Self { base, committed: 0 })
            }
            _ => Err(AllocError::AddressSpace {
                bytes: Bytes(RANGE),
                source: std::io::Error::last_os_error(),
            }),
        }
    }

    fn protect(&self, from: u64, to: u64, protection: i32) -> Result<(), std::io::Error> {
        // SAFETY: `from..to` lies inside the range this value owns.
        let code = unsafe {
            libc::mprotect(
                self.base.as_ptr().add(from as usize).cast(),
                (to - from) as usize,
                protection,
            )
        };
        if code == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    }

    /// Makes the first `bytes` bytes readable and writable; new pages are zero.
    pub(crate) fn commit(&mut self, bytes: u64) -> Result<(), std::io::Error> {
        let end = pages(bytes);
        if end > RANGE {
            return Err(std::io::Error::other("the region's address range is full"));
        }
        if end > self.committed {
            self.protect(self.committed, end, libc::PROT_READ | libc::PROT_WRITE)?;
            self.committed = end;
        }
        Ok(())
    }

    /// Gives the pages beyond the first `bytes` bytes back.
    pub(crate) fn release(&mut self, bytes: u64) {
        let end = pages(bytes);
        if end >= self.committed {
            return;
        }
        let len = (self.committed - end) as usize;
        // SAFETY: the pages lie inside the range and, by the caller's account, hold nothing live.
        let code = unsafe {
            libc::madvise(self.base.as_ptr().add(end as usize).cast(), len, libc::MADV_DONTNEED)
        };
        if code == 0 && self.protect(end, self.committed, libc::PROT_NONE).is_ok() {
            self.committed = end;
        }
    }
}

#[cfg(unix)]
impl Drop for Range {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `reserve`; nothing points into it any more, since
        // every allocation keeps the memory it came from alive.
        unsafe { libc::munmap(self.base.as_ptr().cast(), RANGE as usize) };
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

    /// The address of byte `offset`, which must be committed.
    pub(crate) fn at(&self, offset: u64) -> NonNull<u8> {
        debug_assert!(offset <= self.committed);
        // SAFETY: inside the range; the sum of a non-null base and an offset in it is not null.
        unsafe { NonNull::new_unchecked(self.base.as_ptr().add(offset as usize)) }
    }
}

/// `bytes` rounded up to whole pages.
pub(crate) fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE)
}
