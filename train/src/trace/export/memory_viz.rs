//! Logs as a snapshot of PyTorch's caching allocator. A device is a rank, a segment a region.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

use slimpipe_allocator::{Region, UnitId};

use super::super::{Block, Event, NameId, Playback, What};
use super::pickle::{Memo, Pickle};
use super::{Cut, ExportError, label, note_cut, rank_of};

/// Bytes of address for each region. Addresses stay below 2^53, the last that JavaScript can count to.
const STRETCH: u64 = 1 << 42;
/// The device's number is an index into a list, which has an entry for each one before.
const DEVICES: u32 = 1 << 16;

/// Writes the snapshot.
pub(super) fn write(logs: &[PathBuf], out: &mut impl Write) -> Result<Vec<Cut>, ExportError> {
    let mut snapshot = Snapshot { pickle: Pickle::new(out)?, frames: HashMap::new() };
    let (mut cuts, mut ends) = (Vec::new(), Vec::new());
    snapshot.pickle.dict()?;
    snapshot.pickle.text("device_traces")?;
    snapshot.pickle.list()?;
    let (mut devices, mut at) = (0, 0);
    while at < logs.len() {
        let rank = rank_of(&logs[at])?;
        if !(devices..DEVICES).contains(&rank) {
            let what = format!("rank {rank} is no device from {devices} to {}", DEVICES - 1);
            return Err(ExportError::Unfit { path: logs[at].clone(), what });
        }
        for _ in devices..rank {
            snapshot.pickle.list()?;
            snapshot.pickle.append()?;
        }
        devices = rank + 1;
        snapshot.pickle.list()?;
        let mut end = None;
        while at < logs.len() && rank_of(&logs[at])? == rank {
            let mut log = Playback::open(&logs[at])?;
            // A run that was resumed began with nothing.
            if let Some(end) = end.take() {
                snapshot.clear(&end, log.began())?;
            }
            // Numbers of names are a log's own.
            snapshot.frames.clear();
            snapshot.entries(&mut log)?;
            note_cut(&log, &mut cuts);
            end = Some(log);
            at += 1;
        }
        ends.extend(end);
        snapshot.pickle.append()?;
    }
    snapshot.pickle.text("segments")?;
    snapshot.pickle.list()?;
    for log in &ends {
        // Frames of another rank's names do not count.
        snapshot.frames.clear();
        snapshot.segments(log)?;
    }
    for (key, is_list) in [("external_annotations", true), ("allocator_settings", false)] {
        snapshot.pickle.text(key)?;
        if is_list {
            snapshot.pickle.list()?;
        } else {
            snapshot.pickle.dict()?;
            snapshot.pickle.end_dict()?;
        }
    }
    snapshot.pickle.end_dict()?;
    snapshot.pickle.finish()?;
    Ok(cuts)
}

struct Snapshot<W> {
    pickle: Pickle<W>,
    /// Lists of frames of one log, by what made a block.
    frames: HashMap<(NameId, Option<UnitId>, Option<u32>), Memo>,
}

