//! Loads.

use super::Data;
use super::place::{addresses, lanes, local_range, resolve, shared_block};
use super::span::Span;
use crate::exec::block::Block;
use crate::exec::commons::Commons;
use crate::exec::step::Machine;
use crate::exec::warp::Warp;
use crate::fault::{FaultKind, Trouble};
use crate::isa::{Access, Operands, Space, Width};
use crate::memory::window::Place;
use crate::registers::{Class, LANES, Registers, Slot};

/// Executes a load.
pub(in crate::exec) fn load(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &mut Warp,
    access: &Access,
    operands: &Operands,
    mask: u32,
) -> Result<(), Box<Trouble>> {
    match access.width.bytes() * usize::from(access.count) {
        1 => load_bytes::<1>(machine, commons, warp, access, operands, mask),
        2 => load_bytes::<2>(machine, commons, warp, access, operands, mask),
        4 => load_bytes::<4>(machine, commons, warp, access, operands, mask),
        8 => load_bytes::<8>(machine, commons, warp, access, operands, mask),
        _ => load_bytes::<16>(machine, commons, warp, access, operands, mask),
    }
}

fn load_bytes<const N: usize>(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &mut Warp,
    access: &Access,
    operands: &Operands,
    mask: u32,
) -> Result<(), Box<Trouble>> {
    let at = addresses(&warp.registers, operands.src[0], access.offset);
    let span = Span::new(&at, mask, N);
    span.aligned(&at, mask)?;
    let mut data: Data<N> = [[0; N]; LANES];
    match span.readable(machine, commons, warp, access.space) {
        // SAFETY: the pointer is the span's.
        Some(base) => unsafe { span.gather(base, &at, mask, &mut data) },
        // Lane by lane, to find the one to blame, if any.
        None => {
            for lane in lanes(mask) {
                let target = &mut data[lane];
                read(machine, &commons.blocks, warp, access.space, lane, at[lane], target)
                    .map_err(|t| t.at_lane(lane))?;
            }
        }
    }
    for (element, &slot) in operands.dst[..usize::from(access.count)].iter().enumerate() {
        if slot.is_some() {
            put(&mut warp.registers, slot, mask, &data, access, element);
        }
    }
    Ok(())
}

/// Puts one element of the loaded bytes into a register.
#[inline(always)]
fn put<const N: usize>(
    registers: &mut Registers,
    slot: Slot,
    mask: u32,
    data: &Data<N>,
    access: &Access,
    element: usize,
) {
    let at = element * access.width.bytes();
    match (access.width, slot.class()) {
        (Width::B4, Class::Word) if N >= 4 => {
            let mut values = [0; LANES];
            for (v, lane) in values.iter_mut().zip(data) {
                *v = u32::from_le_bytes(std::array::from_fn(|i| lane[(at + i) % N]));
            }
            registers.put_words(slot, mask, &values);
        }
        (Width::B8, Class::Double) if N >= 8 => {
            let mut values = [0; LANES];
            for (v, lane) in values.iter_mut().zip(data) {
                *v = u64::from_le_bytes(std::array::from_fn(|i| lane[(at + i) % N]));
            }
            registers.put_doubles(slot, mask, &values);
        }
        _ => put_extended(registers, slot, mask, data.as_flattened(), access, at),
    }
}

/// Puts elements into registers that are wider than they.
#[inline(never)]
fn put_extended(
    registers: &mut Registers,
    slot: Slot,
    mask: u32,
    data: &[u8],
    access: &Access,
    at: usize,
) {
    let (bytes, width) = (data.len() / LANES, access.width.bytes());
    let mut values = [0u64; LANES];
    for (value, lane) in values.iter_mut().zip(data.chunks_exact(bytes)) {
        let mut whole = [0; 8];
        whole[..width].copy_from_slice(&lane[at..at + width]);
        *value = u64::from_le_bytes(whole);
        if access.signed {
            let unused = 64 - 8 * width;
            *value = ((*value << unused) as i64 >> unused) as u64;
        }
    }
    match slot.class() {
        Class::Double => registers.put_doubles(slot, mask, &values),
        _ => registers.put_words(slot, mask, &values.map(|v| v as u32)),
    }
}

/// Reads bytes of one lane.
pub(in crate::exec) fn read(
    machine: &mut Machine<'_>,
    blocks: &[Block],
    warp: &Warp,
    space: Space,
    lane: usize,
    address: u64,
    target: &mut [u8],
) -> Result<(), Box<Trouble>> {
    let bytes = target.len();
    match resolve(space, address) {
        Place::Global(address) => {
            machine.read_global(address, target)?;
        }
        Place::Shared(address) => {
            let (block, offset) = shared_block(blocks, warp, space, address)?;
            let block = &blocks[block];
            if let Err(conflict) = block.watch.check(offset, offset + bytes as u32, false) {
                let line = machine.line(conflict.pc);
                return Err(conflict.trouble("a load of", offset, line));
            }
            target.copy_from_slice(block.shared.read(offset, bytes)?);
        }
        Place::Local(offset) => {
            target.copy_from_slice(&warp.local[local_range(warp, lane, offset, bytes)?]);
        }
        Place::Param(offset) => {
            let source = usize::try_from(offset)
                .ok()
                .and_then(|start| machine.params.get(start..start.checked_add(bytes)?));
            let source = source.ok_or_else(|| {
                let what = format!("{bytes} bytes at {offset} are outside the parameters");
                Trouble::new(FaultKind::OutOfBounds, what)
            })?;
            target.copy_from_slice(source);
        }
    }
    Ok(())
}
