//! Messages and reductions between the ranks of a pipeline.
//!
//! [`Communicator`] is what a rank sees. Implementations differ in where the ranks are; [`local`]
//! runs them as threads of this process.
//!
//! * A message is handed over with **one copy**: [`send`](Communicator::send) takes ownership of
//!   the sender's buffer (a handle, not bytes), and [`recv`](Communicator::recv) copies straight
//!   into memory that the receiver names. The sender gets its buffer back to release it.
//! * Messages travel in **channels**: from one rank to one other, activations and gradients apart.
//!   A channel keeps order and holds a bounded number of unread messages; these are the channels
//!   of [`Programs::verify`](crate::schedule::Programs::verify). A [`Tag`] names a message; the
//!   receiver's tag is checked against it, so a rank that departs from the program is found out at
//!   once.
//! * Reductions add in rank order: bitwise the same on every rank and in every run.
//! * A rank that fails makes every call of the others fail; nobody hangs.

mod collective;
mod communicator;
mod error;
pub mod local;
mod tag;

pub use communicator::{Communicator, Payload};
pub use error::{CommError, Result};
pub use tag::Tag;
