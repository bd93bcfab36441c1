//! The schedules there are, by name.

use std::fmt;
use std::str::FromStr;

use super::ScheduleError;

/// Which schedule a pipeline runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ScheduleKind {
    /// Slice-level one-forward-one-backward, plain (v = 1) or interleaved (v > 1): `slimpipe`.
    #[default]
    SlimPipe,
    /// All forwards, then all backwards: `gpipe`.
    GPipe,
    /// One-forward-one-backward on whole microbatches: `1f1b`.
    OneForwardOneBackward,
    /// One-forward-one-backward on whole microbatches over v chunks per rank: `interleaved-1f1b`.
    InterleavedOneForwardOneBackward,
}

impl ScheduleKind {
    /// Every kind, in the order of documentation and help texts.
    pub const ALL: [Self; 4] = [
        Self::SlimPipe,
        Self::GPipe,
        Self::OneForwardOneBackward,
        Self::InterleavedOneForwardOneBackward,
    ];

    /// The name in settings and dumps.
    pub fn name(self) -> &'static str {
        match self {
            Self::SlimPipe => "slimpipe",
            Self::GPipe => "gpipe",
            Self::OneForwardOneBackward => "1f1b",
            Self::InterleavedOneForwardOneBackward => "interleaved-1f1b",
        }
    }
}

impl fmt::Display for ScheduleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ScheduleKind {
    type Err = ScheduleError;

    fn from_str(name: &str) -> Result<Self, ScheduleError> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let wanted = simplified(name);
            let nearest = Self::ALL
                .into_iter()
                .map(|kind| (edit_distance(&wanted, &simplified(kind.name())), kind))
                .min_by_key(|&(distance, _)| distance);
            let suggestion = nearest
                .filter(|&(distance, kind)| distance <= kind.name().len() / 2)
                .map(|(_, kind)| kind.name());
            ScheduleError::UnknownKind { name: name.to_owned(), suggestion }
        })
    }
}

/// Case and separators are what people get wrong most.
fn simplified(name: &str) -> Vec<char> {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Insertions, deletions and replacements that turn `a` into `b` (Levenshtein).
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back_as_written() {
        for kind in ScheduleKind::ALL {
            assert_eq!(kind.to_string().parse::<ScheduleKind>().unwrap(), kind);
        }
    }

    #[test]
    fn a_misspelt_name_gets_the_nearest_as_a_suggestion() {
        for (name, suggestion) in [
            ("SlimPipe", Some("slimpipe")),
            ("slimpip", Some("slimpipe")),
            ("g-pipe", Some("gpipe")),
            ("1F1B", Some("1f1b")),
            ("interleaved_1f1b", Some("interleaved-1f1b")),
            ("zero-bubble-v", None),
        ] {
            match name.parse::<ScheduleKind>() {
                Err(ScheduleError::UnknownKind { suggestion: got, .. }) => {
                    assert_eq!(got, suggestion, "{name}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
        let message = "slimpip".parse::<ScheduleKind>().unwrap_err().to_string();
        assert!(message.contains("did you mean `slimpipe`") && message.contains("1f1b"), "{message}");
    }
}
