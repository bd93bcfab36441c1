//! Products of a warpgroup: issued by its four warps, done together, waited for by each.

use std::collections::VecDeque;

use half::f16;

use super::descriptor::{DEPTH, Descriptor};
use super::fragment::{self, ROWS};
use super::multiply::multiply;
use super::track::Open;
use crate::exec::block::Block;
use crate::exec::commons::Commons;
use crate::exec::execute::Next;
use crate::exec::policy::Policy;
use crate::exec::shared::Shared;
use crate::exec::step::Machine;
use crate::exec::warp::{Wait, Warp};
use crate::fault::{FaultKind, Trouble};
use crate::isa::{Op, Operands, Product};
use crate::registers::{ALL, LANES, Slot};

/// Warps of a warpgroup.
const WARPS: usize = 4;
/// Rows of a product.
const HEIGHT: usize = WARPS * ROWS;

/// A product that at least one warp has issued and not all have waited for.
#[derive(Debug)]
struct Pending {
    pc: u32,
    product: Product,
    a: Option<Descriptor>,
    /// A from registers, as far as warps have brought it.
    rows: Vec<[f32; DEPTH]>,
    b: Descriptor,
    add: bool,
    accumulators: usize,
    /// Warps that have issued it, and that have waited for it, a bit each.
    issued: u8,
    retired: u8,
    done: bool,
    /// Its number among what uses shared memory.
    id: u64,
}

/// Accumulators of a warpgroup: 64 rows.
#[derive(Debug, Default)]
struct Accumulators {
    values: Vec<f32>,
    /// Warps whose registers they stand for.
    owners: u8,
}

/// Products of one warpgroup, oldest first.
#[derive(Debug, Default)]
pub(in crate::exec) struct ProductQueue {
    /// Number of the first.
    first: u64,
    list: VecDeque<Pending>,
    accumulators: Vec<Accumulators>,
    /// Room for a factor B.
    columns: Vec<f32>,
}

const EVERYBODY: u8 = (1 << WARPS) - 1;

impl ProductQueue {
    fn index(&self, number: u64) -> usize {
        (number - self.first) as usize
    }

    fn free_accumulators(&mut self) -> usize {
        match self.accumulators.iter().position(|a| a.owners == 0) {
            Some(free) => free,
            None => {
                self.accumulators.push(Accumulators::default());
                self.accumulators.len() - 1
            }
        }
    }

    /// Whether all warps have issued every product before `end`.
    fn complete(&self, end: u64) -> bool {
        end <= self.first
            || self.list.get(self.index(end) - 1).is_some_and(|last| last.issued == EVERYBODY)
    }

    /// Does the products before `end` that all warps have issued.
    fn run(&mut self, shared: &Shared, end: u64, report: &mut u64) -> Result<(), Box<Trouble>> {
        for number in self.first..end {
            let index = self.index(number);
            let Some(pending) = self.list.get_mut(index) else { break };
            if pending.issued != EVERYBODY {
                break;
            }
            if !pending.done {
                let values = &mut self.accumulators[pending.accumulators].values;
                compute(pending, shared, values, &mut self.columns)?;
                pending.done = true;
                *report += 1;
            }
        }
        Ok(())
    }
}

fn compute(
    pending: &mut Pending,
    shared: &Shared,
    values: &mut [f32],
    b: &mut Vec<f32>,
) -> Result<(), Box<Trouble>> {
    let product = &pending.product;
    let n = usize::from(product.n);
    if let Some(a) = &pending.a {
        a.read_rows(shared, product.factor, &mut pending.rows, 0)?;
    }
    b.resize(DEPTH * n, 0.0);
    pending.b.read_columns(shared, product.factor, b, n)?;
    if product.negate_a != product.negate_b {
        b.iter_mut().for_each(|x| *x = -*x);
    }
    if !pending.add {
        values.fill(0.0);
    }
    multiply(&pending.rows, b, values, n);
    if product.half_result {
        values.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32());
    }
    Ok(())
}

