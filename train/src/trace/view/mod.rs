//! Memory logs as one page for a browser: the pipeline above, the map of memory over time below.
//!
//! The page is one file: text, style, script, and the logs' blocks as columns of numbers, which the script takes
//! as they are. It is written part by part, in memory for the blocks alone.

mod blocks;
mod columns;
mod pauses;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::ops::Range;

use serde_json::{Value, json};
use slimpipe_allocator::{Phase, Region, UnitId};

use self::blocks::{Blocks, Lived, Stretch};
use self::columns::Columns;
use self::pauses::Pauses;
use super::{Name, Playback, TraceError};
use crate::page::Page;

const PAGE: Page = Page {
    text: include_str!("page/page.html"),
    style: include_str!("page/page.css"),
    script: &[
        include_str!("page/columns.js"),
        include_str!("page/colours.js"),
        include_str!("page/picture.js"),
        include_str!("page/draw.js"),
        include_str!("page/marks.js"),
        include_str!("page/input.js"),
        include_str!("page/controls.js"),
    ],
};

/// The largest number in a column.
const LARGEST: u64 = u32::MAX as u64;
/// What places and sizes are counted in, unless there are too many.
const LINE: u64 = 64;

/// One run on a page: its name, and what its ranks logged.
pub struct Traced {
    name: String,
    ranks: BTreeMap<u32, Blocks>,
}

impl Traced {
    /// A run without ranks.
    pub fn new(name: String) -> Self {
        Self { name, ranks: BTreeMap::new() }
    }

    /// Reads a log to its end and adds it to its rank.
    ///
    /// # Errors
    /// A record that cannot be.
    pub fn add(&mut self, log: &mut Playback) -> Result<(), TraceError> {
        self.ranks.entry(log.rank()).or_default().add(log)
    }
}

/// Writes the page of one run or of several to compare, with everything it needs in it.
///
/// # Errors
/// It cannot be written.
pub fn page(traces: &[Traced], out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    // Runs are on one clock: what is folded is a pause of both.
    let pauses = Pauses::between(traces.iter().flat_map(Traced::logs).collect());
    let all = || traces.iter().enumerate();
    let runs: Value = all().map(|(at, trace)| trace.about(at, &pauses)).collect();
    let about = json!({ "runs": runs, "pauses": pauses.about() });
    let columns = |out: &mut _| all().try_for_each(|(at, trace)| trace.columns(at, &pauses, out));
    PAGE.write(&about, columns, out)
}

/// The names of the elements that hold a rank's blocks and its units.
fn elements(trace: usize, rank: u32) -> [String; 2] {
    ["blocks", "units"].map(|what| format!("{what}-{trace}-{rank}"))
}

impl Traced {
    /// All ranks are on one clock, that of the earliest.
    fn begin(&self) -> u64 {
        self.ranks.values().map(Blocks::begin).min().unwrap_or(0)
    }

    /// When logs were being written, on that clock.
    fn logs(&self) -> impl Iterator<Item = Range<u64>> {
        let (logs, begin) = (self.ranks.values().flat_map(|blocks| &blocks.logs), self.begin());
        logs.map(move |log| log.start - begin..log.end - begin)
    }

    /// All but the columns, as the script takes it.
    fn about(&self, at: usize, pauses: &Pauses) -> Value {
        let ranks = self.ranks.iter().map(|(number, blocks)| {
            let [data, units] = elements(at, *number);
            let scale = Scale::of(blocks, self.begin(), pauses);
            let mut names = Names::default();
            blocks.owners.iter().for_each(|owner| _ = names.number(&owner.name));
            let most = |of: fn(&blocks::Owner) -> Option<u32>| {
                blocks.owners.iter().filter_map(of).max().unwrap_or(0)
            };
            json!({
                "rank": number,
                "data": data,
                "units": units,
                "blocks": blocks.blocks.len(),
                "kinds": blocks.owners.len(),
                "runs": blocks.stretches.len(),
                "peak": blocks.peak,
                "peaked": scale.ticks(blocks.peaked.max(blocks.begin())),
                "tick": scale.tick as f64 * 1e-9,
                "line": scale.line,
                "end": scale.ticks(blocks.end()),
                "regions": Region::ALL.map(Region::name),
                "bases": scale.bases,
                "extents": blocks.extents.map(|bytes| scale.lines(bytes)),
                "names": names.all,
                "most": {
                    "microbatch": most(|owner| Some(owner.unit?.microbatch)),
                    "slice": most(|owner| Some(owner.unit?.slice)),
                    "layer": most(|owner| owner.layer),
                },
            })
        });
        json!({ "name": self.name, "ranks": ranks.collect::<Value>() })
    }

