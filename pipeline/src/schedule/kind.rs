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
    /// GPipe on slices (arXiv 2102.07988), of equal length.
    TeraPipe,
    /// 1F1B on slices of equal length (arXiv 2406.03488).
    Seq1F1B,
    /// 1F1B on slices of equal work: later ones, which attend to more, are shorter.
    Seq1F1BBalanced,
    /// 1F1B with the backward in two parts and the units in flight of 1F1B's first rank on every rank
    /// (arXiv 2401.10241).
    ZbH1,
    /// Two chunks per rank in a V, backward in two parts: no bubble if all parts take equally long
    /// (arXiv 2401.10241).
    ZbV,
    /// Two chunks per rank in a V, in half the memory of 1F1B (arXiv 2405.15362).
    VHalf,
}

impl ScheduleKind {
    /// All schedules.
    pub const ALL: [Self; 10] = [
        Self::SlimPipe,
        Self::GPipe,
        Self::OneFOneB,
        Self::Interleaved,
        Self::TeraPipe,
        Self::Seq1F1B,
        Self::Seq1F1BBalanced,
        Self::ZbH1,
        Self::ZbV,
        Self::VHalf,
    ];

    /// Whether the executor runs it; the others are verified and simulated only.
    pub fn is_executed(self) -> bool {
        !matches!(self, Self::ZbV | Self::VHalf)
    }

    /// # Errors
    /// The executor does not run it.
    pub fn expect_executed(self) -> Result<(), ScheduleError> {
        match self.is_executed() {
            true => Ok(()),
            false => {
                let executed = Self::executed_names();
                Err(ScheduleError::NotExecuted { kind: self.name(), executed })
            }
        }
    }

    /// The schedule of that name, one that the executor runs.
    ///
    /// # Errors
    /// There is none; the message lists those there are.
    pub fn parse_executed(name: &str) -> Result<Self, ScheduleError> {
        let kind: Self = name.parse().map_err(|error| match error {
            ScheduleError::UnknownName { name, hint, .. } => {
                ScheduleError::UnknownName { name, hint, known: Self::executed_names() }
            }
            other => other,
        })?;
        kind.expect_executed().map(|()| kind)
    }

    fn executed_names() -> String {
        let executed = Self::ALL.into_iter().filter(|kind| kind.is_executed());
        executed.map(Self::name).collect::<Vec<_>>().join(", ")
    }

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::SlimPipe => "slimpipe",
            Self::GPipe => "gpipe",
            Self::OneFOneB => "1f1b",
            Self::Interleaved => "interleaved-1f1b",
            Self::TeraPipe => "terapipe",
            Self::Seq1F1B => "seq1f1b",
            Self::Seq1F1BBalanced => "seq1f1b-balanced",
            Self::ZbH1 => "zb-h1",
            Self::ZbV => "zb-v",
            Self::VHalf => "v-half",
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
        let plain = |name: &str| name.to_lowercase().replace(['-', '_', ' '], "");
        let given = plain(name);
        let alike = |kind: &Self| {
            let name = plain(kind.name());
            let same = name.chars().zip(given.chars()).take_while(|(a, b)| a == b).count();
            same.max(if given.contains(&name) { name.len() } else { 0 })
        };
        // Of equally similar names, the first.
        let meant = Self::ALL.into_iter().rev().max_by_key(alike).filter(|kind| alike(kind) > 2);
        let hint = meant.map_or(String::new(), |kind| format!(" (did you mean `{kind}`?)"));
        let known = Self::ALL.map(Self::name).join(", ");
        Err(ScheduleError::UnknownName { name: name.to_owned(), hint, known })
    }
}
