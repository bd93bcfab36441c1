//! The adaptor that writes the event log.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Error, Write};
use std::panic::Location;
use std::path::Path;
use std::time::Instant;

use crate::AllocError;
use crate::adaptor::{Adaptor, Block, Event};
use crate::events::{HEADER, LINE, MAGIC, MAX_NAME, RECORD, Raw, kind, padded};

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
        let mut head = [0; HEADER];
        head[..8].copy_from_slice(&MAGIC);
        head[8..12].copy_from_slice(&rank.to_le_bytes());
        file.write_all(&head).map_err(failed)?;
        Ok(Self {
            path: path.display().to_string(),
            file: Some(file),
            error: None,
            // An event adds a few records and a name at most before the buffer is written.
            buffer: Vec::with_capacity(BUFFER + 4 * RECORD + MAX_NAME),
            last: Instant::now(),
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
        let size = text.len() as u32;
        let raw = Raw { kind: kind::DEFINE, size, name: number, ..Raw::default() };
        self.buffer.extend(bytemuck::bytes_of(&raw));
        let end = self.buffer.len() + padded(text.len());
        self.buffer.extend(text.as_bytes());
        self.buffer.resize(end, 0);
        number
    }

    fn block(kind: u8, block: &Block) -> Raw {
        Raw {
            kind,
            region: block.region as u8,
            address: block.offset,
            size: (block.bytes / LINE) as u32,
            ..Raw::default()
        }
    }
}

impl Adaptor for Trace {
    fn event(&mut self, event: &Event<'_>) {
        let raw = match *event {
            Event::Allocated { block, location, .. } => {
                let layer = block.layer.map_or(0, |layer| layer.saturating_add(1));
                Raw {
                    layer: u16::try_from(layer).unwrap_or(u16::MAX),
                    name: self.name(block.op, location),
                    ..Self::block(kind::ALLOC, block)
                }
            }
            Event::Freed { block, .. } => Self::block(kind::FREE, block),
            Event::Refused { op, requested, location } => {
                let name = self.name(op, location);
                Raw { kind: kind::REFUSED, address: requested, name, ..Raw::default() }
            }
            Event::UnitOpened(unit) => Raw::unit(kind::UNIT_OPEN, unit),
            Event::UnitClosed(unit) => Raw::unit(kind::UNIT_CLOSE, unit),
            Event::Offloaded(unit) => Raw::unit(kind::OFFLOADED, unit),
            Event::Restored(unit) => Raw::unit(kind::RESTORED, unit),
            Event::Phase(unit, phase) => {
                let size = phase as u32;
                Raw { size, ..Raw::unit(kind::PHASE, unit) }
            }
            Event::Committed { region, bytes } => {
                let region = region as u8;
                Raw { kind: kind::COMMIT, region, address: bytes, ..Raw::default() }
            }
        };
        self.push(raw);
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
