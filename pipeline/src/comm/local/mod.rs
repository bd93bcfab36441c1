//! Ranks that are threads of one process.
//!
//! A message is a handle: the receiver copies the bytes out of the sender's memory into the place
//! it named, once, and hands the handle back, so that the sender's thread frees it. Collectives on
//! memory work in place: each rank reads what it needs from the others' memory, which stays theirs
//! until all have what they need.

mod in_place;
mod launch;
mod meeting;
mod on_device;
mod window;
mod world;

pub use launch::launch;
use meeting::Part;
use world::{Group, World};

use super::buffer::hand_over;
use super::{BytesMut, CommError, Communicator, Payload, Reduction, Tag};

/// One rank's end of a group of threads.
pub struct LocalComm {
    rank: u32,
    group: Group,
    /// Splits so far.
    splits: u32,
}

impl LocalComm {
    /// A group of `size` ranks in this process, with room for `capacity` unread messages (at least
    /// one) in each lane from each rank to each other.
    ///
    /// The failure of a rank reaches the others only if [`launch`] runs them.
    pub fn group(size: u32, capacity: usize) -> Vec<Self> {
        let world = World::new(size, capacity.max(1));
        (0..size).map(|rank| Self { rank, group: world.group(), splits: 0 }).collect()
    }

    /// Bytes that all receives of all ranks copied so far.
    pub fn bytes_copied(&self) -> u64 {
        self.group.world().bytes_copied()
    }

    fn check_root(&self, rank: u32) -> Result<(), CommError> {
        let size = self.group.size();
        if rank < size { Ok(()) } else { Err(CommError::NoSuchRank { rank, size }) }
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

    fn recv(&mut self, from: u32, tag: Tag, into: BytesMut<'_>) -> Result<(), CommError> {
        self.check(from)?;
        let (got, payload) = self.group.pop(from, self.rank, tag.lane())?;
        let (sender, expected, room) = (from, tag, into.len());
        let [rank, from] = [self.rank, from].map(|rank| self.group.member(rank));
        let unreadable = |reason| CommError::Unreadable { rank, from, tag, reason };
        let result = match payload.bytes() {
            Ok(bytes) if got == expected && bytes.len() == room => {
                hand_over(&bytes, into).map_err(unreadable)
            }
            Ok(bytes) => {
                let (bytes, got_bytes) = (room, bytes.len());
                Err(CommError::Mismatch { rank, from, expected, bytes, got, got_bytes })
            }
            Err(reason) => {
                // The sender broke off, and its own error, soon to come, is the one to report.
                self.group.world().tell(rank);
                Err(unreadable(reason))
            }
        };
        let copied = if result.is_ok() { room } else { 0 };
        self.group.give_back(sender, payload, copied);
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

    fn split(&mut self, color: u32, key: u32) -> Result<Box<dyn Communicator>, CommError> {
        let mut members: Vec<(u32, u32)> =
            self.group.meet(self.rank, Part::Split(color, key), |parts| {
                let alike = |(rank, part): (u32, &Option<Part>)| match part {
                    Some(Part::Split(theirs, key)) if *theirs == color => Some((*key, rank)),
                    _ => None,
                };
                (0..).zip(parts.iter()).filter_map(alike).collect()
            })?;
        members.sort_unstable();
        let members: Vec<u32> = members.into_iter().map(|(_, rank)| rank).collect();
        let rank = members.iter().take_while(|&&rank| rank != self.rank).count() as u32;
        let group = self.group.split(self.splits, color, &members);
        self.splits += 1;
        Ok(Box::new(Self { rank, group, splits: 0 }))
    }

    fn reduce_scatter_f32(
        &mut self,
        op: Reduction,
        parts: &mut [BytesMut<'_>],
    ) -> Result<(), CommError> {
        self.group.reduce_scatter(self.rank, op, parts)
    }

    fn all_gather(&mut self, width: usize, parts: &mut [BytesMut<'_>]) -> Result<(), CommError> {
        self.group.all_gather(self.rank, width, parts)
    }

    fn reduce_f32(
        &mut self,
        root: u32,
        op: Reduction,
        values: BytesMut<'_>,
    ) -> Result<(), CommError> {
        self.check_root(root)?;
        let values = &mut [values];
        self.group.reduce_scatter(self.rank, op, values)?;
        self.group.collect(self.rank, root, values)
    }

    fn broadcast(&mut self, root: u32, bytes: BytesMut<'_>) -> Result<(), CommError> {
        self.check_root(root)?;
        self.group.broadcast(self.rank, root, bytes)
    }
}
