//! Logs as a snapshot of PyTorch's caching allocator. A device is a rank, a segment a region.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

use slimpipe_allocator::{Region, UnitId};

use super::super::{Block, NameId};
use super::entries::{End, Entry, Known, STRETCH, walk};
use super::pickle::{Memo, Pickle};
use super::{ExportError, LeftOut, label, rank_of};

/// The device's number is an index into a list, which has an entry for each one before.
const DEVICES: u32 = 1 << 16;

/// Writes the snapshot, with at most `most` entries of a rank.
pub(super) fn write(
    logs: &[PathBuf],
    most: u64,
    out: &mut impl Write,
) -> Result<LeftOut, ExportError> {
    let mut snapshot = Snapshot { pickle: Pickle::new(out)?, frames: HashMap::new() };
    let (mut left_out, mut ends) = (LeftOut::default(), Vec::new());
    snapshot.pickle.dict()?;
    snapshot.pickle.text("device_traces")?;
    snapshot.pickle.list()?;
    let (mut devices, mut rest) = (0, logs);
    while let Some(path) = rest.first() {
        let rank = rank_of(path)?;
        if !(devices..DEVICES).contains(&rank) {
            let what = format!("rank {rank} is no device from {devices} to {}", DEVICES - 1);
            return Err(ExportError::Unfit { path: path.clone(), what });
        }
        for _ in devices..rank {
            snapshot.pickle.list()?;
            snapshot.pickle.append()?;
        }
        devices = rank + 1;
        let mut count = 1;
        while count < rest.len() && rank_of(&rest[count])? == rank {
            count += 1;
        }
        let (of_rank, others) = rest.split_at(count);
        rest = others;
        let entries = count_if_more(of_rank, most)?;
        left_out.entries.extend(entries.map(|entries| (rank, entries)));
        let skip = entries.map_or(0, |entries| entries - most);
        snapshot.pickle.list()?;
        ends.extend(snapshot.entries(of_rank, skip, &mut left_out)?);
        snapshot.pickle.append()?;
    }
    snapshot.pickle.text("segments")?;
    snapshot.pickle.list()?;
    for end in &ends {
        // Names have numbers of their own in each log.
        snapshot.frames.clear();
        snapshot.segments(end.known())?;
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
    Ok(left_out)
}

/// How many entries a rank's logs come to, if that is more than `most`.
fn count_if_more(logs: &[PathBuf], most: u64) -> Result<Option<u64>, ExportError> {
    // An event takes 24 bytes and is two entries at most, and what is live at a log's end may be freed.
    let bytes: u64 = logs.iter().filter_map(|log| Some(log.metadata().ok()?.len())).sum();
    if bytes / 24 * 3 <= most {
        return Ok(None);
    }
    let mut count = 0;
    walk(logs, &mut Vec::new(), |_, _, entry, _| {
        count += entry.count();
        Ok(())
    })?;
    Ok(Some(count).filter(|count| *count > most))
}

struct Snapshot<W> {
    pickle: Pickle<W>,
    /// Lists of frames of one log, by what made a block.
    frames: HashMap<(NameId, Option<UnitId>, Option<u32>), Memo>,
}

impl<W: Write> Snapshot<W> {
    /// What a rank's events come to, as entries of the device's list, without the first `skip`.
    fn entries(
        &mut self,
        logs: &[PathBuf],
        skip: u64,
        left_out: &mut LeftOut,
    ) -> Result<Option<End>, ExportError> {
        let (mut seen, mut names_of) = (0, None);
        walk(logs, &mut left_out.cuts, |log, known, entry, micros| {
            let before = seen;
            seen += entry.count();
            if seen < skip {
                return Ok(());
            }
            if names_of.replace(log) != Some(log) {
                self.frames.clear();
            }
            match before < skip {
                true => self.state(known, micros),
                false => self.entry(known, entry, micros),
            }
        })
    }

    /// What is there, as entries that make it: what is told begins here.
    fn state(&mut self, known: Known<'_>, micros: i64) -> Result<(), ExportError> {
        for region in Region::ALL {
            let now = known.memory.region(region).reserved().current;
            self.entry(known, Entry::Map { region, before: 0, now }, micros)?;
        }
        let mut live = known.memory.live();
        live.try_for_each(|held| self.entry(known, Entry::Alloc(held.block), micros))
    }

    fn entry(&mut self, known: Known<'_>, entry: Entry, micros: i64) -> Result<(), ExportError> {
        match entry {
            Entry::Alloc(block) => self.block(known, "alloc", &block, micros),
            // The page takes a free for one where both of its entries stand beside each other.
            Entry::Free(block) => {
                self.block(known, "free_requested", &block, micros)?;
                self.block(known, "free_completed", &block, micros)
            }
            Entry::Map { region, before, now } => {
                self.map(known.rank, region, (before, now), micros)
            }
            Entry::Refused { bytes, name } => {
                let idle = known.memory.reserved().current - known.memory.active().current;
                self.pickle.dict()?;
                self.pickle.text_at("action", "oom")?;
                self.pickle.int_at("size", bytes.min(i64::MAX as u64) as i64)?;
                self.pickle.int_at("device_free", idle as i64)?;
                self.pickle.int_at("stream", 0)?;
                self.pickle.int_at("time_us", micros)?;
                self.pickle.text("frames")?;
                self.frames_named(known, (name, None, None), known.name(name).op())?;
                self.pickle.end_dict()?;
                Ok(self.pickle.append()?)
            }
        }
    }

    fn block(
        &mut self,
        known: Known<'_>,
        action: &str,
        block: &Block,
        micros: i64,
    ) -> Result<(), ExportError> {
        self.pickle.dict()?;
        self.pickle.text_at("action", action)?;
        self.pickle.int_at("addr", address(known.rank, block.region, block.offset))?;
        self.pickle.int_at("size", block.bytes as i64)?;
        self.pickle.int_at("stream", 0)?;
        self.pickle.int_at("time_us", micros)?;
        self.pickle.text_at("category", block.region.name())?;
        self.pickle.text("frames")?;
        self.frames(known, block)?;
        self.pickle.end_dict()?;
        Ok(self.pickle.append()?)
    }

    /// A region that grows or shrinks at its end.
    fn map(
        &mut self,
        rank: u32,
        region: Region,
        (before, now): (u64, u64),
        micros: i64,
    ) -> Result<(), ExportError> {
        if before == now {
            return Ok(());
        }
        let action = if before < now { "segment_map" } else { "segment_unmap" };
        self.pickle.dict()?;
        self.pickle.text_at("action", action)?;
        self.pickle.int_at("addr", address(rank, region, before.min(now)))?;
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
    fn segments(&mut self, known: Known<'_>) -> Result<(), ExportError> {
        let rank = known.rank;
        for region in Region::ALL {
            let state = known.memory.region(region);
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
                self.frames(known, block)?;
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

    fn frames(&mut self, known: Known<'_>, block: &Block) -> Result<(), ExportError> {
        let key = (block.name, block.unit, block.layer);
        if let Some(&memo) = self.frames.get(&key) {
            return Ok(self.pickle.again(memo)?);
        }
        self.frames_named(known, key, &label(block, known.name(block.name)))
    }

    /// A list of one frame, which is remembered by `key`.
    fn frames_named(
        &mut self,
        known: Known<'_>,
        key: (NameId, Option<UnitId>, Option<u32>),
        label: &str,
    ) -> Result<(), ExportError> {
        let (file, line) = known.name(key.0).location();
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
