//! Programs as text: one line per rank, one word per action. Reading gives back what was written.
//!
//! `F0.3:1` is the forward of microbatch 0, slice 3, chunk 1, `B` its backward; `ra0.3:1<2` receives
//! its input from rank 2, `sa..>2` sends its output, `rg` and `sg` do so with gradients; `tied@3`
//! adds tied gradients with rank 3; `step` is the optimizer's.

use super::{Action, Schedule, ScheduleError, Unit};

/// All ranks' programs, a line each: `rank 0: F0.0:0 sa0.0:0>1 ...`.
pub fn dump(schedule: &Schedule) -> String {
    let line = |rank| {
        let words: Vec<String> = schedule.program(rank).map(|action| action.to_string()).collect();
        format!("rank {rank}: {}\n", words.join(" "))
    };
    (0..schedule.ranks()).map(line).collect()
}

/// The order of one rank's forwards and backwards: `F0.0 F0.1 B0.1 ...`, with `:chunk` where there
/// are several.
pub fn dump_order(schedule: &Schedule, rank: u32) -> String {
    let word = |action: Action| {
        let text = action.to_string();
        if schedule.chunks() == 1 { text.trim_end_matches(":0").to_owned() } else { text }
    };
    schedule.order(rank).map(word).collect::<Vec<_>>().join(" ")
}

/// The programs of a text as [`dump`] writes it, by rank.
///
/// # Errors
/// [`ScheduleError::Syntax`] with line and column.
pub fn parse(text: &str) -> Result<Vec<Vec<Action>>, ScheduleError> {
    let mut programs = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let at =
            |column: usize, what: String| ScheduleError::Syntax { line: number + 1, column, what };
        if line.trim().is_empty() {
            continue;
        }
        let head = format!("rank {}:", programs.len());
        let body = line.strip_prefix(&head).ok_or_else(|| at(1, format!("expected `{head}`")))?;
        let mut actions = Vec::new();
        for word in body.split_whitespace() {
            let column = word.as_ptr() as usize - line.as_ptr() as usize + 1;
            actions.push(
                action(word).ok_or_else(|| at(column, format!("`{word}` is not an action")))?,
            );
        }
        programs.push(actions);
    }
    Ok(programs)
}

fn action(word: &str) -> Option<Action> {
    if word == "step" {
        return Some(Action::OptimizerStep);
    }
    if let Some(peer) = word.strip_prefix("tied@") {
        return Some(Action::ReduceTied { peer: peer.parse().ok()? });
    }
    let message = |rest: &str, mark: char| -> Option<(Unit, u32)> {
        let (name, peer) = rest.split_once(mark)?;
        Some((unit(name)?, peer.parse().ok()?))
    };
    if let Some(rest) = word.strip_prefix("ra") {
        return message(rest, '<').map(|(unit, from)| Action::RecvActivation { unit, from });
    }
    if let Some(rest) = word.strip_prefix("rg") {
        return message(rest, '<').map(|(unit, from)| Action::RecvGradient { unit, from });
    }
    if let Some(rest) = word.strip_prefix("sa") {
        return message(rest, '>').map(|(unit, to)| Action::SendActivation { unit, to });
    }
    if let Some(rest) = word.strip_prefix("sg") {
        return message(rest, '>').map(|(unit, to)| Action::SendGradient { unit, to });
    }
    if let Some(rest) = word.strip_prefix('F') {
        return unit(rest).map(Action::Forward);
    }
    unit(word.strip_prefix('B')?).map(Action::Backward)
}

fn unit(text: &str) -> Option<Unit> {
    let (microbatch, rest) = text.split_once('.')?;
    let (slice, chunk) = rest.split_once(':')?;
    Some(Unit {
        microbatch: microbatch.parse().ok()?,
        slice: slice.parse().ok()?,
        chunk: chunk.parse().ok()?,
    })
}
