//! A log, streamed and replayed.

use std::fs::File;
use std::path::{Path, PathBuf};

use slimpipe_allocator::events::{Name, NameId, ReadError, Reader, What};

use super::{Held, Replay, TraceError};

/// An event of a log, and what it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since the log began.
    pub time: u64,
    /// What happened.
    pub what: What,
    /// The block that is gone, where one was freed.
    pub freed: Option<Held>,
}

/// Reads a log event by event and follows the memory it tells of. It holds live blocks, open units
/// and names, and nothing of the past.
pub struct Playback {
    path: PathBuf,
    reader: Reader<File>,
    memory: Replay,
}

impl Playback {
    /// Opens the log at `path`.
    ///
    /// # Errors
    /// It cannot be read, or is not a log of this version.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let reader = Reader::open(path).map_err(TraceError::of(path))?;
        Ok(Self { path: path.to_owned(), reader, memory: Replay::default() })
    }

    /// The next event, which the memory has followed; `None` at the end, or where the file was cut.
    ///
    /// # Errors
    /// A record that cannot be, with its offset.
    #[expect(
        clippy::should_implement_trait,
        reason = "an event is a Result of an Option, as `?` wants it"
    )]
    pub fn next(&mut self) -> Result<Option<Event>, TraceError> {
        let event = self.reader.next().map_err(TraceError::of(&self.path))?;
        let Some(event) = event else { return Ok(None) };
        let freed = self.memory.apply(&event).map_err(|what| {
            let offset = self.reader.offset();
            TraceError::of(&self.path)(ReadError::Corrupt { offset, what })
        })?;
        Ok(Some(Event { time: event.time, what: event.what, freed }))
    }

    /// The memory after the last event.
    pub fn memory(&self) -> &Replay {
        &self.memory
    }

    /// The operation and call site of that number, which an event of this log named.
    pub fn name(&self, id: NameId) -> &Name {
        self.reader.name(id)
    }

    /// All operations and call sites so far, by number.
    pub fn names(&self) -> &[Name] {
        self.reader.names()
    }

    /// The rank, its memory after the last event, and all operations and call sites: what stays without
    /// the file.
    pub fn into_parts(self) -> (u32, Replay, Vec<Name>) {
        (self.reader.rank(), self.memory, self.reader.into_names())
    }

    /// The rank whose log it is.
    pub fn rank(&self) -> u32 {
        self.reader.rank()
    }

    /// When the log began, in nanoseconds since 1970: logs of several ranks are laid side by side by it.
    pub fn began(&self) -> u64 {
        self.reader.began()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the whole records end, if the file goes on with a part of one. Known at the end.
    pub fn cut_at(&self) -> Option<u64> {
        self.reader.truncated().then(|| self.reader.end())
    }

    /// Where in the file the last event's record began.
    pub fn offset(&self) -> u64 {
        self.reader.offset()
    }
}
