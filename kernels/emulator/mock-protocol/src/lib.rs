//! What the look-alikes of libcuda, libnccl and libcublasLt have in common, and what tests say to them.
//!
//! | module | holds |
//! |---|---|
//! | [`control`] | the C functions by which a process configures a mock and reads its counters |
//! | [`driver`], [`door`] | what other mocks ask of the mock driver, and how they find it |
//! | [`settings`] | a setting's name, its environment variable, how values are read |
//! | [`trigger`] | "the third operation called rms_norm": when a planted fault strikes |
//! | [`order`] | when an operation that could run does run: at once, after a random delay, late |
//! | [`random`] | a seeded stream of numbers |
//! | [`handles`] | objects behind opaque handles, so that a stale handle is an error and no crash |
//! | [`guard`] | a panic inside a C function becomes an error code |

pub mod control;
pub mod door;
pub mod driver;
pub mod guard;
pub mod handles;
pub mod order;
pub mod random;
pub mod settings;
pub mod trigger;
