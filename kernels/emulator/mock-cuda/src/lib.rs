//! A look-alike of the CUDA driver, so that programs that use it run where there is no GPU.
//!
//! The library has the driver's soname and exports its functions; cudarc, unmodified, calls them.
//! Streams are threads, device memory is host memory at addresses of its own, kernels are PTX that
//! the emulator executes. What a real driver refuses is refused; what would be a fault on the device
//! fails the context as there, and the mock can say what happened. Tests open it through the crate
//! `slimpipe-mock`.
//!
//! Order is all that a stream promises. To find code that forgets to wait, operations can be delayed
//! at random or put off until somebody waits for them (the setting `order`).
//!
//! | module | holds |
//! |---|---|
//! | [`api`] | the driver's functions |
//! | [`context`], [`stream`], [`event`] | who waits for whom |
//! | [`memory`] | addresses, what lies behind them, copies |
//! | [`module`] | kernels, and what a launch must fulfil |
//! | [`facts`] | what the device says of itself |
//! | [`fault`], [`hang`] | what goes wrong |
//! | [`settings`], [`counters`], [`control`] | what tests set and read |

#![allow(non_snake_case)]

pub mod abi;
pub mod api;
pub mod context;
pub mod control;
pub mod counters;
pub mod event;
pub mod facts;
pub mod fault;
pub mod hang;
pub mod memory;
pub mod module;
pub mod settings;
pub mod stream;
