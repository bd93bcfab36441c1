//! Tensors without gradients: element types, shapes, layouts, devices and storage.
//!
//! ```
//! use slimpipe_runtime::{DType, Device, RawTensor};
//! let x = RawTensor::from_slice(&[1f32, 2., 3., 4., 5., 6.], (2, 3), Device::Cpu)?;
//! let row = x.narrow(0, 1, 1)?;                       // a view, nothing is copied
//! assert_eq!(row.to_vec::<f32>()?, [4., 5., 6.]);
//! let shape_only = RawTensor::zeros((1 << 20, 1 << 20), DType::BF16, Device::Meta)?;
//! assert_eq!(shape_only.bytes(), 2 << 40);            // meta tensors take no memory
//! # Ok::<(), slimpipe_runtime::Error>(())
//! ```
//!
//! A [`RawTensor`] is a cheap handle: shared storage plus a [`Layout`]. Memory comes from the
//! scope that is current on the thread (see `slimpipe_allocator`), so the code that makes a tensor
//! never names an allocator. Reading a tensor whose unit was closed is an error, never stale data.
//!
//! | module | owns |
//! |---|---|
//! | [`dtype`] | element types |
//! | [`shape`], [`layout`] | extents, strides, views, broadcasting |
//! | [`storage`], [`tensor`] | bytes with an owner, and handles on them |
//! | [`device`] | where a tensor lives |
//! | [`random`] | the counter-based generator |
//! | [`team`] | the threads that share one operation |
//! | [`stream`] | a rank's queues of work on a GPU |
//! | [`cuda`] | a GPU's memory for the allocator, and pinned memory beside it |

mod contents;
pub mod cuda;
pub mod device;
mod display;
pub mod dtype;
mod error;
pub mod layout;
pub mod random;
pub mod shape;
pub mod storage;
pub mod stream;
pub mod team;
pub mod tensor;

pub use device::Device;
pub use dtype::{DType, Element};
pub use error::{Error, Result};
pub use layout::Layout;
pub use shape::Shape;
pub use tensor::RawTensor;
