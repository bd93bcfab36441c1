use std::fmt;
use std::str::FromStr;

use super::ScheduleError;

/// The schedules there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScheduleKind {
    /// Slice-level 1F1B with uniform slices (arXiv 2504.14519), plain or interleaved.
    SlimPipe,
    /// All forwards, then all backwards.
    GPipe,
    /// One forward, one backward, on whole microbatches.
    OneFOneB,
    /// 1F1B with several model chunks per rank.
    Interleaved,
}

impl ScheduleKind {
    /// All schedules.
    pub const ALL: [Self; 4] = [Self::SlimPipe, Self::GPipe, Self::OneFOneB, Self::Interleaved];

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::SlimPipe => "slimpipe",
            Self::GPipe => "gpipe",
            Self::OneFOneB => "1f1b",
            Self::Interleaved => "interleaved-1f1b",
        }
    }
}

impl fmt::Display for ScheduleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ScheduleKind {
    type Err = ScheduleError;

    fn from_str(name: &str) -> Result<Self, ScheduleError> {
        if let Some(kind) = Self::ALL.into_iter().find(|kind| kind.name() == name) {
            return Ok(kind);
        }
        let plain = name.to_lowercase().replace(['_', ' '], "-");
        let alike =
            |kind: &Self| kind.name().chars().zip(plain.chars()).take_while(|(a, b)| a == b);
        let similar = |kind: &Self| alike(kind).count() > 2 || plain.contains(kind.name());
        let meant = Self::ALL.into_iter().rev().find(similar);
        let hint = meant.map_or(String::new(), |kind| format!(" (did you mean `{kind}`?)"));
        let known = Self::ALL.map(Self::name).join(", ");
        Err(ScheduleError::UnknownName { name: name.to_owned(), hint, known })
    }
}
