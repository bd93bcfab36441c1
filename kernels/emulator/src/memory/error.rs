//! What can be wrong with an address.

/// An access to global memory that a device would not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// No live allocation holds all bytes.
    #[error("{bytes} bytes at {address:#x} are outside every allocation{nearest}")]
    OutOfBounds {
        /// First byte asked for.
        address: u64,
        /// Bytes asked for.
        bytes: usize,
        /// Where the nearest allocation lies, as a sentence that goes on.
        nearest: String,
    },
    /// The allocation was freed.
    #[error("{bytes} bytes at {address:#x} lie in an allocation that was freed")]
    Freed {
        /// First byte asked for.
        address: u64,
        /// Bytes asked for.
        bytes: usize,
    },
    /// No allocation begins there.
    #[error("no allocation begins at {address:#x}")]
    Unknown {
        /// The address given.
        address: u64,
    },
    /// The range meets one that is mapped.
    #[error("{bytes} bytes at {address:#x} are mapped already, in part or whole")]
    Overlap {
        /// First byte asked for.
        address: u64,
        /// Bytes asked for.
        bytes: usize,
    },
}
