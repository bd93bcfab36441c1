//! Decoded instructions.

use super::asynchronous::{Bulk, CopyAsync, Mbarrier};
use super::atomic::{Atomic, StoreAsync};
use super::compute::Compute;
use super::matrix::{MoveMatrix, Product, WarpProduct};
use super::memory::Access;
use super::warp::Collective;
use crate::registers::Slot;

/// What an instruction reads and writes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Operands {
    pub dst: [Slot; 4],
    pub src: [Slot; 5],
    /// Operands that do not fit above.
    pub more: Box<[Slot]>,
}

impl Default for Operands {
    fn default() -> Self {
        Self { dst: [Slot::NONE; 4], src: [Slot::NONE; 5], more: Box::default() }
    }
}

/// A decoded instruction.
pub(crate) struct Instr {
    pub op: Op,
    pub operands: Operands,
    /// The predicate it depends on, or none.
    pub guard: Slot,
    pub guard_negated: bool,
    /// Whether it touches registers of a warpgroup's products.
    pub matrix: bool,
    /// Line of the text.
    pub line: u32,
}

/// An address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Generic,
    Global,
    /// Of the own block, or with `cluster` of any block of the cluster.
    Shared {
        cluster: bool,
    },
    Local,
    Param,
}

/// Waiting of a block's threads for each other: number in `src[0]`, threads in `src[1]` or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Barrier {
    pub kind: BarrierKind,
    /// All lanes of a warp come together.
    pub aligned: bool,
}

/// What a barrier does beyond waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BarrierKind {
    Sync,
    Arrive,
    /// Number of threads whose predicate `src[2]` holds.
    Count,
    /// Whether the predicate holds in all threads.
    And,
    /// Whether the predicate holds in any thread.
    Or,
}

/// What an instruction does.
pub(crate) enum Op {
    Compute(Compute),
    /// Does nothing that can be seen here: hints and orders the emulator always keeps.
    Nop,
    /// Lets other warps run.
    Pause,
    Branch {
        target: u32,
    },
    /// To the target that `src[0]` numbers.
    BranchTable {
        targets: Box<[u32]>,
    },
    Exit,
    Trap,
    /// Address in `src[0]`, values in `dst`.
    Load(Access),
    /// Address in `src[0]`, values behind it.
    Store(Access),
    Barrier(Barrier),
    /// Lanes of the mask in `src[0]` wait for each other.
    WarpSync,
    Collective(Collective),
    Product(Product),
    /// Registers are ordered before the products that follow.
    ProductFence,
    ProductCommit,
    /// Until at most so many groups of products are under way.
    ProductWait {
        pending: u32,
    },
    WarpProduct(WarpProduct),
    MoveMatrix(MoveMatrix),
    Mbarrier(Mbarrier),
    CopyAsync(CopyAsync),
    Bulk(Bulk),
    BulkCommit,
    /// Until at most so many bulk groups are under way, or with `read` read their sources.
    BulkWait {
        pending: u32,
        read: bool,
    },
    Atomic(Atomic),
    StoreAsync(StoreAsync),
    ClusterArrive,
    ClusterWait,
    /// What the thread wrote there becomes visible to the async proxy.
    ProxyFence {
        shared: bool,
        global: bool,
    },
    /// The mbarriers the thread made become visible to the async proxy.
    InitFence,
    /// The warp gets more registers, or gives some back.
    SetRegisters {
        count: u32,
        more: bool,
    },
    /// A running number for `%clock64` and its like.
    Clock,
}
