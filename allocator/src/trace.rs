//! The adaptor that writes the event log.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::panic::Location;
use std::path::Path;
use std::time::Instant;

use crate::adaptor::{Adaptor, Event};
use crate::events::{MAGIC, Raw, kind};
use crate::{AllocError, Phase, UnitId};

/// Bytes held back before they are written.
const BUFFER: usize = 1 << 16;

/// Writes every event to a file.
pub struct Trace {
    path: String,
    file: File,
    buffer: Vec<u8>,
    last: Instant,
    /// Numbers of (op, call site); addresses of static data are cheap keys.
    names: HashMap<(usize, usize), u32>,
    error: Option<std::io::Error>,
}

impl Trace {
    /// A log of `rank` at `path`.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(path: &Path, rank: u32) -> Result<Self, AllocError> {
        let failed = |source| AllocError::Trace { path: path.display().to_string(), source };
        let file = File::create(path).map_err(failed)?;
        let mut buffer = Vec::with_capacity(BUFFER + 8192);
        buffer.extend(MAGIC);
        buffer.extend(rank.to_le_bytes());
        buffer.extend([0; 4]);
        let path = path.display().to_string();
        Ok(Self { path, file, buffer, last: Instant::now(), names: HashMap::new(), error: None })
    }

    fn push(&mut self, mut raw: Raw) {
        let now = Instant::now();
        raw.elapsed = u32::try_from((now - self.last).as_nanos()).unwrap_or(u32::MAX);
        self.last = now;
        self.buffer.extend(bytemuck::bytes_of(&raw));
        if self.buffer.len() >= BUFFER {
            self.write_out();
        }
    }

    fn write_out(&mut self) {
        // A full disk must not end a run over its trace; `flush` reports it.
        if let Err(error) = self.file.write_all(&self.buffer) {
            self.error.get_or_insert(error);
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
        let mut text = format!("{op} {}:{}", location.file(), location.line()).into_bytes();
        text.truncate(512);
        let raw = Raw {
            kind: kind::DEFINE,
            region: 0,
            layer: 0,
            elapsed: 0,
            address: 0,
            size: text.len() as u32,
            name: number,
        };
        self.buffer.extend(bytemuck::bytes_of(&raw));
        text.resize(text.len().next_multiple_of(8), 0);
        self.buffer.extend(text);
        number
    }

    fn unit(kind: u8, unit: UnitId, size: u32) -> Raw {
        let address = u64::from(unit.microbatch) << 32 | u64::from(unit.slice);
        Raw { kind, region: 0, layer: unit.chunk as u16, elapsed: 0, address, size, name: 0 }
    }
}

impl Adaptor for Trace {
    fn event(&mut self, event: &Event<'_>) {
        let raw = match event {
            Event::Allocated { block, location, .. } => Raw {
                kind: kind::ALLOC,
                region: block.region as u8,
                layer: block.layer.map_or(0, |layer| layer.saturating_add(1) as u16),
                elapsed: 0,
                address: block.offset,
                size: (block.bytes / 64) as u32,
                name: self.name(block.op, location),
            },
            Event::Freed { block, .. } => Raw {
                kind: kind::FREE,
                region: block.region as u8,
                layer: 0,
                elapsed: 0,
                address: block.offset,
                size: (block.bytes / 64) as u32,
                name: 0,
            },
            Event::UnitOpened(unit) => Self::unit(kind::UNIT_OPEN, *unit, 0),
            Event::UnitClosed(unit) => Self::unit(kind::UNIT_CLOSE, *unit, 0),
            Event::Phase(unit, phase) => {
                Self::unit(kind::PHASE, *unit, u32::from(*phase == Phase::Backward))
            }
            Event::Committed { region, bytes } => Raw {
                kind: kind::COMMIT,
                region: *region as u8,
                layer: 0,
                elapsed: 0,
                address: *bytes,
                size: 0,
                name: 0,
            },
            Event::Refused { .. } => return,
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
