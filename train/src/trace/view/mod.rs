//! Memory logs as one page for a browser: the pipeline above, the map of memory over time below.

mod blocks;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use slimpipe_allocator::{Phase, Region, UnitId};

use self::blocks::{Blocks, Lived};
use super::{Name, Playback, TraceError};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Finest steps into which a page divides its time.
const TICKS: u64 = u32::MAX as u64;

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

/// The page of one run or of several to compare, with everything it needs in it.
pub fn page(traces: &[Traced]) -> String {
    // Text in a script element ends at `</`, wherever that is.
    let data = Value::from_iter(traces.iter().map(trace)).to_string().replace("</", "<\\/");
    let parts = [("/*style*/", STYLE), ("/*script*/", SCRIPT), ("/*data*/", &*data)];
    parts.into_iter().fold(PAGE.to_owned(), |page, (mark, part)| page.replacen(mark, part, 1))
}

fn trace(trace: &Traced) -> Value {
    // All ranks on one clock, that of the earliest.
    let begin = trace.ranks.values().map(|blocks| blocks.begin).min().unwrap_or(0);
    let ranks = trace.ranks.iter().map(|(number, blocks)| rank(*number, blocks, begin));
    json!({ "name": trace.name, "ranks": ranks.collect::<Value>() })
}

/// Columns of numbers in little-endian bytes, in base 64.
fn rank(number: u32, blocks: &Blocks, begin: u64) -> Value {
    let tick = (blocks.end - begin).div_ceil(TICKS).max(1);
    let ticks = |time: u64| (time - begin) / tick;
    // Regions lie above each other on the page, in their order.
    let mut bases = [0; Region::ALL.len()];
    for at in 1..bases.len() {
        bases[at] = bases[at - 1] + blocks.extents[at - 1];
    }
    let column = |of: &dyn Fn(&Lived) -> u64| {
        let bytes = blocks.blocks.iter().flat_map(|block| (of(block) as u32).to_le_bytes());
        base64(bytes)
    };
    let base = |block: &Lived| bases[blocks.owners[block.owner as usize].region.index()];
    let mut names = Names::default();
    let owners: Value = (blocks.owners.iter())
        .map(|owner| {
            let (region, layer) = (owner.region.index(), owner.layer.map_or(-1, i64::from));
            let [microbatch, slice, chunk] = unit(owner.unit);
            json!([region, microbatch, slice, chunk, layer, names.number(&owner.name)])
        })
        .collect();
    let stretches: Value = (blocks.stretches.iter())
        .map(|stretch| {
            let [microbatch, slice, chunk] = unit(Some(stretch.unit));
            let phase = match stretch.phase {
                Phase::Forward => 0,
                Phase::Backward => 1,
                Phase::Weight => 2,
            };
            json!([phase, microbatch, slice, chunk, ticks(stretch.begin), ticks(stretch.end)])
        })
        .collect();
    json!({
        "rank": number,
        "tick": tick as f64 * 1e-9,
        "end": ticks(blocks.end),
        "regions": Region::ALL.map(Region::name),
        "bases": bases,
        "extents": blocks.extents,
        "begins": column(&|block| ticks(block.begin)),
        "ends": column(&|block| ticks(block.end)),
        "places": column(&|block| base(block) + block.place),
        "sizes": column(&|block| block.lines),
        "owners": column(&|block| u64::from(block.owner)),
        "about": owners,
        "names": names.all,
        "stretches": stretches,
    })
}

fn unit(unit: Option<UnitId>) -> [i64; 3] {
    unit.map_or([-1; 3], |unit| [unit.microbatch, unit.slice, unit.chunk].map(i64::from))
}

/// Operations and call sites by number, each pair once.
#[derive(Default)]
struct Names<'a> {
    all: Vec<[&'a str; 2]>,
    numbers: HashMap<&'a Name, usize>,
}

impl<'a> Names<'a> {
    fn number(&mut self, name: &'a Name) -> usize {
        *self.numbers.entry(name).or_insert_with(|| {
            self.all.push([name.op(), name.site()]);
            self.all.len() - 1
        })
    }
}

fn base64(bytes: impl Iterator<Item = u8>) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.size_hint().0.div_ceil(3) * 4);
    let mut bytes = bytes.peekable();
    while bytes.peek().is_some() {
        let group = [bytes.next(), bytes.next(), bytes.next()];
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(byte.unwrap_or(0)));
        let digits = 1 + group.iter().flatten().count();
        let digit = |at: usize| char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]);
        text.extend((0..4).map(|at| if at < digits { digit(at) } else { '=' }));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn bytes_are_spelled_as_rfc_4648_says() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.bytes()), text);
        }
    }
}
