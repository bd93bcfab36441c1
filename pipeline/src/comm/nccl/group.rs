//! A communicator, and what can be enqueued on it.

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cudarc::nccl::sys::{ncclComm_t, ncclConfig_t, ncclConfig_v22800, ncclDataType_t, ncclRedOp_t};
use parking_lot::Mutex;
use slimpipe_kernels::cuda::{Context, CudaError, DevicePtr, Event, PooledEvent, Stream};

use super::library::{Code, IN_PROGRESS, Library, SUCCESS};
use super::{Rendezvous, watchdog};
use crate::comm::CommError;

/// Between two looks at a call that has not ended.
const PAUSE: Duration = Duration::from_micros(50);

/// How numbers of several ranks become one, and what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// Sums of f32.
    SumF32,
    /// The largest f32.
    MaxF32,
    /// Sums of f64.
    SumF64,
}

impl Reduce {
    fn raw(self) -> (ncclDataType_t, ncclRedOp_t) {
        match self {
            Self::SumF32 => (ncclDataType_t::ncclFloat32, ncclRedOp_t::ncclSum),
            Self::MaxF32 => (ncclDataType_t::ncclFloat32, ncclRedOp_t::ncclMax),
            Self::SumF64 => (ncclDataType_t::ncclFloat64, ncclRedOp_t::ncclSum),
        }
    }
}

/// One rank's end of a group of ranks on GPUs. Calls enqueue on a stream and return; the group is
/// [finished](NcclGroup::finish) explicitly, and dropping it before that aborts it.
pub struct NcclGroup {
    shared: Arc<Shared>,
    rank: u32,
    size: u32,
}

/// What the watchdog sees of a group.
pub(super) struct Shared {
    library: &'static Library,
    context: &'static Context,
    /// This rank, and all of the group, as the group of all ranks numbers them.
    rank: u32,
    members: Vec<u32>,
    timeout: Duration,
    state: Mutex<State>,
}

struct State {
    /// The library's handle, until it is destroyed or aborted.
    comm: Option<ncclComm_t>,
    /// Why it was aborted.
    failure: Option<CommError>,
    pending: VecDeque<Pending>,
}

// SAFETY: the handle may be used from any thread, by one at a time, which the mutex around it sees to.
unsafe impl Send for State {}

/// Something that was enqueued.
struct Pending {
    call: String,
    /// Marks its end on its stream.
    end: PooledEvent,
    /// When it became the oldest that has not ended.
    since: Option<Instant>,
}

/// A configuration as the library's header initialises one; only what is set here is not the default.
fn config() -> ncclConfig_t {
    const UNSET: c_int = c_int::MIN;
    // SAFETY: numbers and pointers, for which zero is a value.
    let mut config: ncclConfig_v22800 = unsafe { std::mem::zeroed() };
    // The fields of NCCL 2.18, the oldest that is used: newer libraries take the rest for unset.
    config.size = offset_of!(ncclConfig_v22800, splitShare).next_multiple_of(8) + 8;
    config.magic = 0xcafe_beef;
    config.version = 21_800;
    config.blocking = 0;
    (config.cgaClusterSize, config.minCTAs, config.maxCTAs) = (UNSET, UNSET, UNSET);
    (config.netName, config.splitShare) = (std::ptr::null(), UNSET);
    config
}

impl NcclGroup {
    /// The group of all `size` ranks, on the GPU of `context`. All must call this.
    ///
    /// # Errors
    /// No NCCL, ranks that do not come within `timeout`, or that it fails.
    pub fn all(
        context: &'static Context,
        (rank, size): (u32, u32),
        rendezvous: &Rendezvous,
        timeout: Duration,
    ) -> Result<Self, CommError> {
        if rank >= size {
            return Err(CommError::NoSuchRank { rank, size });
        }
        let library = Library::load()?;
        let begin = Instant::now();
        let id = rendezvous.id(library, (rank, size), timeout)?;
        let members = (0..size).collect();
        let left = timeout.saturating_sub(begin.elapsed());
        let absent = || CommError::Absent {
            rank,
            absent: (rendezvous.absent(size)).unwrap_or_else(|| "the others to connect".to_owned()),
            seconds: timeout.as_secs(),
        };
        let shared = Shared::new(library, context, (rank, members), timeout);
        shared.connect(left, absent, |out, config| {
            shared.bind()?;
            let (size, rank) = (size as c_int, rank as c_int);
            // SAFETY: `out` and `config` are alive during the call, and the handle is in memory that
            // stays where it is until connecting has ended.
            Ok(unsafe { (library.init)(out, size, id, rank, config) })
        })?;
        Self::watched(shared, rank, size)
    }

