//! Pipeline schedules as data: who runs which unit when, and what is sent where.
//!
//! A [`Schedule`] gives each rank a [`Program`], a sequence of small [`Action`]s. The program is an
//! iterator computed from closed forms; it is never stored unless someone collects it. The same
//! program is verified, executed, written as text and simulated and drawn.

mod action;
mod builders;
mod definition;
mod error;
pub mod exchange;
mod formulas;
mod kind;
mod lock_step;
mod placement;
mod program;
mod size;
mod slices;
mod text;
mod verify;
mod vocabulary;
mod weave;

pub use action::{Action, Unit, Weights};
pub use definition::Schedule;
pub use error::ScheduleError;
pub use exchange::{Exchange, Part, Pass};
pub use formulas::Formulas;
pub use kind::ScheduleKind;
pub use lock_step::LockStep;
pub use placement::Placement;
pub use program::{Order, Program};
pub use slices::{Slices, TokenCost};
pub use text::{dump, dump_order, dump_programs, parse};
pub use verify::{Report, verify, verify_programs};
