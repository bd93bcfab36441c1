//! Programs as text: one line per rank, one word per action. Reading gives back what was written.
//!
//! `F0.3:1` is the forward of microbatch 0, slice 3, chunk 1, `B` its backward, or `I` and `W` the
//! two parts of it, for the input and for the weights; `ra0.3:1<2` receives its input from rank 2,
//! `sa..>2` sends its output, `rg` and `sg` do so with gradients; `xf0.3:1/0-4>2` lets rank 2 attend
//! to half chunks 0 to 3 of the unit's prefix in forward, `xf0.3:1/0-4<0` does so for rank 0, `xb` in
//! backward, and `hf` and `hb` do it without a unit of one's own; `ve0.3:0` embeds a slice, every rank
//! in its part of the vocabulary, `vh0.3:1` runs the output layer, and `vb0.3:0` adds to the gradient
//! of the embedding; `reduce:1` adds the gradients of chunk 1 over the data ranks, `reduce:v` those
//! of the vocabulary; `tied@3` adds tied gradients with rank 3; `step` is the optimizer's.

use std::fmt::Write;

use super::{Action, Part, Pass, Schedule, ScheduleError, Unit, Weights};

/// All ranks' programs, a line each: `rank 0: F0.0:0 sa0.0:0>1 ...`.
pub fn dump(schedule: &Schedule) -> String {
    dump_programs((0..schedule.ranks()).map(|rank| schedule.program(rank)))
}

/// Like [`dump`], for programs from anywhere, by rank.
pub fn dump_programs<P: IntoIterator<Item = Action>>(
    programs: impl IntoIterator<Item = P>,
) -> String {
    let mut text = String::new();
    for (rank, program) in programs.into_iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(text, "rank {rank}:");
        for action in program {
            let _ = write!(text, " {action}");
        }
        text.push('\n');
    }
    text
}

/// The order of one rank's forwards and backwards: `F0.0 F0.1 B0.1 ...`, with `:chunk` where there
/// are several.
pub fn dump_order(schedule: &Schedule, rank: u32) -> String {
    let word = |action: Action| {
        let text = action.to_string();
        match text.strip_suffix(":0") {
            Some(short) if schedule.chunks() == 1 => short.to_owned(),
            _ => text,
        }
    };
    schedule.order(rank).map(word).collect::<Vec<_>>().join(" ")
}

/// The programs of a text as [`dump`] writes it, by rank. Empty lines are skipped.
///
/// # Errors
/// [`ScheduleError::Syntax`] with line and column.
pub fn parse(text: &str) -> Result<Vec<Vec<Action>>, ScheduleError> {
    let mut programs = Vec::new();
    for (line, text) in text.lines().enumerate() {
        if text.trim().is_empty() {
            continue;
        }
        let mut cursor = Cursor { line: line + 1, text, at: 0 };
        cursor.expect(&format!("rank {}:", programs.len()))?;
        let mut program = Vec::new();
        while cursor.skip_spaces() {
            program.push(cursor.action()?);
            if !cursor.rest().is_empty() && !cursor.rest().starts_with(char::is_whitespace) {
                return Err(cursor.error("a space after an action"));
            }
        }
        programs.push(program);
    }
    Ok(programs)
}

