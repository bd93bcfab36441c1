//! Modules and kernels, ready to be launched.

mod build;
mod kernel;
mod module;
mod variable;

pub(crate) use kernel::Program;
pub use kernel::{Kernel, ParamLayout};
pub use module::{Module, UnknownKernel};
pub(crate) use variable::Variables;
