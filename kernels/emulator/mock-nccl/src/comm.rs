//! Communicators.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use cudarc::nccl::sys::{ncclComm_t, ncclResult_t};
use slimpipe_mock_protocol::handles::Handles;

use crate::{failure::Failure, mailbox::Channel, message::Lane, world::World};

/// Communicators by handle.
pub static COMMS: Handles<Comm> = Handles::new();

/// Who belongs to a communicator, known when it is initialised.
pub struct Membership {
    /// What this rank has of its world.
    pub world: Arc<World>,
    /// Ranks of the world, by rank in the communicator.
    pub members: Vec<u32>,
    /// This rank in the communicator.
    pub rank: usize,
    /// Tells the communicator's messages from others.
    pub number: u64,
}

impl Membership {
    /// What a member says in a lane.
    pub fn channel(&self, from: usize, lane: Lane) -> Channel {
        Channel { comm: self.number, from: self.members[from], lane }
    }
}

#[derive(Default)]
struct State {
    failure: Option<Failure>,
    /// Calls that have begun and not ended, of communicators that do not block.
    calls: usize,
    /// Operations that were put on streams and have not ended.
    operations: usize,
}

/// A communicator of one rank.
pub struct Comm {
    /// Whether calls wait until they are done.
    pub blocking: bool,
    /// The device of its context.
    pub device: usize,
    group: OnceLock<Membership>,
    aborted: AtomicBool,
    /// Collective operations so far.
    pub collectives: AtomicU64,
    /// Splits so far.
    pub splits: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

impl Comm {
    /// A communicator that is not initialised yet.
    pub fn new(blocking: bool, device: usize) -> Arc<Comm> {
        Arc::new(Comm {
            blocking,
            device,
            group: OnceLock::new(),
            aborted: AtomicBool::new(false),
            collectives: AtomicU64::new(0),
            splits: AtomicU64::new(0),
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// The communicator of a handle.
    ///
    /// # Errors
    /// A handle that is none.
    pub fn find(handle: ncclComm_t) -> Result<Arc<Comm>, Failure> {
        COMMS.get(handle).ok_or_else(|| Failure::argument("no communicator, or one that is gone"))
    }

    /// Its members, once it is fit for work.
    ///
    /// # Errors
    /// It is not initialised, or has failed.
    pub fn ready(&self) -> Result<&Membership, Failure> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let early = || Failure::usage("the communicator is still being initialised");
        self.group.get().ok_or_else(early)
    }

    /// The initialisation has ended.
    pub fn begin(&self, group: Membership) {
        let _ = self.group.set(group);
    }

    /// Why it has failed, if it has.
    pub fn failure(&self) -> Option<Failure> {
        self.lock().failure.clone()
    }

    /// Notes an asynchronous error. The first one stays.
    pub fn fail(&self, failure: Failure) {
        let mut state = self.lock();
        if state.failure.is_none() {
            eprintln!("mock NCCL: {}: {}", self.title(), failure.text);
            state.failure = Some(failure);
        }
    }

    /// Who this is, for messages to people.
    pub fn title(&self) -> String {
        match self.group.get() {
            Some(group) => format!("rank {} of {}", group.rank, group.members.len()),
            None => "a rank that is joining".into(),
        }
    }

    /// What `ncclCommGetAsyncError` says.
    pub fn status(&self) -> ncclResult_t {
        let state = self.lock();
        match &state.failure {
            Some(failure) => failure.code,
            None if state.calls > 0 => ncclResult_t::ncclInProgress,
            None => ncclResult_t::ncclSuccess,
        }
    }

    /// Whether it was aborted.
    pub fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    /// Lets go of all that waits. The other ranks are not told.
    pub fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
        if let Some(group) = self.group.get() {
            group.world.fall_silent();
            group.world.mailbox.wake();
        }
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Waits until it is aborted, as an operation that cannot end does.
    pub fn wait_for_abort(&self) {
        self.wait_until(|_| self.is_aborted());
    }

    /// A call has begun; it ends when the answer is dropped.
    pub fn call(self: &Arc<Self>) -> Busy {
        self.lock().calls += 1;
        Busy { comm: self.clone(), end: |state| state.calls -= 1 }
    }

    /// An operation was put on a stream; it ends when the answer is dropped.
    pub fn operation(self: &Arc<Self>) -> Busy {
        self.lock().operations += 1;
        Busy { comm: self.clone(), end: |state| state.operations -= 1 }
    }

    /// Waits until all operations have ended.
    pub fn drain(&self) {
        self.wait_until(|state| state.operations == 0);
    }

    fn wait_until(&self, done: impl Fn(&State) -> bool) {
        let mut state = self.lock();
        while !done(&state) {
            let waited = self.changed.wait_timeout(state, Duration::from_millis(20));
            state = waited.unwrap_or_else(|e| e.into_inner()).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Something that a communicator is busy with.
pub struct Busy {
    comm: Arc<Comm>,
    end: fn(&mut State),
}

impl Drop for Busy {
    fn drop(&mut self) {
        (self.end)(&mut self.comm.lock());
        self.comm.changed.notify_all();
    }
}
