//! Stores.

use super::Data;
use super::place::{addresses, lanes, local_range, resolve, shared_block};
use super::span::{Span, note_global};
use crate::exec::commons::Commons;
use crate::exec::step::Machine;
use crate::exec::warp::Warp;
use crate::fault::{FaultKind, Trouble};
use crate::isa::{Access, Operands, Space};
use crate::memory::window::Place;
use crate::registers::{Class, LANES, Registers, Slot};

/// Executes a store.
pub(in crate::exec) fn store(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &mut Warp,
    access: &Access,
    operands: &Operands,
    mask: u32,
) -> Result<(), Box<Trouble>> {
    machine.progress += 1;
    match access.width.bytes() * usize::from(access.count) {
        1 => store_bytes::<1>(machine, commons, warp, access, operands, mask),
        2 => store_bytes::<2>(machine, commons, warp, access, operands, mask),
        4 => store_bytes::<4>(machine, commons, warp, access, operands, mask),
        8 => store_bytes::<8>(machine, commons, warp, access, operands, mask),
        _ => store_bytes::<16>(machine, commons, warp, access, operands, mask),
    }
}

fn store_bytes<const N: usize>(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &mut Warp,
    access: &Access,
    operands: &Operands,
    mask: u32,
) -> Result<(), Box<Trouble>> {
    let width = access.width.bytes();
    let at = addresses(&warp.registers, operands.src[0], access.offset);
    let span = Span::new(&at, mask, N);
    span.aligned(&at, mask)?;
    let mut data: Data<N> = [[0; N]; LANES];
    for element in 0..usize::from(access.count) {
        get(&warp.registers, operands.src[1 + element], &mut data, element * width, width);
    }
    if let Some(base) = span.writable(machine, commons, warp, access.space, &at, mask) {
        // SAFETY: the pointer is the span's.
        unsafe { span.scatter(base, &at, mask, &data) };
        return Ok(());
    }
    for lane in lanes(mask) {
        write(machine, commons, warp, access.space, lane, at[lane], &data[lane])
            .map_err(|t| t.at_lane(lane))?;
    }
    Ok(())
}

/// Puts a register's values into the bytes that are stored.
#[inline(always)]
pub(super) fn get<const N: usize>(
    registers: &Registers,
    slot: Slot,
    data: &mut Data<N>,
    at: usize,
    width: usize,
) {
    match (width, slot.class()) {
        (4, Class::Word) if N >= 4 => {
            for (lane, value) in data.iter_mut().zip(registers.words(slot)) {
                let value = value.to_le_bytes();
                (0..4).for_each(|i| lane[(at + i) % N] = value[i]);
            }
        }
        (8, Class::Double) if N >= 8 => {
            for (lane, value) in data.iter_mut().zip(registers.doubles(slot)) {
                let value = value.to_le_bytes();
                (0..8).for_each(|i| lane[(at + i) % N] = value[i]);
            }
        }
        _ => get_low(registers, slot, data.as_flattened_mut(), at, width),
    }
}

/// Puts the low bytes of wider registers into the bytes that are stored.
#[inline(never)]
fn get_low(registers: &Registers, slot: Slot, data: &mut [u8], at: usize, width: usize) {
    let bytes = data.len() / LANES;
    for (lane, target) in data.chunks_exact_mut(bytes).enumerate() {
        let value = match slot.class() {
            Class::Double => registers.doubles(slot)[lane],
            _ => u64::from(registers.words(slot)[lane]),
        };
        target[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }
}

/// Writes bytes of one lane.
pub(in crate::exec) fn write(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &mut Warp,
    space: Space,
    lane: usize,
    address: u64,
    source: &[u8],
) -> Result<(), Box<Trouble>> {
    let bytes = source.len();
    match resolve(space, address) {
        Place::Global(address) => {
            machine.write_global(address, source)?;
            if commons.global.active() {
                note_global(commons, warp, lane, address, bytes);
            }
        }
        Place::Shared(address) => {
            let (rank, offset) = shared_block(&commons.blocks, warp, space, address)?;
            let block = &mut commons.blocks[rank];
            let end = offset.saturating_add(bytes as u32);
            block.shared.write(offset, bytes)?.copy_from_slice(source);
            if let Err(conflict) = block.watch.check(offset, end, true) {
                let line = machine.line(conflict.pc);
                return Err(conflict.trouble("a store to", offset, line));
            }
            if let Some(at) = block.mbarriers.touched(offset, end) {
                let what = format!("a store to {offset:#x} destroys the mbarrier at {at:#x}");
                return Err(Trouble::new(FaultKind::Mbarrier, what));
            }
            // Threads of other blocks have no fences here: their writes count as the own ones'.
            let thread = warp.number * LANES as u32 + lane as u32;
            block.watch.wrote(offset, end, thread, commons.clock);
        }
        Place::Local(offset) => {
            let range = local_range(warp, lane, offset, bytes)?;
            warp.local[range].copy_from_slice(source);
        }
        Place::Param(_) => {
            let what = "parameters cannot be written";
            return Err(Trouble::new(FaultKind::OutOfBounds, what));
        }
    }
    Ok(())
}
