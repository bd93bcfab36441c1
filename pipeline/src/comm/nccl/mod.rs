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
//! | [`rendezvous`] | how ranks agree on the id of their communicator |
//! | [`group`] | a communicator and what can be enqueued on it |
//! | `watchdog` | the thread that sees what fails |

pub mod group;
pub mod library;
pub mod rendezvous;
mod watchdog;

pub use group::{NcclGroup, Reduce};
pub use library::Library;
pub use rendezvous::Rendezvous;
