//! What a group and the watchdog both see: the library's handle, and what was enqueued.

use std::collections::VecDeque;
use std::ffi::c_int;
use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::{Duration, Instant};

use cudarc::nccl::sys::{ncclComm, ncclComm_t, ncclConfig_t, ncclConfig_v22800};
use parking_lot::Mutex;
use slimpipe_kernels::cuda::{Context, CudaError, Event, PooledEvent, Stream};

use super::library::{Code, IN_PROGRESS, Library, SUCCESS};
use crate::comm::CommError;

/// Between two looks at a call that has not ended, when it has taken longer than [`SHORT`].
pub(super) const PAUSE: Duration = Duration::from_micros(50);
/// For so long a thread does not sleep: a message is handed over in less.
const SHORT: Duration = Duration::from_micros(200);

/// What the watchdog sees of a group.
pub(super) struct Shared {
    pub(super) library: &'static Library,
    pub(super) context: &'static Context,
    /// This rank, and all of the group, as the group of all ranks numbers them.
    pub(super) rank: u32,
    pub(super) members: Vec<u32>,
    pub(super) timeout: Duration,
    pub(super) state: Mutex<State>,
}

pub(super) struct State {
    /// The library's handle, until it is destroyed or aborted.
    pub(super) comm: Option<ncclComm_t>,
    /// Why it was aborted.
    failure: Option<CommError>,
    pending: VecDeque<Pending>,
}

// SAFETY: the handle may be used from any thread, by one at a time, which the mutex around it sees to.
unsafe impl Send for State {}

/// Something that was enqueued.
struct Pending {
    call: String,
    /// Marks where its stream has come to it: what is before it there may take its time.
    begin: PooledEvent,
    /// Marks its end.
    end: Arc<PooledEvent>,
    /// When it was seen to have begun as the oldest that has not ended.
    since: Option<Instant>,
}

/// A configuration as the library's header initialises one; only what is set here is not the default. Calls
/// have at most `most_blocks` blocks of threads, if that is said.
pub(super) fn config(most_blocks: Option<c_int>) -> ncclConfig_t {
    const UNSET: c_int = c_int::MIN;
    // SAFETY: numbers and pointers, for which zero is a value.
    let mut config: ncclConfig_v22800 = unsafe { std::mem::zeroed() };
    // The fields of NCCL 2.18, the oldest that is used: newer libraries take the rest for unset.
    config.size = offset_of!(ncclConfig_v22800, splitShare).next_multiple_of(8) + 8;
    config.magic = 0xcafe_beef;
    config.version = 21_800;
    config.blocking = 0;
    (config.cgaClusterSize, config.minCTAs) = (UNSET, UNSET);
    config.maxCTAs = most_blocks.unwrap_or(UNSET);
    (config.netName, config.splitShare) = (std::ptr::null(), UNSET);
    config
}

/// Where the library writes a communicator's handle. Its threads may do so when nobody waits any more, so the
/// place is never given back.
pub(super) fn place() -> &'static AtomicPtr<ncclComm> {
    Box::leak(Box::default())
}

impl State {
    pub(super) fn handle(&self) -> Result<ncclComm_t, CommError> {
        match (self.comm, &self.failure) {
            (_, Some(failure)) => Err(failure.clone()),
            (Some(comm), None) => Ok(comm),
            (None, None) => Err(CommError::NoNccl { what: "the group has ended".to_owned() }),
        }
    }

    /// Remembers what was enqueued between two marks, so that the watchdog sees if it does not end.
    pub(super) fn note(&mut self, call: &str, begin: PooledEvent, end: Arc<PooledEvent>) {
        self.pending.push_back(Pending { call: call.to_owned(), begin, end, since: None });
    }
}

