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
    /// A message that is not the one asked for: the programs do not match.
    #[error(
        "rank {rank} expected message {expected} of {bytes} bytes from rank {from}, got {got} of {got_bytes} bytes"
    )]
    Mismatch {
        /// The receiver.
        rank: u32,
        /// The sender.
        from: u32,
        /// The tag asked for.
        expected: u64,
        /// The size asked for.
        bytes: usize,
        /// The tag that came.
        got: u64,
        /// The size that came.
        got_bytes: usize,
    },
    /// A rank outside the group.
    #[error("there is no rank {rank} among {size}")]
    NoSuchRank {
        /// The rank asked for.
        rank: u32,
        /// Ranks in the group.
        size: u32,
    },
    /// A thread could not be started.
    #[error("cannot start a thread for rank {rank}: {reason}")]
    Spawn {
        /// The rank.
        rank: u32,
        /// The system's answer.
        reason: String,
    },
}
