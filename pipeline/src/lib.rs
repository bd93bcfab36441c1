//! Pipeline schedules as data, their verifier, communicators and the executor.

#[cfg(feature = "execute")]
pub mod comm;
#[cfg(feature = "execute")]
pub mod execute;
pub mod schedule;
