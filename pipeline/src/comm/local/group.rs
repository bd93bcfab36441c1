//! What the ranks of a group share, and how they wait for each other.

use std::collections::{HashMap, VecDeque};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::comm::{CommError, Lane, Payload, Tag};

/// What a rank brings to a collective.
pub(super) enum Part {
    /// Values to be added.
    Sum(Vec<f64>),
    /// Bytes to be gathered.
    Bytes(Vec<u8>),
}

impl Part {
    /// Whether both belong to the same call.
    fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sum(own), Self::Sum(other)) => own.len() == other.len(),
            (Self::Bytes(_), Self::Bytes(_)) => true,
            _ => false,
        }
    }

    fn call(&self) -> String {
        match self {
            Self::Sum(values) if values.is_empty() => "a barrier".to_owned(),
            Self::Sum(values) => format!("a sum of {} values", values.len()),
            Self::Bytes(_) => "a gather".to_owned(),
        }
    }
}

/// A collective in progress: the ranks come with their parts, and when all are there they leave with
/// what they need. The next one begins when all have left.
#[derive(Default)]
struct Meeting {
    parts: Vec<Option<Part>>,
    came: u32,
    to_leave: u32,
}

/// Why the group ended.
struct Failure {
    rank: u32,
    reason: String,
}

type Message = (Tag, Box<dyn Payload>);

struct Shared {
    queues: HashMap<(u32, u32, Lane), VecDeque<Message>>,
    /// Payloads that were read, by sender, which is to drop them.
    read: Vec<Vec<Box<dyn Payload>>>,
    meeting: Meeting,
    /// Ranks that ended in order.
    left: Vec<bool>,
    /// Ranks whose own failure, if it comes, is the consequence of another's.
    told: Vec<bool>,
    failure: Option<Failure>,
    bytes_copied: u64,
}

pub(super) struct Group {
    size: u32,
    capacity: usize,
    shared: Mutex<Shared>,
    /// What each rank sleeps on.
    wake: Vec<Condvar>,
}

impl Shared {
    /// Refuses that `rank` waits for a `peer` that has ended.
    fn expect_here(&self, rank: u32, peer: u32) -> Result<(), CommError> {
        match self.left[peer as usize] {
            false => Ok(()),
            true => Err(CommError::PeerLeft { rank, peer }),
        }
    }
}

impl Group {
    pub(super) fn new(size: u32, capacity: usize) -> Self {
        let count = size as usize;
        let parts = (0..count).map(|_| None).collect();
        let shared = Shared {
            queues: HashMap::new(),
            read: (0..count).map(|_| Vec::new()).collect(),
            meeting: Meeting { parts, came: 0, to_leave: 0 },
            left: vec![false; count],
            told: vec![false; count],
            failure: None,
            bytes_copied: 0,
        };
        let wake = (0..count).map(|_| Condvar::new()).collect();
        Self { size, capacity, shared: Mutex::new(shared), wake }
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }

    pub(super) fn bytes_copied(&self) -> u64 {
        self.shared.lock().bytes_copied
    }

    /// Sleeps as `rank` until `ready` gives something; fails as soon as `ready` or some rank does.
    /// Frees meanwhile what others have read of this rank's, all of it before `ready` is done.
    fn wait<R>(
        &self,
        rank: u32,
        mut ready: impl FnMut(&mut Shared) -> Result<Option<R>, CommError>,
    ) -> Result<R, CommError> {
        let at = rank as usize;
        let mut shared = self.shared.lock();
        loop {
            while !shared.read[at].is_empty() {
                let read = std::mem::take(&mut shared.read[at]);
                MutexGuard::unlocked(&mut shared, || drop(read));
            }
            if let Some(Failure { rank, reason }) = &shared.failure {
                let error = CommError::PeerFailed { rank: *rank, reason: reason.clone() };
                shared.told[at] = true;
                return Err(error);
            }
            if let Some(result) = ready(&mut shared)? {
                return Ok(result);
            }
            self.wake[at].wait(&mut shared);
        }
    }

    fn wake(&self, rank: u32) {
        self.wake[rank as usize].notify_one();
    }

    fn wake_all(&self) {
        (0..self.size).for_each(|rank| self.wake(rank));
    }