/// A warp issues a product.
pub(in crate::exec) fn issue(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &mut Warp,
    product: &Product,
    operands: &Operands,
    active: u32,
    pc: u32,
) -> Result<Next, Box<Trouble>> {
    if active != warp.live {
        return Ok(Next::Wait(Wait::Lanes(warp.live)));
    }
    let group = warp.number as usize / WARPS;
    if active != ALL || (group + 1) * WARPS > machine.dimensions.warps() as usize {
        let what = "a warpgroup's product needs all 128 threads of it";
        return Err(Trouble::new(FaultKind::Divergence, what));
    }
    let (accumulators, a_registers) = operands.more.split_at(product.accumulators());
    let a = match operands.src[2].is_some() {
        true => Some(Descriptor::decode(same(warp, operands.src[2])?, product.transpose_a)?),
        false => None,
    };
    let b = Descriptor::decode(same(warp, operands.src[0])?, product.transpose_b)?;
    let add = match warp.registers.predicate(operands.src[1]) {
        0 => false,
        ALL => true,
        _ => {
            let what = "threads disagree on whether to add to the accumulators";
            return Err(Trouble::new(FaultKind::Divergence, what));
        }
    };
    ordered(machine, warp, accumulators, a_registers, add)?;

    let id = commons.flights.number();
    let block = &mut commons.blocks[warp.block];
    let number = warp.products.issued;
    let queue = block.queue(group);
    let index = queue.index(number);
    let open = warp.products.open.iter().position(|o| {
        let Op::Product(earlier) = &machine.program.code[o.pc as usize].op else { return false };
        let slots = &machine.program.code[o.pc as usize].operands.more;
        slots[..earlier.accumulators()] == *accumulators && earlier.n == product.n
    });
    if index == queue.list.len() {
        // The first warp to come. Products that write the same registers form a chain.
        let place = match open {
            Some(open) => warp.products.open[open].accumulators,
            None => queue.free_accumulators(),
        };
        queue.accumulators[place].values.resize(HEIGHT * usize::from(product.n), 0.0);
        let rows = vec![[0.0; DEPTH]; HEIGHT];
        queue.list.push_back(Pending {
            pc,
            product: *product,
            a,
            rows,
            b,
            add,
            accumulators: place,
            issued: 0,
            retired: 0,
            done: false,
            id,
        });
    }
    let pending = &mut queue.list[index];
    if (pending.pc, pending.a, pending.b, pending.add) != (pc, a, b, add) {
        let line = machine.line(pending.pc);
        let what = format!(
            "the warps of a warpgroup issue different products: another one issued line {line}, \
             or other descriptors"
        );
        return Err(Trouble::new(FaultKind::Divergence, what));
    }
    let quarter = warp.number as usize % WARPS;
    let first = pending.issued == 0;
    pending.issued |= 1 << quarter;
    let id = pending.id;
    if a.is_none() {
        let rows = &mut pending.rows[quarter * ROWS..(quarter + 1) * ROWS];
        fragment::gather_factor(&warp.registers, a_registers, product.factor, rows);
        warp.products.begin_read(a_registers);
    }
    let place = pending.accumulators;
    own(queue, warp, product, accumulators, (open, place), number, pc)?;
    warp.products.issued += 1;

    // Each warp reads its own rows of A; all read B.
    let reader = warp.number * LANES as u32;
    if let Some(a) = a {
        let ranges = a.ranges(quarter * ROWS, (quarter + 1) * ROWS);
        claim(machine, block, &ranges, reader, id, pc)?;
    }
    if first {
        claim(machine, block, &b.ranges(0, usize::from(product.n)), reader, id, pc)?;
    }
    if machine.policy == Policy::Eager {
        let (queue, shared) = block.queue_and_shared(group);
        queue.run(shared, number + 1, &mut machine.report.products)?;
    }
    machine.progress += 1;
    Ok(Next::Step)
}

