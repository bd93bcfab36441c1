//! A warp waits for products, and gets its registers back.

use super::fragment::{self, ROWS};
use super::queue::{EVERYBODY, WARPS};
use crate::exec::block::Block;
use crate::exec::commons::Commons;
use crate::exec::execute::Next;
use crate::exec::step::Machine;
use crate::exec::warp::{Wait, Warp};
use crate::fault::Trouble;
use crate::isa::Op;

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
fn retire(
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
