//! What a launch did.

/// Counts of a finished launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Instructions, counted once per warp that executed them.
    pub instructions: u64,
    /// Matrix products of warpgroups.
    pub products: u64,
    /// Bytes that bulk copies moved.
    pub bulk_bytes: u64,
}

impl Report {
    pub(super) fn add(&mut self, other: &Self) {
        self.instructions += other.instructions;
        self.products += other.products;
        self.bulk_bytes += other.bulk_bytes;
    }
}