    fn watched(shared: Shared, rank: u32, size: u32) -> Result<Self, CommError> {
        let group = Self { shared: Arc::new(shared), rank, size };
        watchdog::watch(&group.shared)?;
        Ok(group)
    }

    /// This rank.
    pub fn rank(&self) -> u32 {
        self.rank
    }

    /// Number of ranks.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Divides the group: ranks with the same `color` are a new one, in the order of `key`. `members`
    /// are those of this rank's new group, as this group numbers them. All must call this.
    ///
    /// # Errors
    /// Another rank failed or does not come.
    pub fn split(&self, color: u32, key: u32, members: &[u32]) -> Result<Self, CommError> {
        let Shared { library, context, timeout, .. } = *self.shared;
        let all: Vec<u32> = members.iter().map(|&at| self.shared.members[at as usize]).collect();
        let rank = members.iter().take_while(|&&at| at != self.rank).count() as u32;
        let new = Shared::new(library, context, (self.shared.rank, all), timeout);
        let late = || CommError::TimedOut {
            rank: self.shared.rank,
            call: "a split".to_owned(),
            seconds: timeout.as_secs(),
        };
        let state = self.shared.state.lock();
        let parent = state.handle()?;
        new.connect(timeout, late, |out, config| {
            self.shared.bind()?;
            let (color, key) = (color as c_int, key as c_int);
            // SAFETY: as in `all`; the parent is alive, for its state is locked.
            Ok(unsafe { (library.split)(parent, color, key, out, config) })
        })?;
        // The parent is busy, too, until the split has ended on it.
        self.shared.settle(&state, "a split", IN_PROGRESS)?;
        drop(state);
        Self::watched(new, rank, members.len() as u32)
    }

