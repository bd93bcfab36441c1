//! A range of device addresses with host bytes behind it.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};

/// Live bytes of the device. Whoever holds it may touch them.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub address: u64,
    pub bytes: usize,
    pub host: *mut u8,
    owned: Option<Layout>,
}

// SAFETY: the bytes behind `host` are plain memory; who accesses them from several threads at once
// is as racy as the kernels that are executed, and does so through raw pointers only.
unsafe impl Send for Allocation {}
// SAFETY: as above.
unsafe impl Sync for Allocation {}

/// What fresh global memory holds.
const POISON: u8 = 0xCD;

/// Device allocations begin at multiples of this, as the driver's do.
pub(crate) const ALIGNMENT: usize = 256;

impl Allocation {
    /// Fresh poisoned bytes.
    pub(crate) fn new(address: u64, bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes.max(1), ALIGNMENT)
            .expect("an allocation fits the address space");
        // SAFETY: the layout has at least one byte.
        let host = unsafe { alloc(layout) };
        if host.is_null() {
            handle_alloc_error(layout);
        }
        // SAFETY: `host` has `layout.size()` bytes.
        unsafe { host.write_bytes(POISON, layout.size()) };
        Self { address, bytes, host, owned: Some(layout) }
    }

    /// Bytes that somebody else owns.
    pub(crate) fn borrowed(address: u64, host: *mut u8, bytes: usize) -> Self {
        Self { address, bytes, host, owned: None }
    }

    pub(crate) fn end(&self) -> u64 {
        self.address + self.bytes as u64
    }

    pub(crate) fn is_owned(&self) -> bool {
        self.owned.is_some()
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if let Some(layout) = self.owned {
            // SAFETY: `host` came from `alloc` with this layout.
            unsafe { dealloc(self.host, layout) };
        }
    }
}
