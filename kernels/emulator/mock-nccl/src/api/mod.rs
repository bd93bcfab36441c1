//! The functions that the library exports.

pub mod collectives;
pub mod communicators;
pub mod info;
pub mod initialise;
