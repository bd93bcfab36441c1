//! Modules and kernels, ready to be launched.

mod allocate;
mod build;
mod kernel;
mod module;
mod variable;

pub use kernel::{Kernel, ParamLayout};
pub(crate) use kernel::{Program, REGISTERS};
pub use module::{Module, UnknownKernel};
pub(crate) use variable::Variables;
