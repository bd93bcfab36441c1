//! The functions that the library exports, grouped as the driver's documentation groups them.

pub mod context;
pub mod copy;
pub mod device;
pub mod error;
pub mod event;
pub mod fill;
pub mod function;
pub mod host_memory;
pub mod initialise;
pub mod launch;
pub mod memory;
pub mod module;
pub mod occupancy;
pub mod pool;
pub mod stream;
pub mod tensor_map;
pub mod unsupported;
pub mod virtual_memory;
