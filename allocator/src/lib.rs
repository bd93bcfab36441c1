//! Slice-aware memory for pipelines that train on sequence slices.
//!
//! ```
//! use slimpipe_allocator::{Bytes, Memory, UnitId, allocate};
//! let memory = Memory::builder(0).limit(Bytes(1 << 20)).build();
//! let _entered = memory.enter();                        // this thread now allocates from it
//! let unit = memory.unit(UnitId { microbatch: 0, slice: 0, chunk: 0 })?;
//! let forward = unit.forward();
//! let saved = allocate(4096, "activation")?;
//! drop(forward);
//! assert_eq!(memory.stats().total.active.current, 4096);
//! drop((saved, unit));                                  // the unit's memory is back, all of it
//! assert_eq!(memory.stats().total.active.current, 0);
//! assert!(allocate(2 << 20, "too_big").unwrap_err().to_string().contains("limit 1.0 MiB"));
//! # Ok::<(), slimpipe_allocator::AllocError>(())
//! ```
//!
//! A *unit* is (microbatch, slice, chunk): what a rank runs in one forward and one backward. Its
//! memory is planned: a [`Recorder`] watches one unit on the meta device, and the [`UnitPlan`] it
//! gives places every allocation of every later unit without any search. Units of a chunk save
//! tensors of equal sizes, so that what one backward frees fits the next forward exactly; nothing
//! can fragment. What departs from the plan goes to a general overflow region, counted.
//!
//! | module | owns |
//! |---|---|
//! | `memory`, `allocation` | the handles: [`Memory`], [`Unit`], [`Allocation`] |
//! | [`scope`] | what the current thread allocates from, and for which layer |
//! | `plan` | recording and replaying |
//! | `state`, `regions` | what is placed where, and the figures |
//! | [`arena`] | placement in one region; arithmetic on offsets only |
//! | [`source`] | where bytes come from: address ranges, and memory behind them |
//! | [`offload`] | a second memory, for units that wait for their backward |
//! | [`adaptor`] | limits, poison, failures, traces: wrapped around any memory |
//! | [`events`] | the event log and its reader |

pub mod adaptor;
mod allocation;
pub mod arena;
mod bytes;
mod error;
pub mod events;
mod id;
mod memory;
mod name;
pub mod offload;
mod plan;
mod regions;
pub mod scope;
pub mod source;
mod state;
mod stats;
mod sync;
mod trace;

pub use allocation::{Allocation, Pin};
pub use bytes::Bytes;
pub use error::{AllocError, OutOfMemory};
pub use id::{Phase, Region, UnitId};
pub use memory::{
    Memory, MemoryBuilder, MemoryGuard, PhaseGuard, Task, Unit, allocate, allocate_in,
    allocate_meta,
};
pub use name::intern;
pub use plan::{Recorder, RecorderPhase, UnitPlan};
pub use source::Space;
pub use stats::{Gauge, MemoryStats, Owner, UnitUsage, Usage};
pub use trace::Trace;
