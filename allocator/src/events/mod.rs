//! The event log: a compact, append-only file of what happened to a rank's memory.
//!
//! The format is described in `docs/memory-events.md`. A file cut anywhere opens up to the cut;
//! lengths in it are never believed beyond a small bound. [`Reader`] streams a log in bounded memory;
//! [`Log`] holds a small one whole.
//!
//! ```
//! use slimpipe_allocator::events::{Reader, What};
//! use slimpipe_allocator::{Memory, allocate};
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("events");
//! let memory = Memory::builder(0).trace(&path)?.build();
//! let entered = memory.enter();
//! drop((allocate(1000, "matmul")?, entered, memory));
//! let mut reader = Reader::open(&path)?;
//! while let Some(event) = reader.next()? {
//!     if let What::Alloc(block) = event.what {
//!         assert_eq!((block.bytes, block.requested), (1024, 1000));
//!         assert_eq!(reader.name(block.name).op(), "matmul");
//!     }
//! }
//! assert!(!reader.truncated());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod event;
mod log;
mod reader;
mod record;

pub use event::{Block, Logged, Name, NameId, What};
pub use log::Log;
pub use reader::{ReadError, Reader};
pub(crate) use record::{MAX_NAME, RECORD, Raw, UNPLANNED, header, kind, padded};
