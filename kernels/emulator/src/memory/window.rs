//! Windows of generic addresses. All lie above what a host or a device can map.

/// Shared memory of the own block and its cluster.
pub(crate) const SHARED: u64 = 0x0100_0000_0000_0000;
/// Local memory of the own thread.
pub(crate) const LOCAL: u64 = 0x0200_0000_0000_0000;
/// Parameters of the kernel.
pub(crate) const PARAM: u64 = 0x0300_0000_0000_0000;
/// One behind the last window.
const END: u64 = 0x0400_0000_0000_0000;

/// Bytes at the beginning of shared memory that belong to the system, as on a GPU.
pub(crate) const SHARED_RESERVED: u32 = 1024;

/// A shared address has the block's rank in its cluster above these bits.
pub(crate) const RANK_SHIFT: u32 = 24;

/// The memory a generic address means, with the address in its own space.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    Global(u64),
    Shared(u32),
    Local(u64),
    Param(u64),
}

/// Where a generic address points.
#[inline(always)]
pub(crate) fn place(address: u64) -> Place {
    if !(SHARED..END).contains(&address) {
        Place::Global(address)
    } else if address < LOCAL {
        Place::Shared((address - SHARED).min(u64::from(u32::MAX)) as u32)
    } else if address < PARAM {
        Place::Local(address - LOCAL)
    } else {
        Place::Param(address - PARAM)
    }
}
