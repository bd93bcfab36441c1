use slimpipe_kernels::cuda::CudaError;

use super::environment::Launcher;
use super::{Lane, Tag};

/// What can go wrong between ranks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommError {
    /// Another rank failed first.
    #[error("rank {rank} failed: {reason}")]
    PeerFailed {
        /// The rank that failed.
        rank: u32,
        /// Its error.
        reason: String,
    },
    /// Another rank ended although this one still needs it: the programs do not match.
    #[error("rank {rank} waits for rank {peer}, which has ended")]
    PeerLeft {
        /// The rank that waits.
        rank: u32,
        /// The rank that ended.
        peer: u32,
    },
    /// A message that is not the one asked for: the programs do not match.
    #[error(
        "rank {rank} expected {expected} of {bytes} bytes from rank {from}, got {got} of {got_bytes} bytes"
    )]
    Mismatch {
        /// The receiver.
        rank: u32,
        /// The sender.
        from: u32,
        /// The tag asked for.
        expected: Tag,
        /// The size asked for.
        bytes: usize,
        /// The tag that came.
        got: Tag,
        /// The size that came.
        got_bytes: usize,
    },
    /// A message whose bytes were given back before they were read.
    #[error("rank {rank}: {tag} from rank {from} cannot be read: {reason}")]
    Unreadable {
        /// The receiver.
        rank: u32,
        /// The sender.
        from: u32,
        /// The message.
        tag: Tag,
        /// Why.
        reason: String,
    },
    /// A message on a route that was not opened: the programs do not match.
    #[error(
        "messages of {lane} from rank {from} to rank {to} have no way: the route was not opened"
    )]
    NoRoute {
        /// The sender.
        from: u32,
        /// The receiver.
        to: u32,
        /// The queue.
        lane: Lane,
    },
    /// A collective on memory that it cannot work on.
    #[error("rank {rank}: {call} cannot work there: {what}")]
    WrongPlace {
        /// The rank.
        rank: u32,
        /// The collective.
        call: String,
        /// Where the memory is, and where it should be.
        what: String,
    },
    /// Ranks that call different collectives: the programs do not match.
    #[error("rank {rank} calls {own} while other ranks call {others}")]
    Disagree {
        /// The rank that came later.
        rank: u32,
        /// What it calls.
        own: String,
        /// What the ranks before it called.
        others: String,
    },
    /// A rank outside the group, or this rank itself.
    #[error("there is no other rank {rank} among {size}")]
    NoSuchRank {
        /// The rank asked for.
        rank: u32,
        /// Ranks in the group.
        size: u32,
    },
    /// A mesh of another size than the group it is laid over.
    #[error("a mesh of {expected} ranks is laid over {size}; launch as many ranks as the mesh has")]
    WrongSize {
        /// Ranks in the group.
        size: u32,
        /// Ranks of the mesh.
        expected: u32,
    },
    /// A thread could not be started.
    #[error("cannot start a thread for rank {rank}: {reason}")]
    Spawn {
        /// The rank.
        rank: u32,
        /// The system's answer.
        reason: String,
    },
    /// A launcher's variables that make no sense.
    #[error("{launcher} started this process with variables that do not fit: {what}")]
    Environment {
        /// Who set them.
        launcher: Launcher,
        /// Which, and what they say.
        what: String,
    },
    /// NCCL is missing, too old, or cannot start.
    #[error(
        "NCCL cannot be used: {what}; install nvidia-nccl-cu13 with pip, or set SLIMPIPE_NCCL to libnccl.so.2"
    )]
    NoNccl {
        /// What was looked at, and why it will not do.
        what: String,
    },
    /// Ranks could not agree on a communicator.
    #[error("rank {rank} cannot meet the others: {what}")]
    Rendezvous {
        /// The rank that says so.
        rank: u32,
        /// Why.
        what: String,
    },
    /// Ranks that never came.
    #[error("rank {rank} waited {seconds} s for {absent}")]
    Absent {
        /// The rank that waited.
        rank: u32,
        /// Who did not come.
        absent: String,
        /// For how long.
        seconds: u64,
    },
    /// NCCL reports an error.
    #[error("rank {rank}: {call} failed: {what}")]
    Nccl {
        /// The rank that was told.
        rank: u32,
        /// What it did.
        call: String,
        /// The library's text.
        what: String,
    },
    /// Something that did not end in time.
    #[error(
        "rank {rank}: {call} has not ended after {seconds} s; another rank hangs, has gone, or runs another program"
    )]
    TimedOut {
        /// The rank that waits.
        rank: u32,
        /// What it waits for.
        call: String,
        /// For how long.
        seconds: u64,
    },
}

impl CommError {
    /// What CUDA told `rank`.
    pub fn cuda(rank: u32, error: &CudaError) -> Self {
        Self::Nccl { rank, call: "CUDA".to_owned(), what: error.to_string() }
    }
}
