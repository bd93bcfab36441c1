//! Loads and stores of a warp.

use super::block::Block;
use super::commons::Commons;
use super::execute::spot;
use super::flight::{Origin, remote_store};
use super::shared::split;
use super::step::{Machine, Raised};
use super::warp::Warp;
use crate::fault::{FaultKind, Trouble};
use crate::isa::{Access, Operands, Space, StoreAsync, Width};
use crate::memory::window::{Place, place};
use crate::registers::{Class, LANES, Registers, Slot};

/// Up to sixteen bytes of each lane.
type Data = [[u8; 16]; LANES];

/// Lanes of a mask, lowest first.
pub(super) fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        let lane = left.trailing_zeros() as usize;
        left &= left.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}

/// The addresses in a register of either width, plus an offset.
#[inline(always)]
pub(super) fn addresses(registers: &Registers, slot: Slot, offset: i64) -> [u64; LANES] {
    match slot.class() {
        Class::Double => registers.doubles(slot).map(|a| a.wrapping_add(offset as u64)),
        _ => registers.words(slot).map(|a| u64::from(a.wrapping_add(offset as u32))),
    }
}

/// Refuses addresses that are no multiples of `bytes`.
#[inline(always)]
pub(super) fn aligned(
    addresses: &[u64; LANES],
    mask: u32,
    bytes: usize,
) -> Result<(), Box<Trouble>> {
    let low = bytes as u64 - 1;
    let any = lanes(mask).fold(0, |bits, lane| bits | addresses[lane]);
    if any & low == 0 {
        return Ok(());
    }
    let lane = lanes(mask).find(|&l| addresses[l] & low != 0).unwrap_or(0);
    let what = format!("the address {:#x} is no multiple of {bytes}", addresses[lane]);
    Err(Trouble::new(FaultKind::Misaligned, what).at_lane(lane))
}

/// Executes a load.
pub(super) fn load(
    machine: &mut Machine<'_>,
    commons: &Commons,
    warp: &mut Warp,
    access: &Access,
    operands: &Operands,
    mask: u32,
) -> Result<(), Box<Trouble>> {
    let bytes = access.width.bytes() * usize::from(access.count);
    let at = addresses(&warp.registers, operands.src[0], access.offset);
    aligned(&at, mask, bytes)?;
    let mut data: Data = [[0; 16]; LANES];
    match access.space {
        Space::Global => load_global(machine, &at, mask, bytes, &mut data)?,
        space => {
            for lane in lanes(mask) {
                let target = &mut data[lane][..bytes];
                read(machine, &commons.blocks, warp, space, lane, at[lane], target)
                    .map_err(|t| t.at_lane(lane))?;
            }
        }
    }
    for (element, &slot) in operands.dst[..usize::from(access.count)].iter().enumerate() {
        put(&mut warp.registers, slot, mask, &data, access, element);
    }
    Ok(())
}

