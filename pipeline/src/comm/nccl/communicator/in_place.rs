//! Collectives on memory of a GPU, which stays where it is.

use slimpipe_kernels::cuda::{DevicePtr, Stream};

use super::NcclComm;
use crate::comm::buffer::Parts;
use crate::comm::nccl::{Calls, Reduce};
use crate::comm::{BytesMut, CommError, DeviceRoom, Reduction, pieces, share};

pub(super) fn how(op: Reduction) -> Reduce {
    match op {
        Reduction::Sum => Reduce::SumF32,
        Reduction::Max => Reduce::MaxF32,
    }
}

impl NcclComm {
    /// Runs `calls` on memory of a GPU, in the order of its streams: until they have passed it, nobody else
    /// uses the memory.
    pub(super) fn in_place(
        &mut self,
        what: &str,
        parts: &mut [BytesMut<'_>],
        calls: impl FnOnce(&Calls<'_>, &[&DeviceRoom]) -> Result<(), CommError>,
    ) -> Result<(), CommError> {
        let Some(Parts::Device(rooms)) = Parts::of(parts) else {
            let (rank, call) = (self.group.member(self.group.rank()), what.to_owned());
            let what = "it is the host's memory, and NCCL takes a GPU's".to_owned();
            return Err(CommError::WrongPlace { rank, call, what });
        };
        let mut streams: Vec<&Stream> = Vec::new();
        for room in &rooms {
            if !streams.iter().any(|known| known.is(&room.stream)) {
                streams.push(&room.stream);
            }
        }
        for stream in &streams {
            let free = self.group.mark(stream)?;
            self.cuda(self.stream.wait(&free))?;
        }
        let end = self.group.together(what, &self.stream, |group| calls(group, &rooms))?;
        streams.iter().try_for_each(|stream| self.cuda(stream.wait(&end)))
    }

    /// As `in_place`, with a call for each piece of each rank's share of a flat space of elements of `width`
    /// bytes: where it is, how many elements, and whose.
    pub(super) fn in_shares(
        &mut self,
        what: &str,
        width: usize,
        parts: &mut [BytesMut<'_>],
        call: impl Fn(&Calls<'_>, (DevicePtr, usize), u32) -> Result<(), CommError>,
    ) -> Result<(), CommError> {
        let size = self.group.size();
        self.in_place(what, parts, |calls, rooms| {
            let lens: Vec<usize> = rooms.iter().map(|room| room.len / width).collect();
            let total = lens.iter().sum();
            for owner in 0..size {
                for (part, range) in pieces(lens.iter().copied(), share(total, size, owner)) {
                    let at = rooms[part].at.offset((range.start * width) as u64);
                    call(calls, (at, range.len()), owner)?;
                }
            }
            Ok(())
        })
    }
}
