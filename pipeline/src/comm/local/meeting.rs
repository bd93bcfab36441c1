//! Collectives: the ranks of a group come with their parts, and when all are there they leave with
//! what they need. The next one begins when all have left.

use std::sync::Arc;

use slimpipe_kernels::cuda::PooledEvent;

use super::on_device::DeviceWindow;
use super::window::Window;
use super::world::{Group, State};
use crate::comm::CommError;

/// What a rank brings to a collective.
pub(super) enum Part {
    /// Values to be added.
    Sum(Vec<f64>),
    /// Bytes to be gathered.
    Bytes(Vec<u8>),
    /// The color and the key of a split.
    Split(u32, u32),
    /// Memory that others may read, and what for.
    Window(&'static str, Window),
    /// Memory of a GPU that others may read in the order of streams, and what for.
    Device(&'static str, DeviceWindow),
    /// That a rank is done with a collective in the order of its stream.
    Done(Arc<PooledEvent>),
}

impl Part {
    /// Whether both belong to the same call.
    fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sum(own), Self::Sum(other)) => own.len() == other.len(),
            (Self::Bytes(_), Self::Bytes(_)) | (Self::Split(..), Self::Split(..)) => true,
            (Self::Window(call, own), Self::Window(other_call, other)) => {
                call == other_call && own.has_shape_of(other)
            }
            (Self::Device(call, own), Self::Device(other_call, other)) => {
                call == other_call && own.has_shape_of(other)
            }
            (Self::Done(_), Self::Done(_)) => true,
            _ => false,
        }
    }

    fn call(&self) -> String {
        match self {
            Self::Sum(values) if values.is_empty() => "a barrier".to_owned(),
            Self::Sum(values) => format!("a sum of {} values", values.len()),
            Self::Bytes(_) => "a gather".to_owned(),
            Self::Split(..) => "a split".to_owned(),
            Self::Window(call, window) => format!("{call} of {}", window.describe()),
            Self::Device(call, window) => format!("{call} of {}", window.describe()),
            Self::Done(_) => "the end of a collective on a GPU".to_owned(),
        }
    }
}

/// A collective in progress.
pub(super) struct Meeting {
    parts: Vec<Option<Part>>,
    came: u32,
    /// Once all came: those who have not left.
    to_leave: u32,
}

impl Meeting {
    pub(super) fn new(size: usize) -> Self {
        Self { parts: (0..size).map(|_| None).collect(), came: 0, to_leave: 0 }
    }

    fn is_complete(&self) -> bool {
        self.to_leave > 0
    }
}

impl State {
    /// One rank less is in the meeting.
    fn leave_meeting(&mut self) {
        self.meeting.to_leave -= 1;
        if self.meeting.to_leave == 0 {
            self.meeting.parts.fill_with(|| None);
            self.wake_all();
        }
    }
}

impl Group {
    /// Runs a collective: brings `part`, and leaves with what `take` makes of all parts.
    pub(super) fn meet<R>(
        &self,
        rank: u32,
        part: Part,
        take: impl FnOnce(&mut [Option<Part>]) -> R,
    ) -> Result<R, CommError> {
        self.come(rank, part)?;
        self.await_all(rank)?;
        // Nobody can begin the next meeting before this rank has left.
        Ok(self.with(|state| {
            let result = take(&mut state.meeting.parts);
            state.leave_meeting();
            result
        }))
    }

    /// Runs a collective on memory: brings `window`, and runs `work` on the windows of all ranks, by
    /// rank. Returns when nobody has this rank's window any more, in success and in failure.
    ///
    /// `call` names the collective; what `work` reads and writes in which window is its part of it.
    pub(super) fn meet_in_place(
        &self,
        rank: u32,
        call: &'static str,
        window: Window,
        work: impl FnOnce(&[Window]),
    ) -> Result<(), CommError> {
        self.come(rank, Part::Window(call, window))?;
        let presence = Presence { group: self, rank };
        self.await_all(rank)?;
        let windows: Vec<Window> = self.with(|state| {
            let window = |part: &Option<Part>| match part {
                Some(Part::Window(_, window)) => Some(window.clone()),
                _ => None,
            };
            state.meeting.parts.iter().filter_map(window).collect()
        });
        work(&windows);
        drop(presence);
        Ok(())
    }

    /// Adds `part` to the meeting, as soon as the last one is over.
    fn come(&self, rank: u32, part: Part) -> Result<(), CommError> {
        let mut part = Some(part);
        self.wait(rank, |state| {
            let meeting = &mut state.meeting;
            if meeting.is_complete() {
                return Ok(None); // the last one is not over
            }
            let others = meeting.parts.iter().flatten().next();
            if let (Some(own), Some(others)) = (&part, others)
                && !own.agrees(others)
            {
                let (own, others) = (own.call(), others.call());
                return Err(CommError::Disagree { rank: self.member(rank), own, others });
            }
            meeting.parts[rank as usize] = part.take();
            meeting.came += 1;
            if meeting.came == self.size() {
                (meeting.came, meeting.to_leave) = (0, self.size());
                state.wake_all();
            }
            Ok(Some(()))
        })
    }

    fn await_all(&self, rank: u32) -> Result<(), CommError> {
        self.wait(rank, |state| {
            if state.meeting.is_complete() {
                return Ok(Some(()));
            }
            let parts = state.meeting.parts.iter();
            let mut absent = (0..).zip(parts).filter(|(_, part)| part.is_none());
            absent.try_for_each(|(peer, _)| state.expect_here(rank, peer))?;
            Ok(None)
        })
    }
}

/// A rank in a meeting with its window. When it goes, by whatever way, nobody reads the window any
/// more: if not all have come, it is taken back before they do; otherwise all are waited for. Those
/// who came do their work whatever fails elsewhere, and wait for nothing in it.
struct Presence<'a> {
    group: &'a Group,
    rank: u32,
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.group.with(|state| match state.meeting.is_complete() {
            true => state.leave_meeting(),
            false => {
                state.meeting.parts[self.rank as usize] = None;
                state.meeting.came -= 1;
            }
        });
        self.group.wait_regardless(self.rank, |state| !state.meeting.is_complete());
    }
}
