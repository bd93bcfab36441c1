//! What the ranks of a world share, and how they wait for each other.
//!
//! A world is one lock over all its groups: it is never held while bytes are copied or freed. Each
//! member of each group sleeps on a condition of its own, so that only those wake who can go on.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::meeting::Meeting;
use crate::comm::{CommError, Lane, Payload, Tag};

/// Why a world ended.
struct Failure {
    rank: u32,
    reason: String,
}

type Message = (Tag, Box<dyn Payload>);

/// A group as all its members see it. Ranks are numbered within the group.
pub(super) struct State {
    /// The ranks of the world that the group's ranks are.
    members: Arc<[u32]>,
    queues: HashMap<(u32, u32, Lane), VecDeque<Message>>,
    /// Payloads that were read, by sender, which is to drop them.
    read: Vec<Vec<Box<dyn Payload>>>,
    pub(super) meeting: Meeting,
    /// Ranks that ended in order.
    left: Vec<bool>,
    wake: Arc<[Condvar]>,
}

impl State {
    fn new(members: Arc<[u32]>) -> Self {
        let count = members.len();
        Self {
            members,
            queues: HashMap::new(),
            read: (0..count).map(|_| Vec::new()).collect(),
            meeting: Meeting::new(count),
            left: vec![false; count],
            wake: (0..count).map(|_| Condvar::new()).collect(),
        }
    }

    /// Refuses that `rank` waits for a `peer` that has ended.
    pub(super) fn expect_here(&self, rank: u32, peer: u32) -> Result<(), CommError> {
        let [rank, at] = [rank, peer].map(|rank| self.members[rank as usize]);
        match self.left[peer as usize] {
            false => Ok(()),
            true => Err(CommError::PeerLeft { rank, peer: at }),
        }
    }

    pub(super) fn wake_all(&self) {
        for wake in &*self.wake {
            wake.notify_one();
        }
    }
}

struct Shared {
    /// The first is of all ranks.
    groups: Vec<State>,
    /// Groups by what they were split from: the group, the number of the split, the color.
    splits: HashMap<(usize, u32, u32), usize>,
    /// Ranks whose own failure, if it comes, is the consequence of another's.
    told: Vec<bool>,
    failure: Option<Failure>,
    bytes_copied: u64,
}

/// All ranks of a run.
pub(super) struct World {
    capacity: usize,
    shared: Mutex<Shared>,
}

impl World {
    pub(super) fn new(size: u32, capacity: usize) -> Arc<Self> {
        let shared = Shared {
            groups: vec![State::new((0..size).collect())],
            splits: HashMap::new(),
            told: vec![false; size as usize],
            failure: None,
            bytes_copied: 0,
        };
        Arc::new(Self { capacity, shared: Mutex::new(shared) })
    }

    /// The group of all ranks.
    pub(super) fn group(self: &Arc<Self>) -> Group {
        self.shared.lock().handle(self, 0)
    }

    pub(super) fn bytes_copied(&self) -> u64 {
        self.shared.lock().bytes_copied
    }

    /// Notes that a failure of `rank` is the consequence of another's, even if that is told later.
    pub(super) fn tell(&self, rank: u32) {
        self.shared.lock().told[rank as usize] = true;
    }

    /// Ends the world: every rank's current or next call fails with `reason`. The first failure is
    /// kept, unless it was the consequence of a later one.
    pub(super) fn fail(&self, rank: u32, reason: String) {
        let mut shared = self.shared.lock();
        let is_told = |rank: u32| shared.told[rank as usize];
        let keep = shared.failure.as_ref().is_some_and(|old| !is_told(old.rank) || is_told(rank));
        if !keep {
            shared.failure = Some(Failure { rank, reason });
        }
        shared.groups.iter().for_each(State::wake_all);
    }

    /// Notes that `rank` ended in order: whoever waits for it, in any group, fails.
    pub(super) fn leave(&self, rank: u32) {
        for group in &mut self.shared.lock().groups {
            if let Some(at) = group.members.iter().position(|&member| member == rank) {
                group.left[at] = true;
                group.wake_all();
            }
        }
    }

    /// The rank whose failure ended the world, if one did.
    pub(super) fn failed(&self) -> Option<u32> {
        self.shared.lock().failure.as_ref().map(|failure| failure.rank)
    }
}