    /// Runs `calls` as one: what they enqueue on `stream` begins and ends together, so that sends and
    /// receives among the same ranks cannot wait for each other.
    ///
    /// # Errors
    /// The group has failed, or a call does.
    pub fn together(
        &self,
        what: &str,
        stream: &Stream,
        calls: impl FnOnce(&Calls<'_>) -> Result<(), CommError>,
    ) -> Result<(), CommError> {
        let shared = &*self.shared;
        let mut state = shared.state.lock();
        let comm = state.handle()?;
        shared.bind()?;
        // SAFETY: no requirements; ended below, whatever happens between.
        let started = unsafe { (shared.library.group_start)() };
        shared.expect(comm, what, started)?;
        let result = calls(&Calls { group: self, comm, stream });
        // SAFETY: begun above, on this thread.
        let ended = unsafe { (shared.library.group_end)() };
        result?;
        shared.settle(&state, what, ended)?;
        shared.note(&mut state, what, stream)
    }

    /// Blocks this thread until `stream` has done what it was given. Unlike the stream's own wait this
    /// one ends, with the reason, when the group has failed.
    ///
    /// # Errors
    /// The group has failed, or something that ran on the stream did.
    pub fn wait(&self, stream: &Stream) -> Result<(), CommError> {
        loop {
            self.check()?;
            if stream.is_done().map_err(|error| self.shared.cuda(&error))? {
                return self.check();
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Whether the group works.
    ///
    /// # Errors
    /// It has failed; the error says why.
    pub fn check(&self) -> Result<(), CommError> {
        self.shared.state.lock().handle().map(|_| ())
    }

    /// Ends all groups of this process because of something else than NCCL: the other ranks are told by
    /// their connections.
    pub fn fail(&self, reason: String) {
        watchdog::fail_all(&CommError::PeerFailed { rank: self.shared.rank, reason });
    }

    /// Ends the group when everything enqueued on it has ended. All ranks must call this.
    ///
    /// # Errors
    /// The group has failed.
    pub fn finish(self) -> Result<(), CommError> {
        let shared = &*self.shared;
        let mut state = shared.state.lock();
        let comm = state.handle()?;
        shared.bind()?;
        // SAFETY: the handle is alive, and used by this thread alone while its state is locked.
        let code = unsafe { (shared.library.finalize)(comm) };
        shared.settle(&state, "ending the group", code)?;
        state.comm = None;
        // SAFETY: as above, and it is finalized; nobody uses it afterwards.
        let code = unsafe { (shared.library.destroy)(comm) };
        shared.expect(comm, "ending the group", code)
    }
}

impl Drop for NcclGroup {
    fn drop(&mut self) {
        let rank = self.shared.rank;
        self.shared.fail(&CommError::PeerFailed { rank, reason: "it was dropped".to_owned() });
    }
}

/// What can be enqueued on a group. Buffers stay where they are, unused by others, until the stream
/// has done it.
pub struct Calls<'a> {
    group: &'a NcclGroup,
    comm: ncclComm_t,
    stream: &'a Stream,
}

fn read(at: DevicePtr) -> *const c_void {
    at.0 as *const c_void
}

fn write(at: DevicePtr) -> *mut c_void {
    at.0 as *mut c_void
}

impl Calls<'_> {
    fn done(&self, what: &str, code: Code) -> Result<(), CommError> {
        match code {
            // Within a group nothing has begun yet.
            SUCCESS | IN_PROGRESS => Ok(()),
            code => self.group.shared.expect(self.comm, what, code),
        }
    }

    fn peer(&self, rank: u32) -> Result<c_int, CommError> {
        let size = self.group.size;
        if rank < size { Ok(rank as c_int) } else { Err(CommError::NoSuchRank { rank, size }) }
    }

    fn raw_stream(&self) -> cudarc::nccl::sys::cudaStream_t {
        self.stream.raw().cast()
    }

    /// Sends `bytes` bytes to rank `to`.
    ///
    /// # Errors
    /// No such rank, or the library refuses.
    ///
    /// # Safety
    /// The bytes at `from` stay there until the stream has sent them.
    pub unsafe fn send(&self, from: DevicePtr, bytes: usize, to: u32) -> Result<(), CommError> {
        let (peer, kind) = (self.peer(to)?, ncclDataType_t::ncclUint8);
        let send = self.group.shared.library.send;
        // SAFETY: the handle is alive; the buffer is the caller's promise.
        self.done("a send", unsafe {
            send(read(from), bytes, kind, peer, self.comm, self.raw_stream())
        })
    }

    /// Receives `bytes` bytes from rank `from`.
    ///
    /// # Errors
    /// As [`Calls::send`].
    ///
    /// # Safety
    /// Nobody else uses the bytes at `into` until the stream has received them.
    pub unsafe fn recv(&self, into: DevicePtr, bytes: usize, from: u32) -> Result<(), CommError> {
        let (peer, kind) = (self.peer(from)?, ncclDataType_t::ncclUint8);
        let recv = self.group.shared.library.recv;
        // SAFETY: as in `send`.
        self.done("a receive", unsafe {
            recv(write(into), bytes, kind, peer, self.comm, self.raw_stream())
        })
    }

    /// Reduces `count` numbers of all ranks in place, on all of them.
    ///
    /// # Errors
    /// The library refuses.
    ///
    /// # Safety
    /// As [`Calls::recv`].
    pub unsafe fn all_reduce(
        &self,
        at: DevicePtr,
        count: usize,
        how: Reduce,
    ) -> Result<(), CommError> {
        let ((kind, op), call) = (how.raw(), self.group.shared.library.all_reduce);
        // SAFETY: as in `send`.
        self.done("an all-reduce", unsafe {
            call(read(at), write(at), count, kind, op, self.comm, self.raw_stream())
        })
    }

    /// Reduces `count` numbers of all ranks in place, on rank `root`.
    ///
    /// # Errors
    /// As [`Calls::send`].
    ///
    /// # Safety
    /// As [`Calls::recv`].
    pub unsafe fn reduce(
        &self,
        at: DevicePtr,
        count: usize,
        how: Reduce,
        root: u32,
    ) -> Result<(), CommError> {
        let ((kind, op), call) = (how.raw(), self.group.shared.library.reduce);
        let root = self.peer(root)?;
        // SAFETY: as in `send`.
        self.done("a reduce", unsafe {
            call(read(at), write(at), count, kind, op, root, self.comm, self.raw_stream())
        })
    }

    /// Fills `bytes` bytes of all ranks with those of rank `root`.
    ///
    /// # Errors
    /// As [`Calls::send`].
    ///
    /// # Safety
    /// As [`Calls::recv`].
    pub unsafe fn broadcast(
        &self,
        at: DevicePtr,
        bytes: usize,
        root: u32,
    ) -> Result<(), CommError> {
        let (root, kind) = (self.peer(root)?, ncclDataType_t::ncclUint8);
        let call = self.group.shared.library.broadcast;
        // SAFETY: as in `send`.
        self.done("a broadcast", unsafe {
            call(read(at), write(at), bytes, kind, root, self.comm, self.raw_stream())
        })
    }

    /// Collects `bytes` bytes of every rank on all of them, by rank. Rank i's are the i-th of `into`,
    /// which may hold them already.
    ///
    /// # Errors
    /// The library refuses.
    ///
    /// # Safety
    /// As [`Calls::send`] and [`Calls::recv`], for as many bytes as all ranks have.
    pub unsafe fn all_gather(
        &self,
        from: DevicePtr,
        into: DevicePtr,
        bytes: usize,
    ) -> Result<(), CommError> {
        let (kind, call) = (ncclDataType_t::ncclUint8, self.group.shared.library.all_gather);
        // SAFETY: as in `send`.
        self.done("an all-gather", unsafe {
            call(read(from), write(into), bytes, kind, self.comm, self.raw_stream())
        })
    }

    /// Reduces `count` numbers for every rank: of `from`, which has as many for each, the i-th of all
    /// ranks become those of rank i at `into`.
    ///
    /// # Errors
    /// The library refuses.
    ///
    /// # Safety
    /// As [`Calls::all_gather`].
    pub unsafe fn reduce_scatter(
        &self,
        from: DevicePtr,
        into: DevicePtr,
        count: usize,
        how: Reduce,
    ) -> Result<(), CommError> {
        let ((kind, op), call) = (how.raw(), self.group.shared.library.reduce_scatter);
        // SAFETY: as in `send`.
        self.done("a reduce-scatter", unsafe {
            call(read(from), write(into), count, kind, op, self.comm, self.raw_stream())
        })
    }
}

impl State {
    fn handle(&self) -> Result<ncclComm_t, CommError> {
        match (self.comm, &self.failure) {
            (_, Some(failure)) => Err(failure.clone()),
            (Some(comm), None) => Ok(comm),
            (None, None) => Err(CommError::NoNccl { what: "the group has ended".to_owned() }),
        }
    }
}

impl Shared {
    fn new(
        library: &'static Library,
        context: &'static Context,
        (rank, members): (u32, Vec<u32>),
        timeout: Duration,
    ) -> Self {
        let state = State { comm: None, failure: None, pending: VecDeque::new() };
        Self { library, context, rank, members, timeout, state: Mutex::new(state) }
    }

    pub(super) fn rank(&self) -> u32 {
        self.rank
    }

    fn cuda(&self, error: &CudaError) -> CommError {
        CommError::Nccl { rank: self.rank, call: "CUDA".to_owned(), what: error.to_string() }
    }

    /// NCCL works on the GPU that is current on the thread.
    fn bind(&self) -> Result<(), CommError> {
        self.context.bind().map_err(|error| self.cuda(&error))
    }

    fn expect(&self, comm: ncclComm_t, call: &str, code: Code) -> Result<(), CommError> {
        match code {
            SUCCESS => Ok(()),
            code => {
                let what = self.library.explain(code, comm);
                Err(CommError::Nccl { rank: self.rank, call: call.to_owned(), what })
            }
        }
    }

    /// Begins a communicator with `begin` and waits until it is connected; `late` is what it is if that
    /// takes longer than `timeout`.
    fn connect(
        &self,
        timeout: Duration,
        late: impl Fn() -> CommError,
        begin: impl FnOnce(*mut ncclComm_t, *mut ncclConfig_t) -> Result<Code, CommError>,
    ) -> Result<(), CommError> {
        let (mut comm, mut config): (ncclComm_t, _) = (std::ptr::null_mut(), config());
        let mut code = begin(&mut comm, &mut config)?;
        let start = Instant::now();
        while code == IN_PROGRESS && start.elapsed() < timeout {
            std::thread::sleep(PAUSE);
            // The handle is there as soon as connecting has begun.
            if !comm.is_null() {
                code = self.async_error(comm)?;
            }
        }
        match code {
            SUCCESS => {
                self.state.lock().comm = Some(comm);
                return Ok(());
            }
            IN_PROGRESS => {
                self.abort(comm);
                return Err(late());
            }
            _ => {}
        }
        let error = self.expect(comm, "connecting", code);
        self.abort(comm);
        error
    }

    fn async_error(&self, comm: ncclComm_t) -> Result<Code, CommError> {
        let mut code = SUCCESS;
        // SAFETY: the handle is alive; writes one number.
        let asked = unsafe { (self.library.async_error)(comm, &mut code) };
        self.expect(comm, "asking for errors", asked)?;
        Ok(code)
    }

    /// Waits until a call that returned `code` has ended.
    fn settle(&self, state: &State, call: &str, mut code: Code) -> Result<(), CommError> {
        let comm = state.handle()?;
        let start = Instant::now();
        while code == IN_PROGRESS {
            code = self.async_error(comm)?;
            if code == IN_PROGRESS {
                if start.elapsed() > self.timeout {
                    return Err(self.timed_out(call));
                }
                std::thread::sleep(PAUSE);
            }
        }
        self.expect(comm, call, code)
    }

    fn timed_out(&self, call: &str) -> CommError {
        CommError::TimedOut {
            rank: self.rank,
            call: call.to_owned(),
            seconds: self.timeout.as_secs(),
        }
    }

    /// Remembers what was enqueued, so that the watchdog sees if it does not end.
    fn note(&self, state: &mut State, call: &str, stream: &Stream) -> Result<(), CommError> {
        let cuda = |error| self.cuda(&error);
        let end = Event::pooled(self.context).map_err(cuda)?;
        stream.record(&end).map_err(cuda)?;
        state.pending.push_back(Pending { call: call.to_owned(), end, since: None });
        Ok(())
    }

    /// What is wrong with the group that was not known before.
    pub(super) fn look(&self) -> Option<CommError> {
        // A call that holds it looks for errors itself.
        let mut state = self.state.try_lock()?;
        let comm = state.handle().ok()?;
        match self.async_error(comm) {
            Ok(SUCCESS | IN_PROGRESS) => {}
            Ok(code) => return self.expect(comm, "what was enqueued", code).err(),
            Err(error) => return Some(error),
        }
        while let Some(oldest) = state.pending.front_mut() {
            let since = *oldest.since.get_or_insert_with(Instant::now);
            match oldest.end.is_done() {
                Err(error) => return Some(self.cuda(&error)),
                Ok(false) if since.elapsed() > self.timeout => {
                    return Some(self.timed_out(&oldest.call));
                }
                Ok(false) => return None,
                Ok(true) => drop(state.pending.pop_front()),
            }
        }
        None
    }

    /// Aborts the group if it lives: what waits for it on a stream ends.
    pub(super) fn fail(&self, failure: &CommError) {
        let mut state = self.state.lock();
        if let Some(comm) = state.comm.take() {
            state.failure = Some(failure.clone());
            self.abort(comm);
        }
    }

    fn abort(&self, comm: ncclComm_t) {
        if !comm.is_null() {
            // Nobody is left to be told that aborting failed.
            let _ = self.bind();
            // SAFETY: the handle is alive, and nobody uses it afterwards.
            unsafe { (self.library.abort)(comm) };
        }
    }
}
