//! Pipeline schedules as data: which rank runs which unit, and when.
//!
//! A [`Schedule`] is a kind and four numbers (p ranks, n slices, m microbatches, v chunks per rank).
//! From them follow, all lazily and all pure,
//!
//! * the [`Placement`]: which rank holds which stage;
//! * the [`Order`] of a rank's forwards and backwards ([`Pass`]);
//! * the [`Program`] of a rank: the same order with messages between ranks and the end of the step
//!   put in, one small [`Action`] after the other.
//!
//! [`Programs`] holds the programs of all ranks; it can be written as text, read back, and
//! [verified](Programs::verify): a program that passes cannot deadlock, loses no message and keeps
//! its memory bound. Only the builders know which schedule is running.
//!
//! ```
//! use slimpipe_pipeline::schedule::{Programs, Schedule, ScheduleKind};
//! let schedule = Schedule::new(ScheduleKind::SlimPipe, 2, 2, 2, 1)?; // p, n, m, v
//! assert_eq!(
//!     schedule.order(1).to_string(),
//!     "F0.0:0 F0.1:0 B0.1:0 F1.0:0 B0.0:0 F1.1:0 B1.1:0 B1.0:0"
//! );
//! let report = Programs::new(&schedule).verify(schedule.channel_capacity())?;
//! assert_eq!(report.in_flight_peak, [4, 2]);
//! # Ok::<(), slimpipe_pipeline::schedule::ScheduleError>(())
//! ```

mod action;
mod builders;
mod dimensions;
mod error;
mod formulas;
mod kind;
mod order;
mod placement;
mod program;
mod programs;
mod table;
mod text;
mod unit;
mod verify;

pub use action::Action;
pub use dimensions::Dimensions;
pub use error::{Result, ScheduleError};
pub use kind::ScheduleKind;
pub use order::{Order, Pass};
pub use placement::Placement;
pub use program::Program;
pub use programs::{DEFAULT_CAPACITY, Programs};
pub use table::Schedule;
pub use unit::Unit;
pub use verify::{Report, Violation};

