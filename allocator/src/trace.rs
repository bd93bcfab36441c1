//! The adaptor that writes the event log.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Error, Write};
use std::panic::Location;
use std::path::Path;
use std::time::{Instant, SystemTime};

use crate::adaptor::{Adaptor, Event};
use crate::events::{MAX_NAME, RECORD, Raw, UNPLANNED, header, kind, padded};
use crate::{AllocError, UnitId};

/// Bytes held back before they are written.
const BUFFER: usize = 1 << 16;

/// Writes every event to a file.
pub struct Trace {
    path: String,
    /// None once writing has failed: a log with a gap could not be read.
    file: Option<File>,
    error: Option<Error>,
    buffer: Vec<u8>,
    last: Instant,
    /// Who a reader takes for the maker of the next block.
    owner: Option<UnitId>,
    /// Numbers of (op, call site); addresses of static data are cheap keys.
    names: HashMap<(usize, usize), u32>,
}

impl Trace {
    /// A log of `rank` at `path`.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(path: &Path, rank: u32) -> Result<Self, AllocError> {
        let failed = |source| AllocError::Trace { path: path.display().to_string(), source };
        let mut file = File::create(path).map_err(failed)?;
        let (last, began) = (Instant::now(), SystemTime::now());
        let began = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        file.write_all(&header(rank, began.as_nanos() as u64)).map_err(failed)?;
        Ok(Self {
            path: path.display().to_string(),
            file: Some(file),
            error: None,
            // An event adds a few records and a name at most before the buffer is written.
            buffer: Vec::with_capacity(BUFFER + 4 * RECORD + MAX_NAME),
            last,
            owner: None,
            names: HashMap::new(),
        })
    }

    fn push(&mut self, mut raw: Raw) {
        let now = Instant::now();
        let elapsed = (now - self.last).as_nanos();
        self.last = now;
        match u32::try_from(elapsed) {
            Ok(elapsed) => raw.elapsed = elapsed,
            Err(_) => self.pause(elapsed as u64),
        }
        self.buffer.extend(bytemuck::bytes_of(&raw));
        if self.buffer.len() >= BUFFER {
            self.write_out();
        }
    }

    /// Notes a time too long for a record's own field.
    #[cold]
    fn pause(&mut self, nanoseconds: u64) {
        let raw = Raw { kind: kind::PAUSE, address: nanoseconds, ..Raw::default() };
        self.buffer.extend(bytemuck::bytes_of(&raw));
    }

    fn write_out(&mut self) {
        // A full disk must not end a run over its trace; `flush` reports it.
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(&self.buffer)
        {
            self.error = Some(error);
            self.file = None;
        }
        self.buffer.clear();
    }

    fn name(&mut self, op: &'static str, location: &'static Location<'static>) -> u32 {
        let key = (op.as_ptr() as usize, std::ptr::from_ref(location) as usize);
        if let Some(&number) = self.names.get(&key) {
            return number;
        }
        let number = self.names.len() as u32;
        self.names.insert(key, number);
        let mut text = format!("{op} {}:{}", location.file(), location.line());
        text.truncate(text.floor_char_boundary(MAX_NAME));
        let (size, layer) = (text.len() as u32, op.len().min(text.len()) as u16);
        let raw = Raw { kind: kind::DEFINE, layer, size, name: number, ..Raw::default() };
        self.buffer.extend(bytemuck::bytes_of(&raw));
        let end = self.buffer.len() + padded(text.len());
        self.buffer.extend(text.as_bytes());
        self.buffer.resize(end, 0);
        number
    }
}

impl Adaptor for Trace {
    fn event(&mut self, event: &Event<'_>) {
        let raw = match *event {
            Event::Allocated { block, location, .. } => {
                if block.unit != self.owner {
                    self.owner = block.unit;
                    self.push(Raw::owner(block.unit));
                }
                let place = (block.region, block.offset, block.bytes, block.requested);
                let mut raw = Raw::block(kind::ALLOC, place);
                let layer = block.layer.map_or(0, |layer| layer.saturating_add(1));
                raw.layer = u16::try_from(layer).unwrap_or(u16::MAX);
                raw.region |= if block.unplanned { UNPLANNED } else { 0 };
                raw.name = self.name(block.op, location);
                raw
            }
            Event::Freed { block, .. } => {
                let place = (block.region, block.offset, block.bytes, block.bytes);
                Raw::block(kind::FREE, place)
            }
            Event::Refused { op, requested, location } => {
                let name = self.name(op, location);
                Raw { kind: kind::REFUSED, address: requested, name, ..Raw::default() }
            }
            Event::UnitOpened(unit) => Raw::unit(kind::UNIT_OPEN, unit),
            Event::UnitClosed(unit) => Raw::unit(kind::UNIT_CLOSE, unit),
            Event::Offloaded(unit) => Raw::unit(kind::OFFLOADED, unit),
            Event::Restored(unit) => Raw::unit(kind::RESTORED, unit),
            Event::Phase(unit, phase) => {
                self.owner = Some(unit);
                Raw::phase(kind::PHASE, unit, phase)
            }
            Event::PhaseEnded(unit, phase) => {
                self.owner = None;
                Raw::phase(kind::PHASE_END, unit, phase)
            }
            Event::Planned { chunk, slice, region, bytes } => {
                let (region, address) = (region as u8, bytes);
                let (size, name) = (slice, chunk);
                Raw { kind: kind::PLAN, region, address, size, name, ..Raw::default() }
            }
            Event::Step(step) => Raw { kind: kind::STEP, address: step, ..Raw::default() },
            Event::Committed { region, bytes } => {
                let region = region as u8;
                Raw { kind: kind::COMMIT, region, address: bytes, ..Raw::default() }
            }
        };
        self.push(raw);
        if matches!(event, Event::Refused { .. }) {
            // It may be the last that is heard of this run.
            self.write_out();
        }
    }

    fn flush(&mut self) -> Result<(), AllocError> {
        self.write_out();
        match self.error.take() {
            Some(source) => Err(AllocError::Trace { path: self.path.clone(), source }),
            None => Ok(()),
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.write_out();
    }
}
