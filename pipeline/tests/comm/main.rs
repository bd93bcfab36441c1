//! Ranks as threads: messages, collectives, failures, and whole programs on a toy model.

mod collectives;
mod failures;
mod groups;
mod messages;
mod toy;
mod watchdog;