impl<W: Write> Snapshot<W> {
    /// What a log's events come to, as entries of the device's list.
    fn entries(&mut self, log: &mut Playback) -> Result<(), ExportError> {
        let mut committed = [0; Region::COUNT];
        while let Some(Event { time, what, freed }) = log.next()? {
            let micros = (log.began().saturating_add(time) / 1000) as i64;
            match what {
                What::Alloc(block) => self.entry(log, "alloc", &block, micros)?,
                What::Free { .. } => {
                    if let Some(held) = freed {
                        self.free(log, &held.block, micros)?;
                    }
                }
                What::Committed { region, bytes } => {
                    if bytes > STRETCH {
                        let what = format!("{region}: {bytes} bytes are over 4 TiB");
                        return Err(ExportError::Unfit { path: log.path().to_owned(), what });
                    }
                    let before = std::mem::replace(&mut committed[region.index()], bytes);
                    self.map(log, region, before, bytes, micros)?;
                }
                What::Refused { bytes, name } => {
                    let idle = log.memory().reserved().current - log.memory().active().current;
                    self.pickle.dict()?;
                    self.pickle.text_at("action", "oom")?;
                    self.pickle.int_at("size", bytes.min(i64::MAX as u64) as i64)?;
                    self.pickle.int_at("device_free", idle as i64)?;
                    self.pickle.int_at("stream", 0)?;
                    self.pickle.int_at("time_us", micros)?;
                    self.pickle.text("frames")?;
                    self.frames_named(log, (name, None, None), log.name(name).op())?;
                    self.pickle.end_dict()?;
                    self.pickle.append()?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Frees all that is there at the end of a log, at `time`, when the next one began.
    fn clear(&mut self, log: &Playback, time: u64) -> Result<(), ExportError> {
        let micros = (time / 1000) as i64;
        for held in log.memory().live() {
            self.free(log, &held.block, micros)?;
        }
        for region in Region::ALL {
            let committed = log.memory().region(region).reserved().current;
            self.map(log, region, committed, 0, micros)?;
        }
        Ok(())
    }

    /// The page takes a free for one where both of its entries stand beside each other.
    fn free(&mut self, log: &Playback, block: &Block, micros: i64) -> Result<(), ExportError> {
        self.entry(log, "free_requested", block, micros)?;
        self.entry(log, "free_completed", block, micros)
    }

    fn entry(
        &mut self,
        log: &Playback,
        action: &str,
        block: &Block,
        micros: i64,
    ) -> Result<(), ExportError> {
        self.pickle.dict()?;
        self.pickle.text_at("action", action)?;
        self.pickle.int_at("addr", address(log.rank(), block.region, block.offset))?;
        self.pickle.int_at("size", block.bytes as i64)?;
        self.pickle.int_at("stream", 0)?;
        self.pickle.int_at("time_us", micros)?;
        self.pickle.text_at("category", block.region.name())?;
        self.pickle.text("frames")?;
        self.frames(log, block)?;
        self.pickle.end_dict()?;
        Ok(self.pickle.append()?)
    }

    /// A region that grows or shrinks at its end.
    fn map(
        &mut self,
        log: &Playback,
        region: Region,
        before: u64,
        now: u64,
        micros: i64,
    ) -> Result<(), ExportError> {
        if before == now {
            return Ok(());
        }
        let action = if before < now { "segment_map" } else { "segment_unmap" };
        self.pickle.dict()?;
        self.pickle.text_at("action", action)?;
        self.pickle.int_at("addr", address(log.rank(), region, before.min(now)))?;
        self.pickle.int_at("size", before.abs_diff(now) as i64)?;
        self.pickle.int_at("stream", 0)?;
        self.pickle.int_at("time_us", micros)?;
        // Some versions of the page fail unless something is of this category.
        self.pickle.text_at("category", "unknown")?;
        self.pickle.text("frames")?;
        self.pickle.list()?;
        self.pickle.end_dict()?;
        Ok(self.pickle.append()?)
    }

    /// Regions as they are at the end of a log.
    fn segments(&mut self, log: &Playback) -> Result<(), ExportError> {
        let rank = log.rank();
        for region in Region::ALL {
            let state = log.memory().region(region);
            let (total, active) = (state.reserved().current, state.active().current);
            if total == 0 {
                continue;
            }
            let requested: u64 = state.live().map(|held| held.block.requested).sum();
            self.pickle.dict()?;
            for (key, value) in [
                ("device", i64::from(rank)),
                ("address", address(rank, region, 0)),
                ("total_size", total as i64),
                ("allocated_size", active as i64),
                ("active_size", active as i64),
                ("requested_size", requested as i64),
                ("stream", 0),
            ] {
                self.pickle.int_at(key, value)?;
            }
            self.pickle.text_at("segment_type", "large")?;
            self.pickle.text("segment_pool_id")?;
            self.pickle.pair(0, region.index() as i64)?;
            self.pickle.text("is_expandable")?;
            self.pickle.truth()?;
            self.pickle.text("frames")?;
            self.pickle.list()?;
            self.pickle.text("blocks")?;
            self.pickle.list()?;
            let mut end = 0;
            for held in state.live() {
                let block = &held.block;
                self.idle(address(rank, region, end), block.offset - end)?;
                self.pickle.dict()?;
                self.pickle.int_at("address", address(rank, region, block.offset))?;
                self.pickle.int_at("size", block.bytes as i64)?;
                self.pickle.int_at("requested_size", block.requested as i64)?;
                self.pickle.text_at("state", "active_allocated")?;
                self.pickle.text_at("category", region.name())?;
                self.pickle.text("frames")?;
                self.frames(log, block)?;
                self.pickle.end_dict()?;
                self.pickle.append()?;
                end = block.offset + block.bytes;
            }
            self.idle(address(rank, region, end), total - end)?;
            self.pickle.end_dict()?;
            self.pickle.append()?;
        }
        Ok(())
    }

    /// A stretch of a region that no block takes: blocks have to fill their segment.
    fn idle(&mut self, address: i64, bytes: u64) -> Result<(), ExportError> {
        if bytes == 0 {
            return Ok(());
        }
        self.pickle.dict()?;
        self.pickle.int_at("address", address)?;
        self.pickle.int_at("size", bytes as i64)?;
        self.pickle.int_at("requested_size", 0)?;
        self.pickle.text_at("state", "inactive")?;
        self.pickle.text("frames")?;
        self.pickle.list()?;
        self.pickle.end_dict()?;
        Ok(self.pickle.append()?)
    }

    fn frames(&mut self, log: &Playback, block: &Block) -> Result<(), ExportError> {
        let key = (block.name, block.unit, block.layer);
        if let Some(&memo) = self.frames.get(&key) {
            return Ok(self.pickle.again(memo)?);
        }
        self.frames_named(log, key, &label(block, log.name(block.name)))
    }

    /// A list of one frame, which is remembered by `key`.
    fn frames_named(
        &mut self,
        log: &Playback,
        key: (NameId, Option<UnitId>, Option<u32>),
        label: &str,
    ) -> Result<(), ExportError> {
        let (file, line) = log.name(key.0).location();
        self.pickle.list()?;
        self.pickle.dict()?;
        self.pickle.text_at("filename", file)?;
        self.pickle.int_at("line", i64::from(line))?;
        self.pickle.text_at("name", label)?;
        self.pickle.end_dict()?;
        self.pickle.append()?;
        let memo = self.pickle.remember()?;
        self.frames.insert(key, memo);
        Ok(())
    }
}

/// Where a byte of a region is shown: regions of the first 256 ranks have addresses of their own, those
/// of further ranks are told apart by the device.
fn address(rank: u32, region: Region, offset: u64) -> i64 {
    let stretch = u64::from(rank % 256) << 3 | (region.index() as u64 + 1);
    (stretch * STRETCH + offset) as i64
}
