//! Addresses: what they mean, and whether they are aligned.

use crate::exec::block::Block;
use crate::exec::commons::Commons;
use crate::exec::flight::Spot;
use crate::exec::shared::split;
use crate::exec::warp::Warp;
use crate::fault::{FaultKind, Trouble};
use crate::isa::Space;
use crate::memory::window::{Place, place};
use crate::registers::{Class, LANES, Registers, Slot};

/// Lanes of a mask, lowest first.
pub(in crate::exec) fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        let lane = left.trailing_zeros() as usize;
        left &= left.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}

/// The addresses in a register of either width, plus an offset.
#[inline(always)]
pub(in crate::exec) fn addresses(registers: &Registers, slot: Slot, offset: i64) -> [u64; LANES] {
    let mut at = [0; LANES];
    match slot.class() {
        Class::Double => {
            for (at, &base) in at.iter_mut().zip(registers.doubles(slot)) {
                *at = base.wrapping_add(offset as u64);
            }
        }
        _ => {
            for (at, &base) in at.iter_mut().zip(registers.words(slot)) {
                *at = u64::from(base.wrapping_add(offset as u32));
            }
        }
    }
    at
}

/// Refuses addresses that are no multiples of `bytes`.
#[inline(always)]
pub(in crate::exec) fn aligned(
    addresses: &[u64; LANES],
    mask: u32,
    bytes: usize,
) -> Result<(), Box<Trouble>> {
    let low = bytes as u64 - 1;
    let mut any = 0;
    for (lane, &address) in addresses.iter().enumerate() {
        any |= if mask >> lane & 1 == 1 { address } else { 0 };
    }
    if any & low == 0 {
        return Ok(());
    }
    let lane = lanes(mask).find(|&l| addresses[l] & low != 0).unwrap_or(0);
    let what = format!("the address {:#x} is no multiple of {bytes}", addresses[lane]);
    Err(Trouble::new(FaultKind::Misaligned, what).at_lane(lane))
}

/// The place that an address of a space means.
#[inline(always)]
pub(in crate::exec) fn resolve(space: Space, address: u64) -> Place {
    match space {
        Space::Generic => place(address),
        Space::Global => Place::Global(address),
        Space::Shared { .. } => Place::Shared(address as u32),
        Space::Local => Place::Local(address),
        Space::Param => Place::Param(address),
    }
}

/// The block and offset that a shared address means.
#[inline(always)]
pub(in crate::exec) fn shared_block(
    blocks: &[Block],
    warp: &Warp,
    space: Space,
    address: u32,
) -> Result<(usize, u32), Box<Trouble>> {
    let (rank, offset) = split(address);
    if rank == warp.block {
        return Ok((rank, offset));
    }
    if rank >= blocks.len() {
        let what = format!("{address:#x} is no shared address: the cluster has no block {rank}");
        return Err(Trouble::new(FaultKind::OutOfBounds, what));
    }
    if space == (Space::Shared { cluster: false }) {
        let what = format!("{address:#x} is in block {rank} of the cluster, not in the own one");
        return Err(Trouble::new(FaultKind::OutOfBounds, what));
    }
    if blocks[rank].live == 0 {
        let what = format!("{address:#x} is in block {rank} of the cluster, which has exited");
        return Err(Trouble::new(FaultKind::Freed, what));
    }
    Ok((rank, offset))
}

/// The block and offset of an address that must be shared, in its own space or generic.
pub(in crate::exec) fn shared_place(
    blocks: &[Block],
    warp: &Warp,
    address: u64,
) -> Result<(usize, u32), Box<Trouble>> {
    let address = match place(address) {
        Place::Shared(address) => address,
        Place::Global(address) if address <= u64::from(u32::MAX) => address as u32,
        _ => {
            let what = format!("{address:#x} is not an address in shared memory");
            return Err(Trouble::new(FaultKind::OutOfBounds, what));
        }
    };
    shared_block(blocks, warp, Space::Shared { cluster: true }, address)
}

pub(in crate::exec) fn local_range(
    warp: &Warp,
    lane: usize,
    offset: u64,
    bytes: usize,
) -> Result<std::ops::Range<usize>, Box<Trouble>> {
    let per_lane = warp.local.len() / LANES;
    match usize::try_from(offset).ok().and_then(|o| o.checked_add(bytes)) {
        Some(end) if end <= per_lane => {
            let start = lane * per_lane;
            Ok(start + end - bytes..start + end)
        }
        _ => {
            let what = format!("{bytes} bytes at {offset} are outside the thread's local memory");
            Err(Trouble::new(FaultKind::OutOfBounds, what))
        }
    }
}

/// The place a lane's address in shared memory means.
pub(super) fn spot(commons: &Commons, warp: &Warp, address: u64) -> Result<Spot, Box<Trouble>> {
    let (block, offset) = shared_place(&commons.blocks, warp, address)?;
    Ok(Spot { block, offset })
}