/// A place in a line.
struct Cursor<'a> {
    line: usize,
    text: &'a str,
    /// In bytes; always between two characters.
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// An error at this place, where `expected` should be.
    fn error(&self, expected: &str) -> ScheduleError {
        let word: String =
            self.rest().chars().take_while(|c| !c.is_whitespace()).take(16).collect();
        let found = if word.is_empty() { "nothing".to_owned() } else { format!("`{word}`") };
        ScheduleError::Syntax {
            line: self.line,
            column: self.text[..self.at].chars().count() + 1,
            what: format!("expected {expected}, found {found}"),
        }
    }

    /// Goes to the next word; whether there is one.
    fn skip_spaces(&mut self) -> bool {
        self.at = self.text.len() - self.rest().trim_start().len();
        self.at < self.text.len()
    }

    /// Passes `prefix`, if it is next.
    fn take(&mut self, prefix: &str) -> bool {
        let found = self.rest().starts_with(prefix);
        if found {
            self.at += prefix.len();
        }
        found
    }

    fn expect(&mut self, text: &str) -> Result<(), ScheduleError> {
        if self.take(text) { Ok(()) } else { Err(self.error(&format!("`{text}`"))) }
    }

    fn number(&mut self) -> Result<u32, ScheduleError> {
        let rest = self.rest();
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number = rest[..digits].parse().map_err(|_| {
            self.error(if digits == 0 { "a number" } else { "a number of at most 4294967295" })
        })?;
        self.at += digits;
        Ok(number)
    }

    fn unit(&mut self) -> Result<Unit, ScheduleError> {
        let microbatch = self.number()?;
        self.expect(".")?;
        let slice = self.number()?;
        self.expect(":")?;
        Ok(Unit { microbatch, slice, chunk: self.number()? })
    }

    /// A unit and, after `mark`, a rank.
    fn message(&mut self, mark: &str) -> Result<(Unit, u32), ScheduleError> {
        let unit = self.unit()?;
        self.expect(mark)?;
        Ok((unit, self.number()?))
    }

    /// A unit, a part of its prefix, and the rank at the other end.
    fn exchange(&mut self, pass: Pass) -> Result<Action, ScheduleError> {
        let unit = self.unit()?;
        self.expect("/")?;
        let start = self.number()?;
        self.expect("-")?;
        let part = Part { start, end: self.number()? };
        if self.take(">") {
            return Ok(Action::Ship { unit, part, to: self.number()?, pass });
        }
        if !self.take("<") {
            return Err(self.error("`>` or `<`"));
        }
        Ok(Action::Attend { unit, part, from: self.number()?, pass })
    }

    fn action(&mut self) -> Result<Action, ScheduleError> {
        if self.take("F") {
            self.unit().map(Action::Forward)
        } else if self.take("B") {
            self.unit().map(Action::Backward)
        } else if self.take("I") {
            self.unit().map(Action::BackwardInput)
        } else if self.take("W") {
            self.unit().map(Action::BackwardWeight)
        } else if self.take("ra") {
            self.message("<").map(|(unit, from)| Action::RecvActivation { unit, from })
        } else if self.take("sa") {
            self.message(">").map(|(unit, to)| Action::SendActivation { unit, to })
        } else if self.take("rg") {
            self.message("<").map(|(unit, from)| Action::RecvGradient { unit, from })
        } else if self.take("sg") {
            self.message(">").map(|(unit, to)| Action::SendGradient { unit, to })
        } else if self.take("xf") {
            self.exchange(Pass::Forward)
        } else if self.take("xb") {
            self.exchange(Pass::Backward)
        } else if self.take("hf") {
            Ok(Action::Help(Pass::Forward))
        } else if self.take("hb") {
            Ok(Action::Help(Pass::Backward))
        } else if self.take("ve") {
            self.unit().map(Action::VocabEmbed)
        } else if self.take("vh") {
            self.unit().map(Action::VocabHead)
        } else if self.take("vb") {
            self.unit().map(Action::VocabEmbedBackward)
        } else if self.take("reduce:v") {
            Ok(Action::ReduceGradients(Weights::Vocabulary))
        } else if self.take("reduce:") {
            self.number().map(|chunk| Action::ReduceGradients(Weights::Chunk(chunk)))
        } else if self.take("tied@") {
            self.number().map(|peer| Action::ReduceTied { peer })
        } else if self.take("step") {
            Ok(Action::OptimizerStep)
        } else {
            Err(self.error("an action such as `F0.3:1`, `ra0.3:1<2`, `tied@3` or `step`"))
        }
    }
}
