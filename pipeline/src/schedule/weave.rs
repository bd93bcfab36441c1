//! What a rank does besides its own units, at the moments of the clock that all ranks share: attention
//! that is exchanged, and collectives over the vocabulary.

use super::Action;
use super::exchange::{Move, Pass, Table};
use super::lock_step::LockStep;
use super::vocabulary::Collectives;

/// What a program is woven with: walks the shared clock along with the rank's own work.
pub(super) struct Weave<'a> {
    clock: LockStep,
    rank: u32,
    moves: Option<&'a Table>,
    vocabulary: Option<Collectives<'a>>,
    /// Units that the rank has run, by pass.
    done: [u64; 2],
    moment: u64,
}

impl<'a> Weave<'a> {
    pub fn new(
        clock: LockStep,
        rank: u32,
        moves: Option<&'a Table>,
        vocabulary: Option<Collectives<'a>>,
    ) -> Self {
        Self { clock, rank, moves, vocabulary, done: [0; 2], moment: 0 }
    }

    /// Adds the rank's next unit of `pass` to `program`: what the rank does while it has no unit of
    /// its own; then `receive`, what is exchanged along with the unit, its `work`, and `send`; and
    /// collectives where they belong.
    pub fn unit(
        &mut self,
        pass: Pass,
        program: &mut impl Extend<Action>,
        receive: Option<Action>,
        work: Action,
        send: Option<Action>,
    ) {
        let k = self.done[pass as usize];
        self.done[pass as usize] += 1;
        let step = self.clock.step_of(pass, self.rank, k);
        self.idle_until(self.clock.moment(pass, step), program);
        self.moment += 1;
        program.extend(self.vocabulary.and_then(|all| all.before(pass, step)));
        program.extend(receive);
        program.extend(self.exchanged(pass, step));
        program.extend([work]);
        program.extend(send);
        program.extend(self.vocabulary.and_then(|all| all.after(pass, step)));
    }

    /// Adds what the rank does after its last unit.
    pub fn rest(&mut self, program: &mut impl Extend<Action>) {
        self.idle_until(self.clock.end(), program);
    }

    fn idle_until(&mut self, moment: u64, program: &mut impl Extend<Action>) {
        for moment in std::mem::replace(&mut self.moment, moment)..moment {
            let Some((pass, step)) = self.clock.step_at(moment) else { continue };
            if self.clock.unit_at(pass, self.rank, step).is_some() {
                continue;
            }
            program.extend(self.vocabulary.and_then(|all| all.before(pass, step)));
            if !self.moves(pass, step).is_empty() {
                program.extend(self.exchanged(pass, step));
                program.extend([Action::Help(pass)]);
            }
            program.extend(self.vocabulary.and_then(|all| all.after(pass, step)));
        }
    }

    fn moves(&self, pass: Pass, step: u64) -> &'a [Move] {
        self.moves.map_or(&[], |table| table.moves(pass, step, self.rank))
    }

    fn exchanged(&self, pass: Pass, step: u64) -> impl Iterator<Item = Action> {
        let moves = self.moves(pass, step).iter();
        moves.filter_map(move |&Move { owner, helper, part }| {
            let unit = self.moves?.unit(pass, step, owner)?;
            Some(match owner == self.rank {
                true => Action::Ship { unit, part, to: helper, pass },
                false => Action::Attend { unit, part, from: owner, pass },
            })
        })
    }
}
