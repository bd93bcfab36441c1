//! Copies land: bytes move, barriers hear of it.

use super::boxes::Global;
use super::{Cargo, Flight, Origin, Spot};
use crate::exec::atomic;
use crate::exec::commons::Commons;
use crate::exec::shared::Shared;
use crate::exec::step::{Machine, Raised};
use crate::fault::{FaultKind, Trouble};
use crate::isa::{Reduction, Type};
use crate::tensor_map::Swizzle;

/// Carries a copy out; it is no longer under way. Unknown numbers have landed before.
pub(in crate::exec) fn land(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    id: u64,
) -> Result<(), Raised> {
    read_source(machine, commons, id)?;
    let Some(position) = commons.flights.position(id) else { return Ok(()) };
    let Some(flight) = commons.flights.list.remove(position) else { return Ok(()) };
    machine.progress += 1;
    let origin = flight.origin;
    carry(machine, commons, flight).map_err(|trouble| Raised::at(origin, trouble))
}

/// The first half of a store: its bytes are read from shared memory.
pub(in crate::exec) fn read_source(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    id: u64,
) -> Result<(), Raised> {
    let Commons { flights, blocks, .. } = commons;
    let Some(flight) = flights.get(id) else { return Ok(()) };
    if let Cargo::Store { target, from, read, .. } = &mut flight.cargo
        && read.is_none()
    {
        let shared = &blocks[from.block].shared;
        let bytes = gather(shared, from.offset, target.bytes(), target.swizzle());
        *read = Some(bytes.map_err(|trouble| Raised::at(flight.origin, trouble))?);
        machine.progress += 1;
    }
    Ok(())
}

fn carry(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    flight: Flight,
) -> Result<(), Box<Trouble>> {
    let Flight { id, origin, cargo } = flight;
    match cargo {
        Cargo::Load { source, offset, blocks, barrier } => {
            let bytes = fetch(machine, &source)?;
            for block in blocks {
                let target = commons.block(block)?;
                target.watch.end(id);
                scatter(&mut target.shared, offset, &bytes, source.swizzle())?;
                target.watch.overwritten(offset, offset + bytes.len() as u32);
                target.mbarriers.get(barrier)?.expect(-(bytes.len() as i64))?;
            }
            machine.report.bulk_bytes += bytes.len() as u64;
        }
        Cargo::Store { target, read, how, .. } => {
            let bytes = read.unwrap_or_default();
            deliver(machine, &target, &bytes, how)?;
            machine.report.bulk_bytes += bytes.len() as u64;
        }
        Cargo::Remote { from, to, bytes, how, barrier } => {
            let source = &mut commons.blocks[from.block];
            source.watch.end(id);
            let value = source.shared.read(from.offset, bytes as usize)?.to_vec();
            put(commons, id, &value, to, how, barrier)?;
            machine.report.bulk_bytes += u64::from(bytes);
        }
        Cargo::Value { value, to, how, barrier } => put(commons, id, &value, to, how, barrier)?,
        Cargo::Thread { source, to, bytes, read } => {
            let mut value = [0; 16];
            machine.read_global(source, &mut value[..usize::from(read)])?;
            let block = &mut commons.blocks[to.block];
            block.watch.end(id);
            let value = &value[..usize::from(bytes)];
            block.shared.write(to.offset, value.len())?.copy_from_slice(value);
            let thread = origin.warp * 32 + origin.lane;
            block.watch.wrote(to.offset, to.offset + u32::from(bytes), thread, commons.clock);
        }
        Cargo::Arrival { barrier, after } => {
            for earlier in after {
                if let Some(position) = commons.flights.position(earlier)
                    && let Some(flight) = commons.flights.list.remove(position)
                {
                    carry(machine, commons, flight)?;
                }
            }
            commons.block(barrier.block)?.mbarriers.get(barrier.offset)?.arrive(1, false)?;
        }
    }
    Ok(())
}

