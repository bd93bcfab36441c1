//! A log's events as the entries of a snapshot: those that say something of memory.

use std::path::PathBuf;

use slimpipe_allocator::Region;
use slimpipe_allocator::events::Logged;

use super::super::{Block, Event, Name, NameId, Playback, Replay, What};
use super::{Cut, ExportError, note_cut};

/// Bytes of address for each region. Addresses stay below 2^53, the last that JavaScript can count to.
pub(super) const STRETCH: u64 = 1 << 42;

/// What a log knows by one of its events.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub rank: u32,
    pub memory: &'a Replay,
    pub names: &'a [Name],
}

impl<'a> Known<'a> {
    fn of(log: &'a Playback) -> Self {
        Self { rank: log.rank(), memory: log.memory(), names: log.names() }
    }

    pub fn name(&self, id: NameId) -> &'a Name {
        &self.names[id.index()]
    }
}

/// Something that happened to memory.
#[derive(Clone, Copy)]
pub(super) enum Entry {
    Alloc(Block),
    /// Two entries: a free is asked for, and done.
    Free(Block),
    /// A region that grows or shrinks at its end.
    Map {
        region: Region,
        before: u64,
        now: u64,
    },
    Refused {
        bytes: u64,
        name: NameId,
    },
}

impl Entry {
    /// How many entries it is in a snapshot.
    pub fn count(&self) -> u64 {
        match self {
            Self::Free(_) => 2,
            Self::Map { before, now, .. } if before == now => 0,
            _ => 1,
        }
    }
}

/// What a log has come to, without its file.
pub(super) struct End {
    rank: u32,
    memory: Replay,
    names: Vec<Name>,
}

impl End {
    pub fn known(&self) -> Known<'_> {
        Known { rank: self.rank, memory: &self.memory, names: &self.names }
    }

    /// Follows what can happen: what is freed is live.
    fn follow(&mut self, what: What) {
        let followed = self.memory.apply(&Logged { time: 0, what });
        debug_assert!(followed.is_ok(), "{followed:?}");
    }
}

/// Gives all entries of one rank's logs to `each`, with the number of the log and the time in microseconds
/// since 1970. Gives what the last log has come to, and notes which were cut.
pub(super) fn walk(
    logs: &[PathBuf],
    cuts: &mut Vec<Cut>,
    mut each: impl FnMut(usize, Known<'_>, Entry, i64) -> Result<(), ExportError>,
) -> Result<Option<End>, ExportError> {
    let mut last: Option<End> = None;
    for (at, path) in logs.iter().enumerate() {
        let mut log = Playback::open(path)?;
        // A run that was resumed began with nothing.
        if let Some(end) = last.take() {
            clear(end, |known, entry| each(at - 1, known, entry, micros(log.began(), 0)))?;
        }
        let mut committed = [0; Region::COUNT];
        while let Some(event) = log.next()? {
            let Some(entry) = entry(&event, &log, &mut committed)? else { continue };
            each(at, Known::of(&log), entry, micros(log.began(), event.time))?;
        }
        note_cut(&log, cuts);
        let (rank, memory, names) = log.into_parts();
        last = Some(End { rank, memory, names });
    }
    Ok(last)
}

fn micros(began: u64, time: u64) -> i64 {
    (began.saturating_add(time) / 1000) as i64
}

/// Frees all that is there at the end of a log.
fn clear(
    mut end: End,
    mut each: impl FnMut(Known<'_>, Entry) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let live: Vec<Block> = end.memory.live().map(|held| held.block).collect();
    for block in live {
        let Block { region, offset, bytes, .. } = block;
        end.follow(What::Free { region, offset, bytes });
        each(end.known(), Entry::Free(block))?;
    }
    for region in Region::ALL {
        let before = end.memory.region(region).reserved().current;
        end.follow(What::Committed { region, bytes: 0 });
        each(end.known(), Entry::Map { region, before, now: 0 })?;
    }
    Ok(())
}

fn entry(
    event: &Event,
    log: &Playback,
    committed: &mut [u64; Region::COUNT],
) -> Result<Option<Entry>, ExportError> {
    Ok(match event.what {
        What::Alloc(block) => Some(Entry::Alloc(block)),
        What::Free { .. } => event.freed.map(|held| Entry::Free(held.block)),
        What::Committed { region, bytes } => {
            if bytes > STRETCH {
                let what = format!("{region}: {bytes} bytes are over 4 TiB");
                return Err(ExportError::Unfit { path: log.path().to_owned(), what });
            }
            let before = std::mem::replace(&mut committed[region.index()], bytes);
            Some(Entry::Map { region, before, now: bytes })
        }
        What::Refused { bytes, name } => Some(Entry::Refused { bytes, name }),
        _ => None,
    })
}
