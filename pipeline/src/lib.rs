//! Pipeline schedules as data, and the machinery that runs them.
//!
//! ```
//! use slimpipe_pipeline::schedule::{Schedule, ScheduleKind, dump_order, verify};
//! let schedule = Schedule::new(ScheduleKind::SlimPipe, 2, 2, 2, 1)?;
//! assert_eq!(dump_order(&schedule, 1), "F0.0 F0.1 B0.1 F1.0 B0.0 F1.1 B1.1 B1.0");
//! assert_eq!(verify(&schedule, 2)?.in_flight_peak, [4, 2]);
//! # Ok::<(), slimpipe_pipeline::schedule::ScheduleError>(())
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`schedule`] | schedules, programs, their text and their verifier; pure |
//! | [`simulate`] | what a schedule would cost in time and memory; pure |
//! | `comm` | messages and reductions between ranks (feature `comm`) |
//! | `execute` | running a program on a model's stages (feature `execute`) |

pub mod schedule;
pub mod simulate;

#[cfg(feature = "comm")]
pub mod comm;
#[cfg(feature = "execute")]
pub mod execute;
