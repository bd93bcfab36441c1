//! What a rank's exchange must keep to, whatever the other ranks do.

use super::super::exchange::Roles;
use super::super::{Action, Exchange, Part, Pass, Schedule, Unit};
use super::rules::{Verdict, must};

/// The exchange that is announced, and will go along with the rank's next unit.
pub(super) struct Announced<'a> {
    schedule: &'a Schedule,
    rank: u32,
    pass: Option<Pass>,
    unit: Option<Unit>,
    roles: Roles,
    /// Units that the rank has begun, by pass.
    begun: [u64; 2],
}

impl<'a> Announced<'a> {
    pub(super) fn new(schedule: &'a Schedule, rank: u32) -> Self {
        let (pass, unit, roles) = (None, None, Roles::default());
        Self { schedule, rank, pass, unit, roles, begun: [0; 2] }
    }

    /// Takes note of another part that goes to `helper`.
    pub(super) fn ship(&mut self, unit: Unit, part: Part, helper: u32, pass: Pass) -> Verdict {
        self.expect_part(unit, part, helper, pass)?;
        must(*self.unit.get_or_insert(unit) == unit, || {
            "another unit's part is shipped along with the same unit".to_owned()
        })?;
        let shipped = self.roles.ships.iter().find(|(other, _)| other.overlaps(part));
        must(shipped.is_none(), || "some of it is shipped already".to_owned())?;
        self.roles.ships.push((part, helper));
        Ok(())
    }

    /// Takes note of another part that is attended to for `owner`.
    pub(super) fn attend(&mut self, unit: Unit, part: Part, owner: u32, pass: Pass) -> Verdict {
        self.expect_part(unit, part, owner, pass)?;
        self.roles.attends.push((unit, part, owner));
        Ok(())
    }

    fn expect_part(&mut self, unit: Unit, part: Part, peer: u32, pass: Pass) -> Verdict {
        must(self.schedule.exchange() != Exchange::Off, || {
            "the schedule exchanges no attention".to_owned()
        })?;
        must(peer != self.rank && peer < self.schedule.ranks(), || {
            format!("there is no other rank {peer}")
        })?;
        let prefix = 2 * u64::from(unit.slice);
        must(!part.is_empty() && u64::from(part.end) <= prefix, || {
            format!("the unit's prefix is half chunks 0-{prefix}")
        })?;
        must(*self.pass.get_or_insert(pass) == pass, || {
            "forward and backward are exchanged at once".to_owned()
        })
    }

    /// Judges whether `action` may come now. What was announced goes along with it if it is a unit's
    /// pass or a help; it is returned.
    pub(super) fn check(&mut self, action: Action) -> Result<Roles, String> {
        let (pass, unit) = match action {
            Action::Forward(unit) => (Pass::Forward, Some(unit)),
            Action::Backward(unit) => (Pass::Backward, Some(unit)),
            Action::Help(pass) => (pass, None),
            Action::Ship { .. } | Action::Attend { .. } => return Ok(Roles::default()),
            _ => {
                must(self.roles.is_empty(), || {
                    "what is exchanged comes right before its unit's forward or backward".to_owned()
                })?;
                return Ok(Roles::default());
            }
        };
        must(self.pass.is_none_or(|announced| announced == pass), || {
            "what is exchanged before it is for the other pass".to_owned()
        })?;
        must(self.unit.is_none_or(|announced| Some(announced) == unit), || {
            "what is shipped before it is another unit's".to_owned()
        })?;
        must(unit.is_some() || !self.roles.is_empty(), || "there is nobody to help".to_owned())?;
        if self.schedule.exchange() == Exchange::Paper && !self.roles.is_empty() {
            self.expect_full_step(pass, unit.is_some())?;
        }
        self.begun[pass as usize] += u64::from(unit.is_some());
        (self.pass, self.unit) = (None, None);
        Ok(std::mem::take(&mut self.roles))
    }

    /// The paper's ranks exchange all together or not at all: while every one of them has a unit.
    fn expect_full_step(&self, pass: Pass, has_unit: bool) -> Verdict {
        let is_full = self.schedule.lock_step().is_none_or(|clock| {
            clock.is_full(clock.step_of(pass, self.rank, self.begun[pass as usize]))
        });
        must(has_unit && is_full, || {
            "attention is exchanged while some rank has no unit to run".to_owned()
        })
    }
}
