//! Memory of devices and pinned memory of the host.
//!
//! A device's address is not an address of this process: it is far outside what a processor can
//! address, so that host code which dereferences one is caught at once, as with a real device. What
//! lies behind addresses is host memory, filled with 0xCD when it is new. No address is used twice,
//! so what was freed stays freed.
//!
//! | module | holds |
//! |---|---|
//! | [`pages`] | physical memory, counted against a device's capacity |
//! | [`space`] | which addresses are mapped to which pages, and who may access them |
//! | [`device`] | `cuMemAlloc` and its like |
//! | [`pool`] | pools of stream-ordered allocation |
//! | [`virtual_range`] | reserved ranges into which physical memory is mapped |
//! | [`shadow`] | where such ranges lie in this process |
//! | [`host`] | pinned memory |
//! | [`transfer`] | copies and fills by address |

pub mod device;
pub mod host;
pub mod pages;
pub mod pool;
pub mod shadow;
pub mod space;
pub mod transfer;
pub mod virtual_range;
