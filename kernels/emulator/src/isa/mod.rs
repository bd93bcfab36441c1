//! The instruction set: from statements to decoded instructions.

mod alu;
mod asynchronous;
mod atomic;
mod cluster;
mod compute;
mod control;
mod decoder;
mod matrix;
mod memory;
mod names;
mod op;
mod opcode;
mod sources;
mod special;
mod types;
mod warp;

pub(crate) use asynchronous::{Bulk, CopyAsync, Direction, Mbarrier, Reduction};
pub(crate) use atomic::{Atomic, StoreAsync, Update, reducible};
pub(crate) use compute::Compute;
pub(crate) use decoder::{Constant, Decoder};
pub(crate) use matrix::{Factor, MoveMatrix, Product, WarpProduct};
pub(crate) use memory::{Access, Width};
pub(crate) use names::{Names, Symbol};
pub(crate) use op::{Barrier, BarrierKind, Instr, Op, Operands, Space};
pub(crate) use special::Special;
pub(crate) use types::Type;
pub(crate) use warp::{Collective, Match, ReduceOp, ShuffleMode, VoteMode};
