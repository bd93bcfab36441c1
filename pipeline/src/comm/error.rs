/// What can go wrong between ranks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommError {
    /// Another rank failed or aborted; its own error says why.
    #[error("rank {rank} failed: {reason}")]
    PeerFailed {
        /// The rank that failed first.
        rank: u32,
        /// Its error.
        reason: String,
    },
    /// Another rank ended in good order, but without the message or the reduction waited for.
    #[error("rank {peer} ended while rank {rank} waited for {what}; all ranks must run the same program")]
    PeerEnded {
        /// The rank that waits.
        rank: u32,
        /// The rank that ended.
        peer: u32,
        /// What was waited for.
        what: String,
    },
    /// All ranks wait for each other.
    #[error("deadlock: {waits}; verify the programs with the capacity that the communicator was given (Schedule::channel_capacity)")]
    Deadlock {
        /// What each rank waits for.
        waits: String,
    },
    /// The next message of a channel is not the one expected.
    #[error("rank {rank} expected {expected} from rank {from}, which sent {got}; the ranks run different programs")]
    UnexpectedMessage {
        /// The receiver.
        rank: u32,
        /// The sender.
        from: u32,
        /// What the receiver asked for.
        expected: String,
        /// What came.
        got: String,
    },
    /// A message of another length than its destination.
    #[error("rank {rank} expected {expected} bytes for {what} from rank {from}, which sent {got}")]
    Length {
        /// The receiver.
        rank: u32,
        /// The sender.
        from: u32,
        /// What the message was.
        what: String,
        /// Bytes of the destination.
        expected: usize,
        /// Bytes of the message.
        got: usize,
    },
    /// A peer that does not exist, or the rank itself.
    #[error("rank {rank} cannot talk to rank {peer}: peers are the other ranks below {size}")]
    NoSuchPeer {
        /// The caller.
        rank: u32,
        /// The peer it named.
        peer: u32,
        /// How many ranks there are.
        size: u32,
    },
}

/// Shorthand for a result of a communicator.
pub type Result<T, E = CommError> = std::result::Result<T, E>;
