//! Which registers of a warp the products of its warpgroup use, and in which order.

use std::collections::VecDeque;

use crate::exec::step::Machine;
use crate::exec::warp::Warp;
use crate::fault::{FaultKind, Trouble};
use crate::isa::{Instr, Operands};
use crate::registers::{Class, Slot};

/// Accumulators that products of a warp write.
#[derive(Debug)]
pub(super) struct Open {
    /// An instruction that names them.
    pub pc: u32,
    /// Their place among the warpgroup's accumulators.
    pub accumulators: usize,
    /// The last product that writes them.
    pub last: u64,
}

/// A warp's view of its warpgroup's products, which are numbered from zero.
#[derive(Debug, Default)]
pub(in crate::exec) struct Track {
    pub(super) issued: u64,
    pub(super) retired: u64,
    /// Products issued when each group was committed.
    pub(super) groups: VecDeque<u64>,
    pub(super) open: Vec<Open>,
    /// How products use each register.
    uses: Vec<Use>,
    /// Fences so far.
    fences: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Use {
    /// Products write it.
    written: bool,
    /// Products that read it.
    reads: u8,
    /// Fences before the last instruction that wrote it.
    fences: u32,
}

impl Track {
    pub(in crate::exec) fn start(&mut self, words: usize) {
        *self = Self { uses: std::mem::take(&mut self.uses), ..Self::default() };
        self.uses.clear();
        self.uses.resize(words, Use::default());
    }

    /// Whether products are under way.
    pub(in crate::exec) fn busy(&self) -> bool {
        self.issued != self.retired
    }

    pub(super) fn claim(&mut self, slots: &[Slot]) {
        slots.iter().for_each(|s| self.uses[s.index()].written = true);
    }

    pub(super) fn release(&mut self, slots: &[Slot]) {
        slots.iter().for_each(|s| self.uses[s.index()].written = false);
    }

    pub(super) fn begin_read(&mut self, slots: &[Slot]) {
        slots.iter().for_each(|s| self.uses[s.index()].reads += 1);
    }

    pub(super) fn end_read(&mut self, slots: &[Slot]) {
        slots.iter().for_each(|s| self.uses[s.index()].reads -= 1);
    }

    /// Whether products under way write the register.
    pub(super) fn written(&self, slot: &Slot) -> bool {
        self.uses[slot.index()].written
    }

    /// Whether the register was written since the last fence.
    pub(super) fn unfenced(&self, slot: &Slot) -> bool {
        self.uses[slot.index()].fences == self.fences
    }
}

/// Executes `wgmma.fence`.
pub(in crate::exec) fn fence(warp: &mut Warp) {
    warp.products.fences += 1;
}

/// Checks an instruction that names registers of products, and notes what it writes.
pub(in crate::exec) fn touch(
    machine: &Machine<'_>,
    warp: &mut Warp,
    instr: &Instr,
) -> Result<(), Box<Trouble>> {
    let track = &mut warp.products;
    let Operands { dst, src, more } = &instr.operands;
    let word = |s: &&Slot| s.is_some() && s.class() == Class::Word && !s.is_constant();
    let name = |s: &Slot| machine.program.matrix_registers.get(s).cloned().unwrap_or_default();
    for slot in src.iter().chain(more).filter(word) {
        if track.uses[slot.index()].written {
            let what = format!(
                "{} is read while a matrix product still writes it: wgmma.wait_group is missing",
                name(slot)
            );
            return Err(Trouble::new(FaultKind::Register, what));
        }
    }
    for slot in dst.iter().filter(word) {
        let now = track.fences;
        let usage = &mut track.uses[slot.index()];
        if usage.written || usage.reads > 0 {
            let what = format!(
                "{} is written while a matrix product still uses it: wgmma.wait_group is missing",
                name(slot)
            );
            return Err(Trouble::new(FaultKind::Register, what));
        }
        usage.fences = now;
    }
    Ok(())
}
