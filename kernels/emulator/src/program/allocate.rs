//! Fewer registers: compilers give every value a name of its own, but few live at a time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use crate::isa::{Instr, Op, Operands, Special};
use crate::registers::{Class, Slot};

/// Puts registers whose values never live at the same time into the same slots. Those of `fixed`
/// keep one of their own. Returns how many slots each class has, and the new places of `fixed`.
///
/// A value that may be read before it is written lives from the first instruction on, so that its
/// slot still holds poison then.
pub(super) fn allocate(
    code: &mut [Instr],
    counts: [usize; 3],
    specials: &mut [(Special, Slot)],
    fixed: &HashSet<Slot>,
) -> ([usize; 3], HashMap<Slot, Slot>) {
    let lives = lives(code, counts, specials, fixed);
    let mut places = HashMap::new();
    let mut sizes = [0; 3];
    for class in [Class::Word, Class::Double, Class::Predicate] {
        sizes[class as usize] = place(class, &lives[class as usize], &mut places);
    }
    let renamed = |slot: &mut Slot| {
        if let Some(place) = places.get(slot) {
            *slot = *place;
        }
    };
    for instr in code.iter_mut() {
        let Operands { dst, src, more } = &mut instr.operands;
        dst.iter_mut().chain(src).chain(more.iter_mut()).for_each(renamed);
        renamed(&mut instr.guard);
    }
    specials.iter_mut().for_each(|(_, slot)| renamed(slot));
    (sizes, fixed.iter().map(|s| (*s, places[s])).collect())
}

/// First and last instruction at which a register's value counts.
type Life = Option<(u32, u32)>;

fn variable(slot: &Slot) -> bool {
    slot.is_some() && !slot.is_constant()
}

fn uses(instr: &Instr) -> impl Iterator<Item = Slot> {
    let Operands { dst, src, more } = &instr.operands;
    // A guarded write keeps the old value in some threads.
    let kept = dst.iter().filter(|_| instr.guard.is_some());
    src.iter().chain(more).chain(kept).chain([&instr.guard]).copied().filter(variable)
}

fn writes(instr: &Instr) -> impl Iterator<Item = Slot> {
    instr.operands.dst.iter().copied().filter(variable)
}

/// Straight pieces of code: their ends, and where they go on.
struct Block {
    start: usize,
    end: usize,
    next: Vec<usize>,
}

fn blocks(code: &[Instr]) -> Vec<Block> {
    let targets = |instr: &Instr| -> Vec<usize> {
        match &instr.op {
            Op::Branch { target } => vec![*target as usize],
            Op::BranchTable { targets } => targets.iter().map(|&t| t as usize).collect(),
            _ => Vec::new(),
        }
    };
    let leaves =
        |op: &Op| matches!(op, Op::Branch { .. } | Op::BranchTable { .. } | Op::Exit | Op::Trap);
    let mut starts: Vec<usize> = vec![0];
    for (pc, instr) in code.iter().enumerate() {
        starts.extend(targets(instr));
        if leaves(&instr.op) {
            starts.push(pc + 1);
        }
    }
    starts.retain(|&s| s < code.len());
    starts.sort_unstable();
    starts.dedup();
    let number: HashMap<usize, usize> = starts.iter().enumerate().map(|(i, &s)| (s, i)).collect();
    starts
        .iter()
        .enumerate()
        .map(|(i, &start)| {
            let end = starts.get(i + 1).copied().unwrap_or(code.len());
            let last = &code[end - 1];
            let mut next: Vec<usize> = targets(last).iter().map(|t| number[t]).collect();
            if !leaves(&last.op) || last.guard.is_some() {
                next.extend(number.get(&end));
            }
            Block { start, end, next }
        })
        .collect()
}

/// A set of registers of all classes.
#[derive(Clone, PartialEq)]
struct Set(Vec<u64>);

impl Set {
    fn new(bits: usize) -> Self {
        Self(vec![0; bits.div_ceil(64)])
    }

    fn insert(&mut self, bit: usize) {
        self.0[bit / 64] |= 1 << (bit % 64);
    }

    fn remove(&mut self, bit: usize) {
        self.0[bit / 64] &= !(1 << (bit % 64));
    }

    /// Adds the other's members; tells whether any is new.
    fn add(&mut self, other: &Self) -> bool {
        let mut new = false;
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            new |= b & !*a != 0;
            *a |= b;
        }
        new
    }

    fn members(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(i, &word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| 64 * i + bit)
        })
    }
}

fn lives(
    code: &[Instr],
    counts: [usize; 3],
    specials: &[(Special, Slot)],
    fixed: &HashSet<Slot>,
) -> [Vec<Life>; 3] {
    let starts = [0, counts[0], counts[0] + counts[1]];
    let bit = |slot: Slot| starts[slot.class() as usize] + slot.index();
    let total = counts.iter().sum();
    let blocks = blocks(code);
    let mut before = vec![Set::new(total); blocks.len()];
    // What lives at each block's beginning, until nothing is added any more.
    let mut changed = true;
    while changed {
        changed = false;
        for (i, block) in blocks.iter().enumerate().rev() {
            let mut live = Set::new(total);
            block.next.iter().for_each(|&n| _ = live.add(&before[n]));
            for instr in code[block.start..block.end].iter().rev() {
                writes(instr).for_each(|slot| live.remove(bit(slot)));
                uses(instr).for_each(|slot| live.insert(bit(slot)));
            }
            changed |= before[i].add(&live);
        }
    }
    let mut lives: Vec<Life> = vec![None; total];
    let mut note = |bit: usize, at: usize| {
        let life = lives[bit].get_or_insert((at as u32, at as u32));
        *life = (life.0.min(at as u32), life.1.max(at as u32));
    };
    for (i, block) in blocks.iter().enumerate() {
        before[i].members().for_each(|bit| note(bit, block.start));
        for &n in &block.next {
            before[n].members().for_each(|bit| note(bit, block.end - 1));
        }
        for (instr, pc) in code[block.start..block.end].iter().zip(block.start..) {
            uses(instr).chain(writes(instr)).for_each(|slot| note(bit(slot), pc));
        }
    }
    let end = code.len() as u32;
    for (_, slot) in specials {
        note(bit(*slot), 0);
    }
    for slot in fixed {
        lives[bit(*slot)] = Some((0, end));
    }
    let mut rest = lives.into_iter();
    counts.map(|count| rest.by_ref().take(count).collect())
}

/// Gives the registers of a class their slots; returns how many there are.
fn place(class: Class, lives: &[Life], places: &mut HashMap<Slot, Slot>) -> usize {
    let mut order: Vec<(u32, u32, usize)> = Vec::new();
    order.extend(lives.iter().enumerate().filter_map(|(i, l)| l.map(|(a, b)| (a, b, i))));
    order.sort_unstable();
    let mut ends: BinaryHeap<Reverse<(u32, usize)>> = BinaryHeap::new();
    let mut free: BinaryHeap<Reverse<usize>> = BinaryHeap::new();
    let mut size = 0;
    for (first, last, register) in order {
        while let Some(Reverse((end, slot))) = ends.peek().copied()
            && end < first
        {
            ends.pop();
            free.push(Reverse(slot));
        }
        let slot = free.pop().map_or(size, |Reverse(slot)| slot);
        size = size.max(slot + 1);
        ends.push(Reverse((last, slot)));
        places.insert(Slot::register(class, register), Slot::register(class, slot));
    }
    size
}
