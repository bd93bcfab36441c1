//! Running programs on paper: when each rank would do what, and what it would hold.
//!
//! The simulator consumes the same [`Action`](crate::schedule::Action)s as the executor and knows no
//! schedule. What an action costs in seconds and bytes is asked of a [`Costs`]; [`Equal`] is the one
//! of the literature's closed forms, [`Growing`] that of attention exchange. Programs are pulled action by action, so memory is proportional
//! to what is in flight, whatever their length.
//!
//! ```
//! use slimpipe_pipeline::schedule::{Schedule, ScheduleKind};
//! use slimpipe_pipeline::simulate::{Equal, simulate};
//! let schedule = Schedule::new(ScheduleKind::SlimPipe, 8, 32, 4, 5)?;
//! let found = simulate(&schedule, &Equal { forward: 1.0, backward: 2.0 })?;
//! assert_eq!(found.makespan, 1941.0);
//! assert_eq!(found.ranks[0].busy, 1920.0);
//! # Ok::<(), slimpipe_pipeline::schedule::ScheduleError>(())
//! ```

mod collective;
mod costs;
mod engine;
mod exchange;
mod ledger;
mod mail;
mod memory;
mod outcome;

pub use costs::{Costs, Equal, Growing, Link};
pub use engine::{Watch, simulate, simulate_programs};
pub use exchange::{Layers, Shipment};
pub use memory::{Category, Held};
pub use outcome::{Outcome, RankOutcome, Span};
