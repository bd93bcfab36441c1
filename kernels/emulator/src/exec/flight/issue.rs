//! Bulk copies are issued: operands are read and checked.

use super::boxes::{Global, decode};
use super::claim::begin;
use super::{Cargo, Flight, Origin, Spot, depart};
use crate::exec::access::{lanes, read, shared_place};
use crate::exec::commons::Commons;
use crate::exec::step::{Machine, Raised};
use crate::exec::warp::Warp;
use crate::fault::{FaultKind, Trouble};
use crate::isa::{Bulk, Direction, Operands, Space, Type, reducible};
use crate::registers::{Class, LANES, Registers, Slot};
use crate::tensor_map::{AXES, Element};

/// Executes a bulk copy of the active lanes: each one issues its own.
pub(in crate::exec) fn bulk(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &mut Warp,
    copy: &Bulk,
    operands: &Operands,
    active: u32,
    pc: u32,
) -> Result<(), Raised> {
    for lane in lanes(active) {
        let origin = Origin { block: warp.block, warp: warp.number, lane: lane as u32, pc };
        let cargo = load_operands(machine, commons, warp, copy, operands, lane)
            .map_err(|trouble| Raised::at(origin, trouble))?;
        let id = commons.flights.number();
        begin(machine, commons, &cargo, origin, id).map_err(|t| Raised::at(origin, t))?;
        if copy.direction == Direction::Store {
            warp.bulk_groups(lane).add(id);
        }
        depart(machine, commons, Flight { id, origin, cargo })?;
    }
    Ok(())
}

/// The value of one lane, sign-extended to 64 bits only by whoever asks.
pub(super) fn lane_value(registers: &Registers, slot: Slot, lane: usize) -> u64 {
    match slot.class() {
        Class::Double => registers.doubles(slot)[lane],
        _ => u64::from(registers.words(slot)[lane]),
    }
}

fn load_operands(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &Warp,
    copy: &Bulk,
    operands: &Operands,
    lane: usize,
) -> Result<Cargo, Box<Trouble>> {
    let value = |slot: Slot| lane_value(&warp.registers, slot, lane);
    let shared = |commons: &Commons, slot: Slot| -> Result<Spot, Box<Trouble>> {
        let (block, offset) = shared_place(&commons.blocks, warp, value(slot))?;
        Ok(Spot { block, offset })
    };
    let place = shared(commons, operands.src[0])?;
    let bytes = if copy.tensor { 0 } else { value(operands.src[3]) as usize };
    if !copy.tensor && !bytes.is_multiple_of(16) {
        let what = format!("a bulk copy of {bytes} bytes: it must be a multiple of 16");
        return Err(Trouble::new(FaultKind::Misaligned, what));
    }
    let need = |name: &str, at: u64, align: u64| match at.is_multiple_of(align) {
        true => Ok(()),
        false => {
            let what = format!("the {name} address {at:#x} is no multiple of {align}");
            Err(Trouble::new(FaultKind::Misaligned, what))
        }
    };
    let barrier = match operands.src[2].is_some() {
        true => Some(shared(commons, operands.src[2])?),
        false => None,
    };
    if let Some(spot) = barrier {
        let reader = warp.number * LANES as u32 + lane as u32;
        seen(commons, spot, warp.block, reader)?;
    }
    if copy.direction == Direction::Remote {
        let from = shared(commons, operands.src[1])?;
        need("source", from.offset.into(), 16)?;
        need("target", place.offset.into(), 16)?;
        let how = copy.reduction.zip(copy.element);
        let barrier = barrier.unwrap_or(place);
        return Ok(Cargo::Remote { from, to: place, bytes: bytes as u32, how, barrier });
    }
    let global = match copy.tensor {
        true => tensor_box(machine, commons, warp, operands, lane)?,
        false => {
            let address = value(operands.src[1]);
            need("global", address, 16)?;
            Global::Bytes { address, bytes }
        }
    };
    // Swizzled rows may begin at any multiple of 128: the pattern follows the address.
    need("shared", place.offset.into(), if copy.tensor { 128 } else { 16 })?;
    if copy.direction == Direction::Store {
        let how = match (copy.reduction, &global) {
            (None, _) => None,
            (Some(how), Global::Bytes { .. }) => copy.element.map(|ty| (how, ty)),
            (Some(how), Global::Box { map, .. }) => Some((how, element_type(map.element))),
        };
        if let Some((how, ty)) = how
            && !reducible(how, ty)
        {
            let what = format!("elements of type {ty:?} cannot be combined by {how:?}");
            return Err(Trouble::new(FaultKind::Descriptor, what));
        }
        return Ok(Cargo::Store { target: global, from: place, how, read: None });
    }
    let Some(spot) = barrier else {
        return Err(Trouble::new(FaultKind::Operand, "a load without an mbarrier"));
    };
    let blocks = match operands.src[4].is_some() {
        false if spot.block != place.block => {
            let what = "the mbarrier is in another block than the target";
            return Err(Trouble::new(FaultKind::Operand, what));
        }
        false => vec![place.block],
        true => {
            let mask = value(operands.src[4]) as u32 & 0xFFFF;
            if mask == 0 || mask >> commons.blocks.len() != 0 {
                let what = format!("the mask {mask:#x} names blocks the cluster does not have");
                return Err(Trouble::new(FaultKind::Operand, what));
            }
            lanes(mask).collect()
        }
    };
    Ok(Cargo::Load { source: global, offset: place.offset, blocks, barrier: spot.offset })
}

