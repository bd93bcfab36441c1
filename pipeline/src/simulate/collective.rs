//! Collectives over the vocabulary, in which all ranks take part.
//!
//! To look up an embedding, the rank of the first stage waits for everyone's part and nobody waits
//! for it; in the embedding's backward everyone waits for that rank's gradient; in the output layer
//! and the loss all wait for all. A collective begins once those it waits for are there.

use std::collections::VecDeque;

use super::Costs;
use super::engine::World;
use super::mail::Wait;
use crate::schedule::Action;

/// The rank of the first stage, in every placement.
const FIRST: u32 = 0;

/// Collectives under way, by kind, oldest first.
#[derive(Default)]
pub(super) struct Meetings {
    kinds: [Kind; 3],
}

/// Those of one kind.
#[derive(Default)]
struct Kind {
    meetings: VecDeque<Meeting>,
    /// How many are over.
    over: usize,
    /// How many each rank has gone through.
    gone: Vec<usize>,
}

/// One collective.
#[derive(Default)]
struct Meeting {
    arrived: usize,
    gone: usize,
    /// When the last rank arrived, so far.
    latest: f64,
    /// When the first stage's rank did.
    first: Option<f64>,
    waiting: Vec<u32>,
}

/// Whom a rank waits for.
enum Others {
    None,
    First,
    All,
}

fn kind_of(action: Action) -> usize {
    match action {
        Action::VocabEmbed(_) => 0,
        Action::VocabHead(_) => 1,
        _ => 2,
    }
}

fn others(action: Action, rank: u32) -> Others {
    match (action, rank) {
        (Action::VocabHead(_), _) | (Action::VocabEmbed(_), FIRST) => Others::All,
        (Action::VocabEmbed(_), _) | (_, FIRST) => Others::None,
        _ => Others::First,
    }
}

impl<I: Iterator<Item = Action>, C: Costs, W> World<'_, I, C, W> {
    /// Takes part in a collective; false if others have to come first.
    pub fn meet(&mut self, rank: u32, action: Action) -> bool {
        let ranks = self.ranks.len();
        let link = self.costs.link(rank, rank, action);
        let state = &mut self.ranks[rank as usize];
        let kind = &mut self.meetings.kinds[kind_of(action)];
        kind.gone.resize(ranks, 0);
        let at = kind.gone[rank as usize] - kind.over;
        if at >= kind.meetings.len() {
            kind.meetings.resize_with(at + 1, Meeting::default);
        }
        let meeting = &mut kind.meetings[at];
        if !std::mem::replace(&mut state.announced, true) {
            meeting.arrived += 1;
            meeting.latest = meeting.latest.max(state.clock);
            if rank == FIRST {
                meeting.first = Some(state.clock);
            }
        }
        let begin = match others(action, rank) {
            Others::None => Some(state.clock),
            Others::First => meeting.first,
            Others::All => (meeting.arrived == ranks).then_some(meeting.latest),
        };
        let woken = match meeting.arrived == ranks || rank == FIRST {
            true => std::mem::take(&mut meeting.waiting),
            false => Vec::new(),
        };
        match begin {
            Some(begin) => {
                state.clock = state.clock.max(begin) + link.occupied + link.latency;
                meeting.gone += 1;
                kind.gone[rank as usize] += 1;
            }
            None => {
                meeting.waiting.push(rank);
                state.waiting = Some(Wait::Meeting);
            }
        }
        while kind.meetings.front().is_some_and(|meeting| meeting.gone == ranks) {
            kind.meetings.pop_front();
            kind.over += 1;
        }
        woken.into_iter().for_each(|rank| self.wake(rank, Wait::Meeting));
        begin.is_some()
    }
}