/// The value that all lanes have.
fn same(warp: &Warp, slot: Slot) -> Result<u64, Box<Trouble>> {
    let values = warp.registers.doubles(slot);
    match values.iter().position(|v| *v != values[0]) {
        None => Ok(values[0]),
        Some(lane) => {
            let what =
                format!("lanes have different descriptors: {:#x}, {:#x}", values[0], values[lane]);
            Err(Trouble::new(FaultKind::Descriptor, what).at_lane(lane))
        }
    }
}

/// Refuses registers that were written since the last fence.
fn ordered(
    machine: &Machine<'_>,
    warp: &Warp,
    accumulators: &[Slot],
    a_registers: &[Slot],
    add: bool,
) -> Result<(), Box<Trouble>> {
    let mut late = warp.products.unfenced(a_registers);
    // Accumulators that are only written need no order with what they held.
    if add {
        late = late.or_else(|| {
            let free: Vec<Slot> = accumulators
                .iter()
                .copied()
                .filter(|s| warp.products.written(&[*s]).is_none())
                .collect();
            warp.products.unfenced(&free)
        });
    }
    match late {
        None => Ok(()),
        Some(slot) => {
            let name = machine.program.matrix_registers.get(&slot).cloned().unwrap_or_default();
            let what = format!("{name} was written since the last wgmma.fence");
            Err(Trouble::new(FaultKind::MissingFence, what))
        }
    }
}

/// The accumulators leave the warp's registers, unless they left with an earlier product.
fn own(
    queue: &mut ProductQueue,
    warp: &mut Warp,
    product: &Product,
    slots: &[Slot],
    (open, place): (Option<usize>, usize),
    number: u64,
    pc: u32,
) -> Result<(), Box<Trouble>> {
    let quarter = warp.number as usize % WARPS;
    let part = ROWS * usize::from(product.n);
    let range = quarter * part..(quarter + 1) * part;
    if let Some(open) = open {
        let old = std::mem::replace(&mut warp.products.open[open].accumulators, place);
        warp.products.open[open].last = number;
        if old != place {
            // Another warp has waited in between, this one has not.
            let rows = queue.accumulators[old].values[range.clone()].to_vec();
            queue.accumulators[old].owners &= !(1 << quarter);
            queue.accumulators[place].values[range].copy_from_slice(&rows);
            queue.accumulators[place].owners |= 1 << quarter;
        }
        return Ok(());
    }
    if warp.products.written(slots).is_some() {
        let what = "the accumulators are, in part, those of another product under way";
        return Err(Trouble::new(FaultKind::Register, what));
    }
    let target = &mut queue.accumulators[place];
    target.owners |= 1 << quarter;
    fragment::gather(&warp.registers, slots, product, &mut target.values[range]);
    warp.products.claim(slots);
    warp.products.open.push(Open { pc, accumulators: place, last: number });
    Ok(())
}

/// A product uses shared memory until somebody has waited for it.
fn claim(
    machine: &Machine<'_>,
    block: &mut Block,
    ranges: &[(u32, u32)],
    reader: u32,
    id: u64,
    pc: u32,
) -> Result<(), Box<Trouble>> {
    for &(start, end) in ranges {
        block.shared.read(start, (end - start) as usize)?;
        if let Err(conflict) = block.watch.check(start, end, false) {
            let line = machine.line(conflict.pc);
            return Err(conflict.trouble("a matrix product reads", start, line));
        }
        if let Some(writer) = block.watch.unseen(start, end, reader) {
            let [x, y, z] = machine.dimensions.thread(writer);
            let what = format!(
                "a matrix product reads {start:#x}..{end:#x} of shared memory, where thread \
                 ({x}, {y}, {z}) has written: fence.proxy.async is missing between"
            );
            return Err(Trouble::new(FaultKind::MissingFence, what));
        }
        block.watch.begin(start, end - start, false, id, pc);
    }
    Ok(())
}

