//! A group of ranks: NCCL's communicator.

use std::ffi::c_int;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cudarc::nccl::sys::ncclConfig_t;
use slimpipe_kernels::cuda::{Context, CudaError, PooledEvent, Stream};

use super::library::{IN_PROGRESS, Library};
use super::shared::{self, PAUSE, Shared};
use super::{Calls, Rendezvous, watchdog};
use crate::comm::CommError;

/// One rank's end of a group of ranks on GPUs. Calls enqueue on a stream and return; the group is
/// [finished](NcclGroup::finish) explicitly, and dropping it before that aborts it.
pub struct NcclGroup {
    shared: Arc<Shared>,
    rank: u32,
    size: u32,
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
        let mut config = shared::config(None);
        shared.connect(left, absent, |out| {
            shared.bind()?;
            let (size, rank) = (size as c_int, rank as c_int);
            // SAFETY: `config` is alive during the call, and the handle's place for good.
            Ok(unsafe { (library.init)(out, size, id, rank, &mut config) })
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

    /// The rank that `at` of this group is among all.
    pub fn member(&self, at: u32) -> u32 {
        self.shared.members[at as usize]
    }

    /// The GPU it works on.
    pub fn context(&self) -> &'static Context {
        self.shared.context
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) fn cuda(&self, error: &CudaError) -> CommError {
        self.shared.cuda(error)
    }

    /// A mark where `stream` is now.
    pub(super) fn mark(&self, stream: &Stream) -> Result<PooledEvent, CommError> {
        self.shared.mark(stream)
    }

    /// Divides the group: ranks with the same `color` are a new one, in the order of `key`. `members`
    /// are those of this rank's new group, as this group numbers them. All must call this.
    ///
    /// # Errors
    /// Another rank failed or does not come.
    pub fn split(&self, color: u32, key: u32, members: &[u32]) -> Result<Self, CommError> {
        self.divide((color, key), members, shared::config(None))
    }

    /// Takes part in a [split](NcclGroup::split) with one other rank, for messages from `from` to `to`. While
    /// they wait for each other they keep few of the GPU's multiprocessors busy.
    ///
    /// # Errors
    /// As [`NcclGroup::split`].
    pub fn split_pair(&self, from: u32, to: u32) -> Result<Self, CommError> {
        /// As many as feed a link between two GPUs of a host.
        const MOST_BLOCKS: c_int = 4;
        let key = u32::from(self.rank == to);
        self.divide((from, key), &[from, to], shared::config(Some(MOST_BLOCKS)))
    }

    fn divide(
        &self,
        (color, key): (u32, u32),
        members: &[u32],
        mut config: ncclConfig_t,
    ) -> Result<Self, CommError> {
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
        new.connect(timeout, late, |out| {
            self.shared.bind()?;
            let (color, key) = (color as c_int, key as c_int);
            // SAFETY: as in `all`; the parent is alive, for its state is locked.
            Ok(unsafe { (library.split)(parent, color, key, out, &mut config) })
        })?;
        // The parent is busy, too, until the split has ended on it.
        self.shared.settle(&state, "a split", IN_PROGRESS)?;
        drop(state);
        Self::watched(new, rank, members.len() as u32)
    }

    /// Takes part in a [split](NcclGroup::split) without becoming a member of a new group.
    ///
    /// # Errors
    /// Another rank failed or does not come.
    pub fn abstain(&self) -> Result<(), CommError> {
        /// `NCCL_SPLIT_NOCOLOR`.
        const NONE: c_int = -1;
        let (shared, mut config) = (&*self.shared, shared::config(None));
        let state = shared.state.lock();
        let comm = state.handle()?;
        shared.bind()?;
        // That there is no communicator is written, too, when the split has ended.
        let none = shared::place().as_ptr();
        // SAFETY: the handle is alive, for its state is locked; so is `config` during the call, and the
        // place for good.
        let code = unsafe { (shared.library.split)(comm, NONE, 0, none, &mut config) };
        shared.settle(&state, "a split", code)
    }

    /// Runs `calls` as one: what they enqueue on `stream` begins and ends together, so that sends and
    /// receives among the same ranks cannot wait for each other. Gives the mark of its end.
    ///
    /// # Errors
    /// The group has failed, or a call does.
    pub fn together(
        &self,
        what: &str,
        stream: &Stream,
        calls: impl FnOnce(&Calls<'_>) -> Result<(), CommError>,
    ) -> Result<Arc<PooledEvent>, CommError> {
        let shared = &*self.shared;
        let mut state = shared.state.lock();
        let comm = state.handle()?;
        shared.bind()?;
        let begin = shared.mark(stream)?;
        // SAFETY: no requirements; ended below, whatever happens between.
        let started = unsafe { (shared.library.group_start)() };
        shared.expect(comm, what, started)?;
        let result = calls(&Calls { group: self, comm, stream });
        // SAFETY: begun above, on this thread.
        let ended = unsafe { (shared.library.group_end)() };
        result?;
        shared.settle(&state, what, ended)?;
        let end = Arc::new(shared.mark(stream)?);
        state.note(what, begin, end.clone());
        Ok(end)
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
    pub fn finish(&self) -> Result<(), CommError> {
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
