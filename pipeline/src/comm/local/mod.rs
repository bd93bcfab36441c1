//! Ranks that are threads of one process.
//!
//! A message is a handle: the receiver copies the bytes out of the sender's memory into the place
//! it named, once, and hands the handle back, so that the sender's thread frees it. One lock per
//! group is enough, for it is never held while bytes are copied or freed; each rank sleeps on a
//! condition of its own, so that only those wake who can go on.

mod group;
mod launch;

use std::sync::Arc;

use group::{Group, Part};
pub use launch::launch;

use super::{CommError, Communicator, Payload, Tag};

/// One rank's end of a group of threads.
pub struct LocalComm {
    rank: u32,
    group: Arc<Group>,
}

impl LocalComm {
    /// A group of `size` ranks in this process, with room for `capacity` unread messages (at least
    /// one) in each lane from each rank to each other.
    ///
    /// The failure of a rank reaches the others only if [`launch`] runs them.
    pub fn group(size: u32, capacity: usize) -> Vec<Self> {
        let group = Arc::new(Group::new(size, capacity.max(1)));
        (0..size).map(|rank| Self { rank, group: group.clone() }).collect()
    }

    /// Bytes that all receives of the group copied so far.
    pub fn bytes_copied(&self) -> u64 {
        self.group.bytes_copied()
    }

    fn check(&self, rank: u32) -> Result<(), CommError> {
        let size = self.group.size();
        if rank < size && rank != self.rank {
            Ok(())
        } else {
            Err(CommError::NoSuchRank { rank, size })
        }
    }
}

impl Communicator for LocalComm {
    fn rank(&self) -> u32 {
        self.rank
    }

    fn size(&self) -> u32 {
        self.group.size()
    }

    fn send(&mut self, to: u32, tag: Tag, payload: Box<dyn Payload>) -> Result<(), CommError> {
        self.check(to)?;
        self.group.push(self.rank, to, tag, payload)
    }

    fn recv(&mut self, from: u32, tag: Tag, into: &mut [u8]) -> Result<(), CommError> {
        self.check(from)?;
        let (rank, expected) = (self.rank, tag);
        let (got, payload) = self.group.pop(from, rank, tag.lane())?;
        let result = match payload.bytes() {
            Ok(bytes) if got == expected && bytes.len() == into.len() => {
                into.copy_from_slice(bytes);
                Ok(())
            }
            Ok(bytes) => {
                let (bytes, got_bytes) = (into.len(), bytes.len());
                Err(CommError::Mismatch { rank, from, expected, bytes, got, got_bytes })
            }
            Err(reason) => {
                // The sender broke off, and its own error, soon to come, is the one to report.
                self.group.tell(rank);
                Err(CommError::Unreadable { rank, from, tag, reason })
            }
        };
        let copied = if result.is_ok() { into.len() } else { 0 };
        self.group.give_back(from, payload, copied);
        result
    }

    fn all_reduce_sum_f64(&mut self, values: &mut [f64]) -> Result<(), CommError> {
        let part = Part::Sum(values.to_vec());
        self.group.meet(self.rank, part, |parts| {
            values.fill(0.0);
            for part in parts.iter() {
                let Some(Part::Sum(part)) = part else { continue };
                values.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
        })
    }

    fn gather(&mut self, bytes: Vec<u8>) -> Result<Option<Vec<Vec<u8>>>, CommError> {
        let is_root = self.rank == 0;
        let take = |part: &mut Option<Part>| match part.take() {
            Some(Part::Bytes(bytes)) => Some(bytes),
            _ => None,
        };
        self.group.meet(self.rank, Part::Bytes(bytes), |parts| {
            is_root.then(|| parts.iter_mut().filter_map(take).collect())
        })
    }
}
