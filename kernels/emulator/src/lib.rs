//! Executes sm_90a PTX on the CPU, with checks a GPU does not make.

mod exec;
mod fault;
mod isa;
mod memory;
mod parse;
mod program;
mod registers;
mod tensor_map;

pub use exec::{Launch, Policy, Report};
pub use fault::{Fault, FaultKind};
pub use memory::{Memory, MemoryError};
pub use parse::ParseError;
pub use program::{Kernel, Module, ParamLayout, UnknownKernel};
pub use tensor_map::{Element, Fill, Swizzle, TensorMap, TensorMapError};