    /// Adds a message to its queue, when there is room.
    pub(super) fn push(
        &self,
        from: u32,
        to: u32,
        tag: Tag,
        payload: Box<dyn Payload>,
    ) -> Result<(), CommError> {
        let mut message = Some((tag, payload));
        self.wait(from, |shared| {
            let queue = shared.queues.entry((from, to, tag.lane())).or_default();
            if queue.len() < self.capacity {
                queue.extend(message.take());
                return Ok(Some(()));
            }
            shared.expect_here(from, to)?;
            Ok(None)
        })?;
        self.wake(to);
        Ok(())
    }

    /// Takes the next message of a queue, when there is one.
    pub(super) fn pop(&self, from: u32, to: u32, lane: Lane) -> Result<Message, CommError> {
        let message = self.wait(to, |shared| {
            let queue = shared.queues.get_mut(&(from, to, lane));
            let message = queue.and_then(VecDeque::pop_front);
            if message.is_none() {
                shared.expect_here(to, from)?;
            }
            Ok(message)
        })?;
        self.wake(from);
        Ok(message)
    }

    /// Returns a payload to its sender after `copied` of its bytes were copied.
    pub(super) fn give_back(&self, sender: u32, payload: Box<dyn Payload>, copied: usize) {
        let mut shared = self.shared.lock();
        shared.bytes_copied += copied as u64;
        shared.read[sender as usize].push(payload);
    }

    /// Runs a collective: brings `part`, and leaves with what `take` makes of all parts.
    pub(super) fn meet<R>(
        &self,
        rank: u32,
        part: Part,
        take: impl FnOnce(&mut [Option<Part>]) -> R,
    ) -> Result<R, CommError> {
        let mut part = Some(part);
        self.wait(rank, |shared| {
            let meeting = &mut shared.meeting;
            if meeting.to_leave > 0 {
                return Ok(None); // the last one is not over
            }
            let others = meeting.parts.iter().flatten().next();
            if let (Some(own), Some(others)) = (&part, others)
                && !own.agrees(others)
            {
                let (own, others) = (own.call(), others.call());
                return Err(CommError::Disagree { rank, own, others });
            }
            meeting.parts[rank as usize] = part.take();
            meeting.came += 1;
            if meeting.came == self.size {
                (meeting.came, meeting.to_leave) = (0, self.size);
                self.wake_all();
            }
            Ok(Some(()))
        })?;
        self.wait(rank, |shared| {
            if shared.meeting.to_leave > 0 {
                return Ok(Some(()));
            }
            let parts = shared.meeting.parts.iter();
            let mut absent = (0..).zip(parts).filter(|(_, part)| part.is_none());
            absent.try_for_each(|(peer, _)| shared.expect_here(rank, peer))?;
            Ok(None)
        })?;
        // Nobody can begin the next meeting before this rank has left.
        let meeting = &mut self.shared.lock().meeting;
        let result = take(&mut meeting.parts);
        meeting.to_leave -= 1;
        if meeting.to_leave == 0 {
            meeting.parts.fill_with(|| None);
            self.wake_all();
        }
        Ok(result)
    }

    /// Notes that a failure of `rank` is the consequence of another's, even if that is told later.
    pub(super) fn tell(&self, rank: u32) {
        self.shared.lock().told[rank as usize] = true;
    }

    /// Ends the group: every rank's current or next call fails with `reason`. The first failure is
    /// kept, unless it was the consequence of a later one.
    pub(super) fn fail(&self, rank: u32, reason: String) {
        let mut shared = self.shared.lock();
        let is_told = |rank: u32| shared.told[rank as usize];
        let keep = shared.failure.as_ref().is_some_and(|old| !is_told(old.rank) || is_told(rank));
        if !keep {
            shared.failure = Some(Failure { rank, reason });
        }
        self.wake_all();
    }

    /// Notes that `rank` ended in order: whoever waits for it fails.
    pub(super) fn leave(&self, rank: u32) {
        self.shared.lock().left[rank as usize] = true;
        self.wake_all();
    }

    /// The rank whose failure ended the group, if one did.
    pub(super) fn failed(&self) -> Option<u32> {
        self.shared.lock().failure.as_ref().map(|failure| failure.rank)
    }
}
