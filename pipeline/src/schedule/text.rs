//! Programs as text, and back; the format is shown at [`Programs`].

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use super::unit::number;
use super::{Action, Programs, Result, Schedule, ScheduleError};

impl fmt::Display for Programs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schedule = self.schedule();
        let d = schedule.dimensions();
        writeln!(f, "# slimpipe schedule, format 1")?;
        writeln!(
            f,
            "schedule {} ranks={} slices={} microbatches={} chunks={} tied={}",
            schedule.kind(), d.ranks, d.slices, d.microbatches, d.chunks, schedule.has_tied_ends()
        )?;
        for rank in 0..schedule.ranks() {
            write!(f, "rank {rank}:")?;
            for action in self.rank(rank) {
                write!(f, " {action}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// A word and where it begins, for errors.
#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    line: usize,
    column: usize,
}

impl Word<'_> {
    fn error(self, what: impl Into<String>) -> ScheduleError {
        ScheduleError::Syntax { line: self.line, column: self.column, what: what.into() }
    }
}

/// The words of a line up to a comment.
fn words(line: &str, number: usize) -> Vec<Word<'_>> {
    let line = line.split('#').next().unwrap_or_default();
    let (mut words, mut column, mut begin) = (Vec::new(), 0, None);
    for (at, character) in line.char_indices().chain([(line.len(), ' ')]) {
        column += 1;
        match (character.is_whitespace(), begin) {
            (false, None) => begin = Some((at, column)),
            (true, Some((from, column))) => {
                words.push(Word { text: &line[from..at], line: number, column });
                begin = None;
            }
            _ => {}
        }
    }
    words
}

impl FromStr for Programs {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self> {
        let mut lines = text
            .lines()
            .enumerate()
            .map(|(index, line)| words(line, index + 1))
            .filter(|words| !words.is_empty());
        let after = |what: &str| ScheduleError::Syntax {
            line: text.lines().count() + 1,
            column: 1,
            what: what.to_owned(),
        };
        let header = lines.next().ok_or_else(|| after("no `schedule` line"))?;
        let schedule = schedule(&header)?;
        let mut ranks: Vec<Option<Vec<Action>>> = Vec::new();
        for line in lines {
            let (rank, actions) = program(&line)?;
            let index = rank as usize;
            if rank >= schedule.ranks() {
                return Err(line[1].error(format!("rank {rank} of {}", schedule.ranks())));
            }
            ranks.resize(ranks.len().max(index + 1), None);
            if ranks[index].replace(actions).is_some() {
                return Err(line[1].error(format!("a second program of rank {rank}")));
            }
        }
        let count = schedule.ranks() as usize;
        match ranks.iter().position(Option::is_none) {
            None if ranks.len() == count => {}
            missing => {
                let rank = missing.unwrap_or(ranks.len());
                return Err(after(&format!("no program of rank {rank}")));
            }
        }
        Ok(Self::from_actions(&schedule, ranks.into_iter().flatten().collect()))
    }
}

/// `schedule KIND ranks=p slices=n microbatches=m chunks=v tied=BOOL`, the settings in any order.
fn schedule(header: &[Word<'_>]) -> Result<Schedule> {
    let first = header[0];
    if first.text != "schedule" {
        return Err(first.error(format!("`schedule` was expected, not `{}`", first.text)));
    }
    let kind = header.get(1).ok_or_else(|| first.error("the schedule's name is missing"))?;
    let parsed = kind.text.parse().map_err(|error: ScheduleError| kind.error(error.to_string()))?;
    let mut settings = HashMap::new();
    for word in &header[2..] {
        let (key, value) = word
            .text
            .split_once('=')
            .ok_or_else(|| word.error(format!("`{}` is not key=value", word.text)))?;
        if !["ranks", "slices", "microbatches", "chunks", "tied"].contains(&key) {
            return Err(word.error(format!(
                "`{key}` is unknown; there are ranks, slices, microbatches, chunks and tied"
            )));
        }
        if settings.insert(key, (value, word)).is_some() {
            return Err(word.error(format!("`{key}` occurs twice")));
        }
    }
    let count = |key: &str| -> Result<u32> {
        let &(value, word) =
            settings.get(key).ok_or_else(|| first.error(format!("`{key}=` is missing")))?;
        number(value).ok_or_else(|| word.error(format!("`{value}` is not a number")))
    };
    let tied = match settings.get("tied") {
        None | Some(("false", _)) => false,
        Some(("true", _)) => true,
        Some((value, word)) => return Err(word.error(format!("`{value}` is not true or false"))),
    };
    let (p, n, m, v) = (count("ranks")?, count("slices")?, count("microbatches")?, count("chunks")?);
    let schedule = Schedule::new(parsed, p, n, m, v).map_err(|e| first.error(e.to_string()))?;
    Ok(schedule.with_tied_ends(tied))
}

/// `rank R: ACTION ...`
fn program(line: &[Word<'_>]) -> Result<(u32, Vec<Action>)> {
    let first = line[0];
    if first.text != "rank" {
        return Err(first.error(format!("`rank` was expected, not `{}`", first.text)));
    }
    let name = line.get(1).ok_or_else(|| first.error("the rank's number is missing"))?;
    let rank = name
        .text
        .strip_suffix(':')
        .and_then(number)
        .ok_or_else(|| name.error(format!("`{}` is not a rank and a colon, as in `0:`", name.text)))?;
    let actions = line[2..]
        .iter()
        .map(|word| word.text.parse().map_err(|what: String| word.error(what)))
        .collect::<Result<_>>()?;
    Ok((rank, actions))
}