impl Shared {
    fn handle(&self, world: &Arc<World>, id: usize) -> Group {
        let State { members, wake, .. } = &self.groups[id];
        Group { world: world.clone(), id, members: members.clone(), wake: wake.clone() }
    }
}

/// Some of a world's ranks. Ranks are numbered within the group, but errors name those of the world.
pub(super) struct Group {
    world: Arc<World>,
    id: usize,
    members: Arc<[u32]>,
    wake: Arc<[Condvar]>,
}

impl Group {
    pub(super) fn world(&self) -> &Arc<World> {
        &self.world
    }

    pub(super) fn size(&self) -> u32 {
        self.members.len() as u32
    }

    /// The rank of the world that `rank` is.
    pub(super) fn member(&self, rank: u32) -> u32 {
        self.members[rank as usize]
    }

    /// Looks at the group's state without waiting.
    pub(super) fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.world.shared.lock().groups[self.id])
    }

    /// Sleeps as `rank` until `ready` gives something; fails as soon as `ready` or some rank does.
    /// Frees meanwhile what others have read of this rank's, all of it before `ready` is done.
    pub(super) fn wait<R>(
        &self,
        rank: u32,
        mut ready: impl FnMut(&mut State) -> Result<Option<R>, CommError>,
    ) -> Result<R, CommError> {
        let at = rank as usize;
        let mut shared = self.world.shared.lock();
        loop {
            while !shared.groups[self.id].read[at].is_empty() {
                let read = std::mem::take(&mut shared.groups[self.id].read[at]);
                MutexGuard::unlocked(&mut shared, || drop(read));
            }
            if let Some(Failure { rank, reason }) = &shared.failure {
                let error = CommError::PeerFailed { rank: *rank, reason: reason.clone() };
                shared.told[self.members[at] as usize] = true;
                return Err(error);
            }
            if let Some(result) = ready(&mut shared.groups[self.id])? {
                return Ok(result);
            }
            self.wake[at].wait(&mut shared);
        }
    }

    /// Sleeps as `rank` until `ready` is true, whatever fails meanwhile.
    pub(super) fn wait_regardless(&self, rank: u32, ready: impl Fn(&State) -> bool) {
        let mut shared = self.world.shared.lock();
        while !ready(&shared.groups[self.id]) {
            self.wake[rank as usize].wait(&mut shared);
        }
    }

    fn wake(&self, rank: u32) {
        self.wake[rank as usize].notify_one();
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
        self.wait(from, |state| {
            let queue = state.queues.entry((from, to, tag.lane())).or_default();
            if queue.len() < self.world.capacity || !tag.lane().is_bounded() {
                queue.extend(message.take());
                return Ok(Some(()));
            }
            state.expect_here(from, to)?;
            Ok(None)
        })?;
        self.wake(to);
        Ok(())
    }

    /// Takes the next message of a queue, when there is one.
    pub(super) fn pop(&self, from: u32, to: u32, lane: Lane) -> Result<Message, CommError> {
        let message = self.wait(to, |state| {
            let queue = state.queues.get_mut(&(from, to, lane));
            let message = queue.and_then(VecDeque::pop_front);
            if message.is_none() {
                state.expect_here(to, from)?;
            }
            Ok(message)
        })?;
        self.wake(from);
        Ok(message)
    }

    /// Returns a payload to its sender after `copied` of its bytes were copied.
    pub(super) fn give_back(&self, sender: u32, payload: Box<dyn Payload>, copied: usize) {
        let mut shared = self.world.shared.lock();
        shared.bytes_copied += copied as u64;
        shared.groups[self.id].read[sender as usize].push(payload);
    }

    /// The group of `members`, ranks of this one in their new order: the same for all of them, who
    /// ask with the same number of split and color.
    pub(super) fn split(&self, split: u32, color: u32, members: &[u32]) -> Self {
        let mut shared = self.world.shared.lock();
        let Shared { groups, splits, .. } = &mut *shared;
        let id = *splits.entry((self.id, split, color)).or_insert_with(|| {
            let mut state = State::new(members.iter().map(|&rank| self.member(rank)).collect());
            for (left, &rank) in state.left.iter_mut().zip(members) {
                *left = groups[self.id].left[rank as usize];
            }
            groups.push(state);
            groups.len() - 1
        });
        shared.handle(&self.world, id)
    }
}
