//! Attention context exchange: ranks with long prefixes let others attend to a part of them.
//!
//! In lock step all ranks run units of the same kind at the same time, each one unit behind its
//! predecessor ([`LockStep`](super::LockStep)), so each knows what the others have to do: a unit of slice i attends to
//! i earlier slices and to half of its own. Loads are therefore very unequal, and a step takes as
//! long as its heaviest rank. A [`Move`] hands over the part of a unit's attention that reads some of
//! the oldest keys and values: the owner ships them with its queries, the helper attends and sends
//! back the partial output with its log-sum-exp, and the owner merges. In backward the same move
//! takes the final output, its log-sum-exp and its gradient along, and brings gradients of queries,
//! keys and values back, which are simply added.
//!
//! Everything is counted in **half chunks**: the keys of half a slice, attended to by all queries of
//! a slice. A slice's own triangle is one half chunk of work, an earlier slice two.

mod balance;
mod layer;
mod pairing;
mod table;

use std::fmt;
use std::str::FromStr;

pub use layer::{LayerStep, Roles, unit_steps};
pub(super) use table::Table;

use super::ScheduleError;

/// How attention is shared among ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Exchange {
    /// Every rank attends for itself.
    #[default]
    Off,
    /// The rank with the longest prefix pairs with that with the shortest, and so on; whole chunks,
    /// and only while all ranks are busy (arXiv 2504.14519).
    Paper,
    /// All ranks end with the same load up to half a chunk: a rank may have several helpers or
    /// owners, and ranks that wait for the pipeline to fill or drain help too.
    Balanced,
}

impl Exchange {
    /// All ways.
    pub const ALL: [Self; 3] = [Self::Off, Self::Paper, Self::Balanced];

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Paper => "paper",
            Self::Balanced => "balanced",
        }
    }

    /// The moves of one step, sorted by owner: `prefixes` are the earlier slices that each rank's
    /// unit attends to, `None` where a rank has no unit. No rank is owner and helper at once.
    pub fn moves(self, prefixes: &[Option<u32>]) -> Vec<Move> {
        match self {
            Self::Off => Vec::new(),
            Self::Paper => pairing::moves(prefixes),
            Self::Balanced => balance::moves(prefixes),
        }
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Exchange {
    type Err = ScheduleError;

    fn from_str(name: &str) -> Result<Self, ScheduleError> {
        let known = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|exchange| exchange.name() == name);
        found
            .ok_or_else(|| ScheduleError::UnknownExchange { name: name.to_owned(), known: known() })
    }
}

/// One of the two directions in which units run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pass {
    /// Forward.
    Forward,
    /// Backward.
    Backward,
}

impl fmt::Display for Pass {
    /// As in the text of programs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "f",
            Self::Backward => "b",
        })
    }
}

/// Half chunks `start..end` of a unit's prefix, oldest first: slice i is half chunks 2 i and 2 i + 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    /// The first half chunk.
    pub start: u32,
    /// The one after the last.
    pub end: u32,
}

impl Part {
    /// How many half chunks there are.
    pub fn len(self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Whether half chunk `half` is one of them.
    pub fn contains(self, half: u32) -> bool {
        (self.start..self.end).contains(&half)
    }

    /// Whether both have a half chunk in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.start.max(other.start) < self.end.min(other.end)
    }

    /// The rows of slice `slice`, of `rows` rows, that lie in the part; empty if none does.
    pub fn rows(self, slice: u32, rows: usize) -> std::ops::Range<usize> {
        let at = |half: u32| match half.saturating_sub(2 * slice) {
            0 => 0,
            1 => rows / 2,
            _ => rows,
        };
        at(self.start)..at(self.end).max(at(self.start))
    }

    /// The slices with rows in the part.
    pub fn slices(self) -> std::ops::Range<u32> {
        self.start / 2..self.end.div_ceil(2).max(self.start / 2)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

/// A part of the attention of one rank's unit that another rank computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Move {
    /// Whose unit it is.
    pub owner: u32,
    /// Who computes.
    pub helper: u32,
    /// The keys and values that are attended to.
    pub part: Part,
}

/// The attention work of each rank in half chunks, by rank, once `moves` are made.
pub fn loads(prefixes: &[Option<u32>], moves: &[Move]) -> Vec<u32> {
    let own = |prefix: &Option<u32>| prefix.map_or(0, |slices| 2 * slices + 1);
    let mut loads: Vec<u32> = prefixes.iter().map(own).collect();
    for Move { owner, helper, part } in moves {
        loads[*owner as usize] -= part.len();
        loads[*helper as usize] += part.len();
    }
    loads
}
