//! The functions that the library exports, grouped as the driver's documentation groups them.

pub mod context;
pub mod copy;
pub mod device;
pub mod error;
pub mod event;
pub mod fill;
pub mod host_memory;
pub mod initialise;
pub mod memory;
pub mod pool;
pub mod stream;
pub mod unsupported;
pub mod virtual_memory;
