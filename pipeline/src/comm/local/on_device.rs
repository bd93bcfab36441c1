//! Collectives on memory of the one GPU that all ranks share: each rank enqueues its part on its own stream,
//! between marks in those of the others.

use std::ops::Range;
use std::sync::Arc;

use slimpipe_kernels::cuda::elementwise::accumulate;
use slimpipe_kernels::cuda::strided::View;
use slimpipe_kernels::cuda::{CudaError, DevicePtr, Event, Float, PooledEvent, Stream, copy};

use super::meeting::Part;
use super::world::Group;
use crate::comm::{CommError, DeviceRoom, Reduction, pieces, share};

/// Elements that are reduced at a time.
const BLOCK: usize = 1 << 20;

/// Slices of a rank's memory on a GPU, one behind the other, as elements of some width.
#[derive(Clone)]
pub(super) struct DeviceWindow {
    /// Beginning and elements of each slice.
    parts: Arc<[(DevicePtr, usize)]>,
    width: usize,
    ordinal: u32,
    /// Passed when the slices are written.
    ready: Arc<PooledEvent>,
}

impl DeviceWindow {
    fn lens(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().map(|(_, len)| *len)
    }

    fn len(&self) -> usize {
        self.lens().sum()
    }

    pub(super) fn has_shape_of(&self, other: &Self) -> bool {
        let alike = (self.width, self.ordinal) == (other.width, other.ordinal);
        alike && self.lens().eq(other.lens())
    }

    pub(super) fn describe(&self) -> String {
        let (len, width, parts) = (self.len(), self.width, self.parts.len());
        format!("{len} elements of {width} bytes in {parts} slices on GPU {}", self.ordinal)
    }

    /// Where elements `range` of slice `part` are, and how many bytes.
    fn locate(&self, part: usize, range: &Range<usize>) -> (DevicePtr, usize) {
        let (start, len) = self.parts[part];
        assert!(range.end <= len, "outside the window");
        (start.offset((range.start * self.width) as u64), range.len() * self.width)
    }
}

/// What a rank does in a collective: the stream it enqueues on, and the windows of all ranks.
struct Work<'a> {
    stream: &'a Stream,
    windows: &'a [DeviceWindow],
}

impl Work<'_> {
    /// Copies elements `range` of slice `part` from rank `from`'s window to `to`'s.
    fn copy(&self, from: u32, to: u32, part: usize, range: &Range<usize>) -> Result<(), CudaError> {
        let [(from, bytes), (to, _)] =
            [from, to].map(|rank| self.windows[rank as usize].locate(part, range));
        // SAFETY: inside both windows. Their owners' streams have written them, and go on when this is done.
        unsafe { copy::on_device(self.stream, from, to, bytes) }
    }

    /// Sums f32 elements `range` of slice `part` of all windows, in rank order, into rank `rank`'s.
    fn sum(&self, rank: u32, part: usize, range: Range<usize>) -> Result<(), CudaError> {
        let sum = self.stream.scratch((BLOCK.min(range.len()) * size_of::<f32>()) as u64)?;
        for start in range.clone().step_by(BLOCK) {
            let block = start..range.end.min(start + BLOCK);
            for (number, window) in self.windows.iter().enumerate() {
                let (theirs, bytes) = window.locate(part, &block);
                // SAFETY: as in `copy`; of every window a rank reads its own share only, and writes it in
                // its own window alone. The scratch memory is this stream's.
                unsafe {
                    match number {
                        0 => copy::on_device(self.stream, theirs, sum, bytes)?,
                        _ => {
                            let view = View { at: theirs, strides: &[1] };
                            let (f32, extents) = (Float::F32, [block.len()]);
                            accumulate(self.stream, f32, &extents, view, f32, sum)?;
                        }
                    }
                }
            }
            let (own, bytes) = self.windows[rank as usize].locate(part, &block);
            // SAFETY: as above.
            unsafe { copy::on_device(self.stream, sum, own, bytes)? };
        }
        Ok(())
    }
}

