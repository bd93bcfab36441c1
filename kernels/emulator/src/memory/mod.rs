//! Global memory, and how the address spaces share one range of generic addresses.

mod allocation;
mod error;
mod global;
mod view;
pub(crate) mod window;

pub use error::MemoryError;
pub use global::Memory;
pub(crate) use view::View;