impl Shared {
    pub(super) fn new(
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

    pub(super) fn cuda(&self, error: &CudaError) -> CommError {
        CommError::cuda(self.rank, error)
    }

    /// NCCL works on the GPU that is current on the thread.
    pub(super) fn bind(&self) -> Result<(), CommError> {
        self.context.bind().map_err(|error| self.cuda(&error))
    }

    pub(super) fn expect(&self, comm: ncclComm_t, call: &str, code: Code) -> Result<(), CommError> {
        match code {
            SUCCESS => Ok(()),
            code => {
                let mut what = self.library.explain(code, comm);
                if let Some(numbers) = self.numbers() {
                    what = format!("{what} ({numbers})");
                }
                Err(CommError::Nccl { rank: self.rank, call: call.to_owned(), what })
            }
        }
    }

    /// How the library's numbers of ranks, which it may mention, differ from those of all ranks.
    fn numbers(&self) -> Option<String> {
        if (0..).zip(&self.members).all(|(at, &member)| at == member) {
            return None;
        }
        let one = |(at, member): (usize, &u32)| format!("{at} is rank {member}");
        let all: Vec<String> = self.members.iter().enumerate().map(one).collect();
        Some(format!("NCCL's rank {} here", all.join(", ")))
    }

    /// Begins a communicator with `begin` and waits until it is connected; `late` is what it is if that
    /// takes longer than `timeout`.
    pub(super) fn connect(
        &self,
        timeout: Duration,
        late: impl Fn() -> CommError,
        begin: impl FnOnce(*mut ncclComm_t) -> Result<Code, CommError>,
    ) -> Result<(), CommError> {
        let place = place();
        let mut code = begin(place.as_ptr())?;
        let start = Instant::now();
        while code == IN_PROGRESS && start.elapsed() < timeout {
            std::thread::sleep(PAUSE);
            // The handle of a split is there when the split has ended, any other at once.
            let comm = place.load(Ordering::Acquire);
            if !comm.is_null() {
                code = self.async_error(comm)?;
            }
        }
        let comm = place.load(Ordering::Acquire);
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
    pub(super) fn settle(
        &self,
        state: &State,
        call: &str,
        mut code: Code,
    ) -> Result<(), CommError> {
        let comm = state.handle()?;
        let start = Instant::now();
        while code == IN_PROGRESS {
            code = self.async_error(comm)?;
            if code == IN_PROGRESS {
                match start.elapsed() {
                    short if short < SHORT => std::thread::yield_now(),
                    long if long > self.timeout => return Err(self.timed_out(call)),
                    _ => std::thread::sleep(PAUSE),
                }
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

    /// A mark where `stream` is now.
    pub(super) fn mark(&self, stream: &Stream) -> Result<PooledEvent, CommError> {
        let cuda = |error| self.cuda(&error);
        let mark = Event::pooled(self.context).map_err(cuda)?;
        stream.record(&mark).map_err(cuda)?;
        Ok(mark)
    }

    /// What is wrong with the group that was not known before.
    pub(super) fn look(&self) -> Option<CommError> {
        // A call that holds it looks for errors itself.
        let mut state = self.state.try_lock()?;
        let comm = state.handle().ok()?;
        let (async_error, oldest) = (self.async_error(comm), state.pending.front());
        let call = oldest.map_or("what was enqueued", |oldest| &*oldest.call);
        match async_error {
            Ok(SUCCESS | IN_PROGRESS) => {}
            Ok(code) => return self.expect(comm, call, code).err(),
            Err(error) => return Some(error),
        }
        while let Some(oldest) = state.pending.front_mut() {
            let has = |event: &Event| event.is_done().map_err(|error| self.cuda(&error));
            match (has(&oldest.end), oldest.since) {
                (Err(error), _) => return Some(error),
                (Ok(true), _) => drop(state.pending.pop_front()),
                (Ok(false), Some(since)) => {
                    let late = since.elapsed() > self.timeout;
                    return late.then(|| self.timed_out(&oldest.call));
                }
                (Ok(false), None) => {
                    if let Ok(true) = has(&oldest.begin) {
                        oldest.since = Some(Instant::now());
                    }
                    return None;
                }
            }
        }
        None
    }

    /// Aborts the group if it lives: what waits for it on a stream ends.
    pub(super) fn fail(&self, failure: &CommError) {
        let mut state = self.state.lock();
        let comm = state.comm.take();
        if let Some(comm) = comm {
            state.failure = Some(failure.clone());
            drop(state);
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