/// Bytes arrive in a block's shared memory and are reported to its barrier.
fn put(
    commons: &mut Commons,
    id: u64,
    value: &[u8],
    to: Spot,
    how: Option<(Reduction, Type)>,
    barrier: Spot,
) -> Result<(), Box<Trouble>> {
    let block = commons.block(to.block)?;
    block.watch.end(id);
    let target = block.shared.write(to.offset, value.len())?;
    match how {
        None => target.copy_from_slice(value),
        Some((how, ty)) => atomic::reduce_slice(target, value, how, ty),
    }
    block.watch.overwritten(to.offset, to.offset + value.len() as u32);
    let barrier = commons.block(barrier.block)?.mbarriers.get(barrier.offset)?;
    barrier.expect(-(value.len() as i64))
}

/// Reads the global side into one piece.
fn fetch(machine: &mut Machine<'_>, source: &Global) -> Result<Vec<u8>, Box<Trouble>> {
    let mut bytes = match source.fill() {
        None => vec![0; source.bytes()],
        Some(nan) => nan.iter().copied().cycle().take(source.bytes()).collect(),
    };
    source.rows(|row| {
        if let Some((address, before, count)) = row.inside {
            let start = row.offset + before;
            machine.read_global(address, &mut bytes[start..start + count])?;
        }
        Ok(())
    })?;
    Ok(bytes)
}

/// Writes one piece to the global side.
fn deliver(
    machine: &mut Machine<'_>,
    target: &Global,
    bytes: &[u8],
    how: Option<(Reduction, Type)>,
) -> Result<(), Box<Trouble>> {
    target.rows(|row| {
        let Some((address, before, count)) = row.inside else { return Ok(()) };
        let start = row.offset + before;
        let piece = &bytes[start..start + count];
        match how {
            None => machine.write_global(address, piece),
            Some((how, ty)) => atomic::reduce_global(machine, address, piece, how, ty),
        }
    })
}

/// Puts a box into shared memory, chunk by chunk where they are swizzled.
fn scatter(
    shared: &mut Shared,
    offset: u32,
    bytes: &[u8],
    swizzle: Swizzle,
) -> Result<(), Box<Trouble>> {
    let whole = shared.write(offset, bytes.len())?;
    if swizzle == Swizzle::None {
        whole.copy_from_slice(bytes);
        return Ok(());
    }
    for (i, chunk) in bytes.chunks(16).enumerate() {
        let at = swizzle.apply(offset + 16 * i as u32);
        shared.write(at, chunk.len())?.copy_from_slice(chunk);
    }
    Ok(())
}

/// Takes a box out of shared memory.
fn gather(
    shared: &Shared,
    offset: u32,
    count: usize,
    swizzle: Swizzle,
) -> Result<Vec<u8>, Box<Trouble>> {
    let whole = shared.read(offset, count)?;
    if swizzle == Swizzle::None {
        return Ok(whole.to_vec());
    }
    let mut bytes = Vec::with_capacity(count);
    while bytes.len() < count {
        let at = swizzle.apply(offset + bytes.len() as u32);
        bytes.extend_from_slice(shared.read(at, 16.min(count - bytes.len()))?);
    }
    Ok(bytes)
}

impl Machine<'_> {
    /// Copies bytes out of global memory.
    pub(in crate::exec) fn read_global(
        &mut self,
        address: u64,
        target: &mut [u8],
    ) -> Result<(), Box<Trouble>> {
        let source = self.view.locate(address, target.len())?;
        // SAFETY: the view found that many live bytes there.
        unsafe { source.copy_to_nonoverlapping(target.as_mut_ptr(), target.len()) };
        Ok(())
    }

    /// Copies bytes into global memory.
    pub(in crate::exec) fn write_global(
        &mut self,
        address: u64,
        source: &[u8],
    ) -> Result<(), Box<Trouble>> {
        let target = self.view.locate(address, source.len())?;
        // SAFETY: the view found that many live bytes there.
        unsafe { target.copy_from_nonoverlapping(source.as_ptr(), source.len()) };
        Ok(())
    }
}

impl Raised {
    /// A fault of work that was issued earlier.
    pub(in crate::exec) fn at(origin: Origin, mut trouble: Box<Trouble>) -> Self {
        if trouble.kind == FaultKind::OutOfBounds {
            trouble.what = format!("a copy: {}", trouble.what);
        }
        trouble.lane.get_or_insert(origin.lane);
        Self { trouble, pc: origin.pc, issuer: Some((origin.block, origin.warp)) }
    }
}