/// Reads bytes of one lane.
pub(super) fn read(
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

/// The place that an address of a space means.
#[inline(always)]
pub(super) fn resolve(space: Space, address: u64) -> Place {
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
pub(super) fn shared_block(
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
pub(super) fn shared_place(
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

pub(super) fn local_range(
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

/// Loads from global memory; lanes near each other are looked up together.
fn load_global(
    machine: &mut Machine<'_>,
    at: &[u64; LANES],
    mask: u32,
    bytes: usize,
    data: &mut Data,
) -> Result<(), Box<Trouble>> {
    let (low, high) = span(at, mask);
    if let Ok(base) = machine.view.locate(low, (high - low) as usize + bytes) {
        for lane in lanes(mask) {
            let source = base.wrapping_add((at[lane] - low) as usize);
            // SAFETY: the view found all bytes from the lowest lane's first to the highest's last.
            unsafe { copy(source, data[lane].as_mut_ptr(), bytes) };
        }
        return Ok(());
    }
    for lane in lanes(mask) {
        let source = machine
            .view
            .locate(at[lane], bytes)
            .map_err(|e| Box::<Trouble>::from(e).at_lane(lane))?;
        // SAFETY: the view found that many live bytes there.
        unsafe { copy(source, data[lane].as_mut_ptr(), bytes) };
    }
    Ok(())
}

/// Lowest and highest address of the lanes.
fn span(at: &[u64; LANES], mask: u32) -> (u64, u64) {
    lanes(mask).fold((u64::MAX, 0), |(low, high), l| (low.min(at[l]), high.max(at[l])))
}

/// Copies 1, 2, 4, 8 or 16 bytes.
///
/// # Safety
/// Both pointers must have that many bytes.
#[inline(always)]
unsafe fn copy(source: *const u8, target: *mut u8, bytes: usize) {
    macro_rules! copy {
        ($n:literal) => {
            // SAFETY: as the caller promises; byte arrays need no alignment.
            unsafe { *target.cast::<[u8; $n]>() = *source.cast::<[u8; $n]>() }
        };
    }
    match bytes {
        1 => copy!(1),
        2 => copy!(2),
        4 => copy!(4),
        8 => copy!(8),
        _ => copy!(16),
    }
}

/// Puts one element of the loaded bytes into a register.
fn put(
    registers: &mut Registers,
    slot: Slot,
    mask: u32,
    data: &Data,
    access: &Access,
    element: usize,
) {
    let at = element * access.width.bytes();
    let value = |lane: &[u8; 16]| -> u64 {
        match (access.width, access.signed) {
            (Width::B1, false) => u64::from(lane[at]),
            (Width::B1, true) => i64::from(lane[at] as i8) as u64,
            (Width::B2, false) => u64::from(u16::from_le_bytes([lane[at], lane[at + 1]])),
            (Width::B2, true) => i64::from(i16::from_le_bytes([lane[at], lane[at + 1]])) as u64,
            (Width::B4, signed) => {
                let bits = u32::from_le_bytes(lane[at..at + 4].try_into().unwrap_or_default());
                if signed { i64::from(bits as i32) as u64 } else { u64::from(bits) }
            }
            (Width::B8, _) => u64::from_le_bytes(lane[at..at + 8].try_into().unwrap_or_default()),
        }
    };
    if !slot.is_some() {
        return;
    }
    match slot.class() {
        Class::Double => {
            let mut values = [0; LANES];
            for (v, lane) in values.iter_mut().zip(data) {
                *v = value(lane);
            }
            registers.put_doubles(slot, mask, &values);
        }
        _ => {
            let mut values = [0; LANES];
            for (v, lane) in values.iter_mut().zip(data) {
                *v = value(lane) as u32;
            }
            registers.put_words(slot, mask, &values);
        }
    }
}

/// Executes a store.
pub(super) fn store(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &mut Warp,
    access: &Access,
    operands: &Operands,
    mask: u32,
) -> Result<(), Box<Trouble>> {
    let width = access.width.bytes();
    let bytes = width * usize::from(access.count);
    let at = addresses(&warp.registers, operands.src[0], access.offset);
    aligned(&at, mask, bytes)?;
    machine.progress += 1;
    let mut data: Data = [[0; 16]; LANES];
    for element in 0..usize::from(access.count) {
        get(&warp.registers, operands.src[1 + element], &mut data, element * width, width);
    }
    if access.space == Space::Global {
        return store_global(machine, &at, mask, bytes, &data);
    }
    for lane in lanes(mask) {
        write(machine, commons, warp, access.space, lane, at[lane], &data[lane][..bytes])
            .map_err(|t| t.at_lane(lane))?;
    }
    Ok(())
}

/// Executes `st.async` and `red.async`: values that arrive later, reported to an mbarrier.
pub(super) fn store_async(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &mut Warp,
    store: &StoreAsync,
    operands: &Operands,
    mask: u32,
    pc: u32,
) -> Result<(), Raised> {
    let width = store.ty.bytes() as usize;
    let bytes = width * usize::from(store.count);
    let at = addresses(&warp.registers, operands.src[0], 0);
    let barriers = addresses(&warp.registers, operands.more[0], 0);
    let mut data: Data = [[0; 16]; LANES];
    for element in 0..usize::from(store.count) {
        get(&warp.registers, operands.src[1 + element], &mut data, element * width, width);
    }
    for lane in lanes(mask) {
        let origin = Origin { block: warp.block, warp: warp.number, lane: lane as u32, pc };
        let places = aligned(&at, 1 << lane, bytes).and_then(|()| {
            Ok((spot(commons, warp, at[lane])?, spot(commons, warp, barriers[lane])?))
        });
        let (to, barrier) = places.map_err(|trouble| Raised::at(origin, trouble))?;
        let value = data[lane][..bytes].to_vec();
        let how = store.reduction.map(|how| (how, store.ty));
        remote_store(machine, commons, origin, value, to, how, barrier)?;
    }
    Ok(())
}

/// Writes bytes of one lane.
pub(super) fn write(
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

/// Puts a register's values into the bytes that are stored.
fn get(registers: &Registers, slot: Slot, data: &mut Data, at: usize, width: usize) {
    match slot.class() {
        Class::Double => {
            for (lane, value) in data.iter_mut().zip(registers.doubles(slot)) {
                lane[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
            }
        }
        _ => {
            for (lane, value) in data.iter_mut().zip(registers.words(slot)) {
                lane[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
            }
        }
    }
}

fn store_global(
    machine: &mut Machine<'_>,
    at: &[u64; LANES],
    mask: u32,
    bytes: usize,
    data: &Data,
) -> Result<(), Box<Trouble>> {
    let (low, high) = span(at, mask);
    if let Ok(base) = machine.view.locate(low, (high - low) as usize + bytes) {
        for lane in lanes(mask) {
            let target = base.wrapping_add((at[lane] - low) as usize);
            // SAFETY: the view found all bytes from the lowest lane's first to the highest's last.
            unsafe { copy(data[lane].as_ptr(), target, bytes) };
        }
        return Ok(());
    }
    for lane in lanes(mask) {
        let target = machine
            .view
            .locate(at[lane], bytes)
            .map_err(|e| Box::<Trouble>::from(e).at_lane(lane))?;
        // SAFETY: the view found that many live bytes there.
        unsafe { copy(data[lane].as_ptr(), target, bytes) };
    }
    Ok(())
}
