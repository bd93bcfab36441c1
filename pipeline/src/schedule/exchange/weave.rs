//! Moves as actions in a rank's program.

use super::super::Action;
use super::{Move, Pass, Table};

/// What a program is woven with: walks the shared clock along with the rank's own work.
pub(in super::super) struct Weave<'a> {
    table: &'a Table,
    rank: u32,
    /// Units that the rank has run, by pass.
    done: [u64; 2],
    moment: u64,
}

impl<'a> Weave<'a> {
    pub fn new(table: &'a Table, rank: u32) -> Self {
        Self { table, rank, done: [0; 2], moment: 0 }
    }

    /// What comes before the rank's next unit of `pass`: first what it does for others while it has
    /// no unit of its own, given to `idle`; then, given to `with`, what goes along with the unit.
    pub fn before(
        &mut self,
        pass: Pass,
        idle: &mut impl Extend<Action>,
        with: &mut impl Extend<Action>,
    ) {
        let k = self.done[pass as usize];
        self.done[pass as usize] += 1;
        let step = self.table.clock.step_of(pass, self.rank, k);
        self.idle_until(self.table.clock.moment(pass, step), idle);
        self.moment += 1;
        with.extend(self.actions(pass, step));
    }

    /// What the rank does for others after its last unit.
    pub fn rest(&mut self, idle: &mut impl Extend<Action>) {
        self.idle_until(self.table.clock.end(), idle);
    }

    fn idle_until(&mut self, moment: u64, into: &mut impl Extend<Action>) {
        let clock = &self.table.clock;
        for moment in std::mem::replace(&mut self.moment, moment)..moment {
            let Some((pass, step)) = clock.step_at(moment) else { continue };
            if clock.unit_at(pass, self.rank, step).is_none()
                && !self.table.moves(pass, step, self.rank).is_empty()
            {
                into.extend(self.actions(pass, step));
                into.extend([Action::Help(pass)]);
            }
        }
    }

    fn actions(&self, pass: Pass, step: u64) -> impl Iterator<Item = Action> {
        let moves = self.table.moves(pass, step, self.rank).iter();
        moves.filter_map(move |&Move { owner, helper, part }| {
            let unit = self.table.unit(pass, step, owner)?;
            Some(match owner == self.rank {
                true => Action::Ship { unit, part, to: helper, pass },
                false => Action::Attend { unit, part, from: owner, pass },
            })
        })
    }
}