    fn columns(
        &self,
        at: usize,
        pauses: &Pauses,
        out: &mut (impl Write + ?Sized),
    ) -> io::Result<()> {
        for (&number, blocks) in &self.ranks {
            let [data, units] = elements(at, number);
            let scale = Scale::of(blocks, self.begin(), pauses);
            element(out, &data, |columns| scale.blocks(blocks, columns))?;
            element(out, &units, |columns| scale.stretches(&blocks.stretches, columns))?;
        }
        Ok(())
    }
}

fn element<W: Write + ?Sized>(
    out: &mut W,
    id: &str,
    write: impl FnOnce(&mut Columns<&mut W>) -> io::Result<()>,
) -> io::Result<()> {
    write!(out, "<script type=\"application/octet-stream\" id=\"{id}\">")?;
    let mut columns = Columns::new(&mut *out);
    write(&mut columns)?;
    columns.finish()?;
    out.write_all(b"</script>\n")
}

/// How times and places of a rank are counted on a page, in 32 bits.
struct Scale<'a> {
    /// When the page's time begins.
    begin: u64,
    pauses: &'a Pauses,
    /// Nanoseconds.
    tick: u64,
    /// Bytes.
    line: u64,
    /// Where regions begin, in lines: they lie above each other on the page, in their order.
    bases: [u64; Region::COUNT],
}

impl<'a> Scale<'a> {
    fn of(blocks: &Blocks, begin: u64, pauses: &'a Pauses) -> Self {
        let tick = pauses.place(blocks.end() - begin).div_ceil(LARGEST).max(1);
        let bytes: u64 = blocks.extents.iter().sum();
        // Coarser lines for what is beyond 256 GiB. Each region takes whole ones.
        let mut line = LINE;
        while bytes / line + Region::COUNT as u64 > LARGEST {
            line *= 2;
        }
        let mut bases = [0; Region::COUNT];
        for at in 1..bases.len() {
            bases[at] = bases[at - 1] + blocks.extents[at - 1].div_ceil(line);
        }
        Self { begin, pauses, tick, line, bases }
    }

    fn ticks(&self, time: u64) -> u32 {
        (self.pauses.place(time - self.begin) / self.tick) as u32
    }

    fn lines(&self, bytes: u64) -> u32 {
        bytes.div_ceil(self.line) as u32
    }

    fn blocks(&self, blocks: &Blocks, to: &mut Columns<impl Write>) -> io::Result<()> {
        let Blocks { blocks, owners, .. } = blocks;
        let base = |block: &Lived| self.bases[owners[block.owner as usize].region.index()];
        to.extend(blocks.iter().map(|block| self.ticks(block.begin)))?;
        to.extend(blocks.iter().map(|block| self.ticks(block.end)))?;
        to.extend(blocks.iter().map(|block| (base(block) + block.place / self.line) as u32))?;
        to.extend(blocks.iter().map(|block| self.lines(block.bytes)))?;
        to.extend(blocks.iter().map(|block| block.owner))?;
        let mut names = Names::default();
        to.extend(owners.iter().map(|owner| owner.region.index() as u32))?;
        for part in 0..3 {
            to.extend(owners.iter().map(|owner| unit(owner.unit)[part]))?;
        }
        to.extend(owners.iter().map(|owner| owner.layer.unwrap_or(NONE)))?;
        to.extend(owners.iter().map(|owner| names.number(&owner.name)))
    }

    fn stretches(&self, stretches: &[Stretch], to: &mut Columns<impl Write>) -> io::Result<()> {
        to.extend(stretches.iter().map(|stretch| match stretch.phase {
            Phase::Forward => 0,
            Phase::Backward => 1,
            Phase::Weight => 2,
        }))?;
        for part in 0..3 {
            to.extend(stretches.iter().map(|stretch| unit(Some(stretch.unit))[part]))?;
        }
        to.extend(stretches.iter().map(|stretch| self.ticks(stretch.begin)))?;
        to.extend(stretches.iter().map(|stretch| self.ticks(stretch.end)))
    }
}

/// What has no unit or no layer: the script reads it as -1.
const NONE: u32 = u32::MAX;

fn unit(unit: Option<UnitId>) -> [u32; 3] {
    unit.map_or([NONE; 3], |unit| [unit.microbatch, unit.slice, unit.chunk])
}

/// Operations and call sites by number, each pair once.
#[derive(Default)]
struct Names<'a> {
    all: Vec<[&'a str; 2]>,
    numbers: HashMap<&'a Name, u32>,
}

impl<'a> Names<'a> {
    fn number(&mut self, name: &'a Name) -> u32 {
        *self.numbers.entry(name).or_insert_with(|| {
            self.all.push([name.op(), name.site()]);
            self.all.len() as u32 - 1
        })
    }
}