/// Refuses an mbarrier that the async proxy does not see.
fn seen(commons: &mut Commons, spot: Spot, issuer: usize, reader: u32) -> Result<(), Box<Trouble>> {
    let block = commons.block(spot.block)?;
    let maker = block.mbarriers.get(spot.offset)?.maker;
    let reader = if issuer == spot.block { reader } else { u32::MAX };
    match block.watch.sees_mbarrier(maker, reader) {
        true => Ok(()),
        false => {
            let what = format!(
                "the mbarrier at {:#x} was initialised by thread {}, which has not made it \
                 visible: fence.mbarrier_init or fence.proxy.async is missing",
                spot.offset, maker.0
            );
            Err(Trouble::new(FaultKind::MissingFence, what))
        }
    }
}

fn tensor_box(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &Warp,
    operands: &Operands,
    lane: usize,
) -> Result<Global, Box<Trouble>> {
    let address = lane_value(&warp.registers, operands.src[1], lane);
    if !address.is_multiple_of(64) {
        let what = format!("the tensor map's address {address:#x} is no multiple of 64");
        return Err(Trouble::new(FaultKind::Misaligned, what));
    }
    let mut bytes = [0; 128];
    read(machine, &commons.blocks, warp, Space::Generic, lane, address, &mut bytes)?;
    let map = decode(&bytes)?;
    if map.rank() != operands.more.len() {
        let what = format!(
            "the tensor map has {} axes, the instruction {}",
            map.rank(),
            operands.more.len()
        );
        return Err(Trouble::new(FaultKind::Descriptor, what));
    }
    let mut at = [0; AXES];
    for (place, &slot) in at.iter_mut().zip(&operands.more) {
        *place = i64::from(lane_value(&warp.registers, slot, lane) as i32);
    }
    Ok(Global::Box { map, at })
}

fn element_type(element: Element) -> Type {
    match element {
        Element::U8 => Type::U8,
        Element::U16 => Type::U16,
        Element::U32 => Type::U32,
        Element::S32 => Type::S32,
        Element::U64 => Type::U64,
        Element::S64 => Type::S64,
        Element::F16 => Type::F16,
        Element::F32 => Type::F32,
        Element::F64 => Type::F64,
        Element::Bf16 => Type::Bf16,
    }
}

/// Issues work whose operands are known; gives its number.
pub(in crate::exec) fn send(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    origin: Origin,
    cargo: Cargo,
) -> Result<u64, Raised> {
    let id = commons.flights.number();
    begin(machine, commons, &cargo, origin, id).map_err(|t| Raised::at(origin, t))?;
    depart(machine, commons, Flight { id, origin, cargo })?;
    Ok(id)
}
