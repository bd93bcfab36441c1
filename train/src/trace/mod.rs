//! Memory event logs, read and replayed: what a run's allocators did, as `docs/memory-events.md` has it.
//!
//! [`logs`] finds the logs of a run; [`Playback`] streams one of them, event by event, and follows what is
//! live; [`Summary`] says what a log comes to. Files may be cut, foreign or hostile: all that can come of them is an error that names the byte.
//!
//! ```no_run
//! use slimpipe_train::trace::{Playback, What, logs};
//! for path in logs("runs/train-1".as_ref())? {
//!     let mut log = Playback::open(&path)?;
//!     while let Some(event) = log.next()? {
//!         match event.what {
//!             What::Alloc(block) => println!("{} {}", log.name(block.name).op(), block.bytes),
//!             What::Free { .. } => println!("{:?}", event.freed.map(|held| held.block.unit)),
//!             _ => {}
//!         }
//!     }
//!     println!("rank {}: {} bytes at most", log.rank(), log.memory().active().peak);
//! }
//! # Ok::<(), slimpipe_train::trace::TraceError>(())
//! ```

mod diff;
mod error;
pub mod export;
mod files;
mod playback;
mod replay;
pub mod summary;
pub mod view;

pub use diff::{Change, Diff, Owner as ChangedOwner, diff};
pub use error::TraceError;
pub use files::{logs, timeline};
pub use playback::{Event, Playback};
pub use replay::{Held, Meter, RegionState, Replay};
pub use slimpipe_allocator::events::{Block, Name, NameId, What};
pub use summary::Summary;
