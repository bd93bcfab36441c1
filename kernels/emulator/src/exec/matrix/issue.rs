//! A warp issues a product.

use super::descriptor::{DEPTH, Descriptor};
use super::fragment::{self, ROWS};
use super::queue::{HEIGHT, Pending, ProductQueue, WARPS};
use super::track::Open;
use crate::exec::block::Block;
use crate::exec::commons::Commons;
use crate::exec::execute::Next;
use crate::exec::policy::Policy;
use crate::exec::step::Machine;
use crate::exec::warp::{Wait, Warp};
use crate::fault::{FaultKind, Trouble};
use crate::isa::{Op, Operands, Product};
use crate::registers::{ALL, LANES, Slot};

/// Executes `wgmma.mma_async` for a warp.
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

    let mut pending = Pending {
        pc,
        product: *product,
        a,
        rows: Vec::new(),
        b,
        add,
        accumulators: 0,
        issued: 0,
        retired: 0,
        done: false,
        id: commons.flights.number(),
    };
    let block = &mut commons.blocks[warp.block];
    let number = warp.products.issued;
    let queue = block.queue(group);
    let index = queue.index(number);
    let open = chain(machine, warp, product, accumulators);
    if index == queue.list.len() {
        // The first warp to come.
        let place = match open {
            Some(open) => warp.products.open[open].accumulators,
            None => queue.free_accumulators(),
        };
        queue.accumulators[place].values.resize(HEIGHT * usize::from(product.n), 0.0);
        pending.accumulators = place;
        pending.rows = vec![[0.0; DEPTH]; HEIGHT];
        queue.list.push_back(pending);
    } else if !queue.list[index].same(&pending) {
        let line = machine.line(queue.list[index].pc);
        let what = format!(
            "the warps of a warpgroup issue different products: another one issued line {line}, \
             or other descriptors"
        );
        return Err(Trouble::new(FaultKind::Divergence, what));
    }
    let pending = &mut queue.list[index];
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

/// Products that write the same registers form a chain: its place among the warp's open ones.
fn chain(
    machine: &Machine<'_>,
    warp: &Warp,
    product: &Product,
    accumulators: &[Slot],
) -> Option<usize> {
    warp.products.open.iter().position(|open| {
        let instr = &machine.program.code[open.pc as usize];
        let Op::Product(earlier) = &instr.op else { return false };
        earlier.n == product.n && instr.operands.more[..earlier.accumulators()] == *accumulators
    })
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
    let track = &warp.products;
    // Accumulators that are only written need no order with what they held.
    let added = accumulators.iter().filter(|slot| add && !track.written(slot));
    let late = a_registers.iter().chain(added).find(|slot| track.unfenced(slot));
    match late {
        None => Ok(()),
        Some(slot) => {
            let name = machine.program.matrix_registers.get(slot).cloned().unwrap_or_default();
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
    if slots.iter().any(|slot| warp.products.written(slot)) {
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