/// A warp closes a group.
pub(in crate::exec) fn commit(warp: &mut Warp, active: u32) -> Next {
    if active != warp.live {
        return Next::Wait(Wait::Lanes(warp.live));
    }
    let issued = warp.products.issued;
    warp.products.groups.push_back(issued);
    Next::Step
}

/// A warp waits until at most `pending` groups are under way.
pub(in crate::exec) fn wait(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &mut Warp,
    pending: u32,
    active: u32,
) -> Result<Next, Box<Trouble>> {
    if active != warp.live {
        return Ok(Next::Wait(Wait::Lanes(warp.live)));
    }
    let groups = &mut warp.products.groups;
    let due = groups.len().saturating_sub(pending as usize);
    let Some(&end) = due.checked_sub(1).and_then(|i| groups.get(i)) else {
        return Ok(Next::Step);
    };
    let block = &mut commons.blocks[warp.block];
    if !ready(block, warp.number, end) {
        return Ok(Next::Wait(Wait::Products { end }));
    }
    warp.products.groups.drain(..due);
    retire(machine, block, warp, end)?;
    machine.progress += 1;
    Ok(Next::Step)
}

/// Whether all warps of the warp's group have issued the products before `end`.
pub(in crate::exec) fn ready(block: &Block, warp: u32, end: u64) -> bool {
    block.products.get(warp as usize / WARPS).is_none_or(|queue| queue.complete(end))
}

/// Does the products before `end` and gives the warp its registers back.
pub(in crate::exec) fn retire(
    machine: &mut Machine<'_>,
    block: &mut Block,
    warp: &mut Warp,
    end: u64,
) -> Result<(), Box<Trouble>> {
    let group = warp.number as usize / WARPS;
    let quarter = warp.number as usize % WARPS;
    let (queue, shared) = block.queue_and_shared(group);
    queue.run(shared, end, &mut machine.report.products)?;
    let mut ended = Vec::new();
    for number in warp.products.retired..end {
        let index = queue.index(number);
        let pending = &mut queue.list[index];
        pending.retired |= 1 << quarter;
        ended.push(pending.id);
        if pending.a.is_none() {
            let registers = &machine.program.code[pending.pc as usize].operands.more;
            warp.products.end_read(&registers[pending.product.accumulators()..]);
        }
    }
    warp.products.retired = warp.products.retired.max(end);
    let mut open = std::mem::take(&mut warp.products.open);
    open.retain(|o| {
        if o.last >= end {
            return true;
        }
        let instr = &machine.program.code[o.pc as usize];
        if let Op::Product(product) = &instr.op {
            let slots = &instr.operands.more[..product.accumulators()];
            let part = ROWS * usize::from(product.n);
            let values = &mut queue.accumulators[o.accumulators];
            let rows = &values.values[quarter * part..(quarter + 1) * part];
            fragment::scatter(&mut warp.registers, slots, product, rows);
            values.owners &= !(1 << quarter);
            warp.products.release(slots);
        }
        false
    });
    warp.products.open = open;
    while queue.list.front().is_some_and(|p| p.retired == EVERYBODY) {
        queue.list.pop_front();
        queue.first += 1;
    }
    for id in ended {
        block.watch.end(id);
    }
    Ok(())
}

/// Now and then, in random order, products are done before anybody waits for them.
pub(in crate::exec) fn drift(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
) -> Result<(), Box<Trouble>> {
    let Some(random) = &mut commons.random else { return Ok(()) };
    let blocks = commons.blocks.len();
    let block = &mut commons.blocks[random.below(blocks)];
    if block.products.is_empty() {
        return Ok(());
    }
    let group = random.below(block.products.len());
    let (queue, shared) = block.queue_and_shared(group);
    let end = queue.first + random.below(queue.list.len() + 1) as u64;
    queue.run(shared, end, &mut machine.report.products)
}
