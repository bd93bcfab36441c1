//! Collectives on memory that stays where it is: each rank reads what it needs from the others'.
//!
//! This is the host's side; where all parts lie on a GPU, `on_device` does the same there.

use super::window::Window;
use super::world::Group;
use crate::comm::buffer::Parts;
use crate::comm::{BytesMut, CommError, Reduction, pieces, share};

/// Elements that are reduced at a time: they stay in the nearest cache.
const BLOCK: usize = 2048;

impl Reduction {
    pub(super) fn call(self) -> &'static str {
        match self {
            Self::Sum => "a reduce-scatter (sum)",
            Self::Max => "a reduce-scatter (max)",
        }
    }

    fn apply(self, into: &mut [f32], other: &[f32]) {
        let both = into.iter_mut().zip(other);
        match self {
            Self::Sum => both.for_each(|(into, other)| *into += other),
            // Not `f32::max`, which loses a NaN.
            Self::Max => both.for_each(|(into, &other)| {
                if other > *into || other.is_nan() {
                    *into = other;
                }
            }),
        }
    }
}

impl Group {
    /// What `parts` are, of rank `rank` in a collective `call`.
    fn place<'p>(
        &self,
        rank: u32,
        call: &str,
        parts: &'p mut [BytesMut<'_>],
    ) -> Result<Parts<'p>, CommError> {
        Parts::of(parts).ok_or_else(|| CommError::WrongPlace {
            rank: self.member(rank),
            call: call.to_owned(),
            what: "some of it is the host's memory, some a GPU's".to_owned(),
        })
    }

    /// Reduces rank `rank`'s share of all ranks' `parts`, in rank order, into its own.
    pub(super) fn reduce_scatter(
        &self,
        rank: u32,
        op: Reduction,
        parts: &mut [BytesMut<'_>],
    ) -> Result<(), CommError> {
        let size = self.size();
        if size == 1 {
            return Ok(());
        }
        let mut parts = match self.place(rank, op.call(), parts)? {
            Parts::Device(rooms) => return self.reduce_scatter_on_device(rank, op, &rooms),
            Parts::Host(parts) => parts,
        };
        let window = Window::of_bytes(&mut parts, size_of::<f32>());
        self.meet_in_place(rank, op.call(), window, |windows| {
            let own = &windows[rank as usize];
            let mut reduced = [0f32; BLOCK];
            for (part, piece) in pieces(own.lens(), share(own.len(), size, rank)) {
                for start in piece.clone().step_by(BLOCK) {
                    let block = start..piece.end.min(start + BLOCK);
                    let reduced = &mut reduced[..block.len()];
                    for (number, window) in windows.iter().enumerate() {
                        // SAFETY: no owner returns before all ranks have done this. Of every
                        // window a rank reads its own share only, and in its own window alone it
                        // writes, to that share too: nobody writes to what another reads.
                        let theirs = unsafe { window.read(part, block.clone()) };
                        match number {
                            0 => reduced.copy_from_slice(theirs),
                            _ => op.apply(reduced, theirs),
                        }
                    }
                    // SAFETY: as above; nothing of this window is borrowed any more.
                    unsafe { own.write(part, block) }.copy_from_slice(reduced);
                }
            }
        })
    }

    /// Copies every other rank's share of its `parts` into rank `rank`'s.
    pub(super) fn all_gather(
        &self,
        rank: u32,
        width: usize,
        parts: &mut [BytesMut<'_>],
    ) -> Result<(), CommError> {
        let (size, call) = (self.size(), "an all-gather");
        if size == 1 {
            return Ok(());
        }
        let mut parts = match self.place(rank, call, parts)? {
            Parts::Device(rooms) => return self.all_gather_on_device(rank, width, &rooms),
            Parts::Host(parts) => parts,
        };
        let window = Window::of_bytes(&mut parts, width);
        self.meet_in_place(rank, call, window, |windows| {
            let own = &windows[rank as usize];
            for (from, window) in (0..size).zip(windows).filter(|(from, _)| *from != rank) {
                for (part, piece) in pieces(own.lens(), share(own.len(), size, from)) {
                    // SAFETY: no owner returns before all ranks have done this. Of a window, other
                    // ranks read its owner's share, and the owner writes to the rest of it.
                    let theirs: &[u8] = unsafe { window.read(part, piece.clone()) };
                    // SAFETY: as above; this is another rank's share in this rank's window.
                    unsafe { own.write(part, piece) }.copy_from_slice(theirs);
                }
            }
        })
    }

    /// Copies all ranks' shares of `values`, f32 numbers in one part, into rank `root`'s.
    pub(super) fn collect(
        &self,
        rank: u32,
        root: u32,
        values: &mut [BytesMut<'_>],
    ) -> Result<(), CommError> {
        let (size, call) = (self.size(), "a reduce");
        if size == 1 {
            return Ok(());
        }
        let mut values = match self.place(rank, call, values)? {
            Parts::Device(rooms) => return self.collect_on_device(rank, root, &rooms),
            Parts::Host(parts) => parts,
        };
        let window = Window::of_bytes(&mut values, size_of::<f32>());
        self.meet_in_place(rank, call, window, |windows| {
            let own = &windows[rank as usize];
            let others = (0..size).zip(windows).filter(|(from, _)| rank == root && *from != root);
            for (from, window) in others {
                let share = share(own.len(), size, from);
                // SAFETY: no owner returns before all ranks have done this. Nobody but the root
                // does anything, and it writes to its own window alone.
                let theirs: &[f32] = unsafe { window.read(0, share.clone()) };
                // SAFETY: as above.
                unsafe { own.write(0, share) }.copy_from_slice(theirs);
            }
        })
    }

    /// Copies rank `root`'s bytes into every other rank's.
    pub(super) fn broadcast(
        &self,
        rank: u32,
        root: u32,
        bytes: BytesMut<'_>,
    ) -> Result<(), CommError> {
        let call = "a broadcast";
        if self.size() == 1 {
            return Ok(());
        }
        let bytes = &mut [bytes];
        let mut bytes = match self.place(rank, call, bytes)? {
            Parts::Device(rooms) => return self.broadcast_on_device(rank, root, &rooms),
            Parts::Host(parts) => parts,
        };
        let window = Window::of_bytes(&mut bytes, 1);
        self.meet_in_place(rank, call, window, |windows| {
            if rank == root {
                return;
            }
            let all = 0..windows[root as usize].len();
            // SAFETY: no owner returns before all ranks have done this. All read the root's window,
            // to which nobody writes.
            let theirs: &[u8] = unsafe { windows[root as usize].read(0, all.clone()) };
            // SAFETY: as above; this window is this rank's alone.
            unsafe { windows[rank as usize].write(0, all) }.copy_from_slice(theirs);
        })
    }
}