impl Group {
    /// Runs a collective on memory of a GPU: brings `rooms`, as elements of `width` bytes, and runs `work`
    /// when all ranks have brought theirs. What it enqueues is done before any rank's stream goes on.
    fn meet_on_device(
        &self,
        rank: u32,
        call: &'static str,
        (width, rooms): (usize, &[&DeviceRoom]),
        work: impl FnOnce(&Work<'_>) -> Result<(), CudaError>,
    ) -> Result<(), CommError> {
        let cuda = |error: CudaError| CommError::cuda(self.member(rank), &error);
        let Some(DeviceRoom { stream, .. }) = rooms.first() else { return Ok(()) };
        if let Some(other) = rooms.iter().find(|room| !room.stream.is(stream)) {
            let on = other.stream.context().ordinal();
            let what = format!("its parts are used in the order of two streams, on GPU {on}");
            let (rank, call) = (self.member(rank), call.to_owned());
            return Err(CommError::WrongPlace { rank, call, what });
        }
        let mark = || -> Result<Arc<PooledEvent>, CudaError> {
            let mark = Event::pooled(stream.context())?;
            stream.record(&mark)?;
            Ok(Arc::new(mark))
        };
        let window = DeviceWindow {
            parts: rooms.iter().map(|room| (room.at, room.len / width)).collect(),
            width,
            ordinal: stream.context().ordinal(),
            ready: mark().map_err(cuda)?,
        };
        let windows: Vec<DeviceWindow> = self.meet(rank, Part::Device(call, window), |parts| {
            let window = |part: &Option<Part>| match part {
                Some(Part::Device(_, window)) => Some(window.clone()),
                _ => None,
            };
            parts.iter().filter_map(window).collect()
        })?;
        let enqueue = || {
            windows.iter().try_for_each(|window| stream.wait(&window.ready))?;
            work(&Work { stream, windows: &windows })?;
            mark()
        };
        let done = enqueue().map_err(cuda)?;
        let all: Vec<Arc<PooledEvent>> = self.meet(rank, Part::Done(done), |parts| {
            let done = |part: &Option<Part>| match part {
                Some(Part::Done(done)) => Some(done.clone()),
                _ => None,
            };
            parts.iter().filter_map(done).collect()
        })?;
        all.iter().try_for_each(|done| stream.wait(done)).map_err(cuda)
    }

    pub(super) fn reduce_scatter_on_device(
        &self,
        rank: u32,
        op: Reduction,
        rooms: &[&DeviceRoom],
    ) -> Result<(), CommError> {
        if op != Reduction::Sum {
            let what = "it is a GPU's memory, where ranks of one process only add".to_owned();
            let (rank, call) = (self.member(rank), op.call().to_owned());
            return Err(CommError::WrongPlace { rank, call, what });
        }
        let (size, width) = (self.size(), size_of::<f32>());
        self.meet_on_device(rank, op.call(), (width, rooms), |work| {
            let own = &work.windows[rank as usize];
            let mut all = pieces(own.lens(), share(own.len(), size, rank));
            all.try_for_each(|(part, piece)| work.sum(rank, part, piece))
        })
    }

    pub(super) fn all_gather_on_device(
        &self,
        rank: u32,
        width: usize,
        rooms: &[&DeviceRoom],
    ) -> Result<(), CommError> {
        let size = self.size();
        self.meet_on_device(rank, "an all-gather", (width, rooms), |work| {
            let own = &work.windows[rank as usize];
            for from in (0..size).filter(|from| *from != rank) {
                for (part, piece) in pieces(own.lens(), share(own.len(), size, from)) {
                    work.copy(from, rank, part, &piece)?;
                }
            }
            Ok(())
        })
    }

    pub(super) fn collect_on_device(
        &self,
        rank: u32,
        root: u32,
        rooms: &[&DeviceRoom],
    ) -> Result<(), CommError> {
        let (size, width) = (self.size(), size_of::<f32>());
        self.meet_on_device(rank, "a reduce", (width, rooms), |work| {
            let len = work.windows[rank as usize].len();
            for from in (0..size).filter(|from| rank == root && *from != root) {
                work.copy(from, root, 0, &share(len, size, from))?;
            }
            Ok(())
        })
    }

    pub(super) fn broadcast_on_device(
        &self,
        rank: u32,
        root: u32,
        rooms: &[&DeviceRoom],
    ) -> Result<(), CommError> {
        self.meet_on_device(rank, "a broadcast", (1, rooms), |work| {
            let all = 0..work.windows[rank as usize].len();
            if rank == root { Ok(()) } else { work.copy(root, rank, 0, &all) }
        })
    }
}
