//! NVIDIA's collectives, on GPUs of one or many hosts.
//!
//! A thin layer over the library: communicators that are made without blocking and with a timeout, calls
//! that enqueue on a stream, and a watchdog that looks for errors and for what takes too long. When
//! something fails, all of this process's communicators are aborted, so that no rank waits on its stream
//! for one that has gone, and later calls say what it was.
//!
//! | module | owns |
//! |---|---|
//! | [`library`] | the library's functions, loaded when first needed |
//! | [`rendezvous`], `folder` | how ranks agree on the id of their communicator |
//! | [`group`], [`calls`] | a communicator and what can be enqueued on it |
//! | [`NcclComm`] | the executor's messages and collectives on such groups |
//! | `channel` | messages one way between two ranks, with a group and a stream of their own |
//! | `staging` | a buffer through which the host's bytes go |
//! | `watchdog` | the thread that sees what fails |

pub mod calls;
mod channel;
mod communicator;
mod folder;
pub mod group;
mod launch;
pub mod library;
pub mod rendezvous;
mod shared;
mod staging;
mod watchdog;

pub use calls::{Calls, Reduce};
pub use communicator::NcclComm;
pub use group::NcclGroup;
pub use launch::launch;
pub use library::Library;
pub use rendezvous::Rendezvous;
