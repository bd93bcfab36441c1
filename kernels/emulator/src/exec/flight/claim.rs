//! What a new copy touches: checked against what is under way, and noted until it is done.

use super::boxes::Global;
use super::{Cargo, Origin, Spot};
use crate::exec::commons::Commons;
use crate::exec::global_watch::Writer;
use crate::exec::step::Machine;
use crate::fault::{FaultKind, Trouble};
use crate::registers::LANES;
use crate::tensor_map::Swizzle;

/// Bytes of shared memory that a copy reads or writes.
struct Claim {
    spot: Spot,
    bytes: u32,
    swizzle: Swizzle,
    writes: bool,
}

/// Checks what a copy touches, and notes it under the copy's number.
pub(super) fn begin(
    machine: &Machine<'_>,
    commons: &mut Commons,
    cargo: &Cargo,
    origin: Origin,
    id: u64,
) -> Result<(), Box<Trouble>> {
    let mut claim = |spot, bytes, swizzle, writes| {
        Claim { spot, bytes, swizzle, writes }.note(machine, commons, origin, id)
    };
    match cargo {
        Cargo::Load { source, offset, blocks, .. } => {
            for &block in blocks {
                let spot = Spot { block, offset: *offset };
                claim(spot, source.bytes() as u32, source.swizzle(), true)?;
            }
            visible_globally(machine, commons, source, origin)
        }
        Cargo::Store { target, from, .. } => {
            claim(*from, target.bytes() as u32, target.swizzle(), false)?;
            visible(machine, commons, *from, target.bytes() as u32, origin)
        }
        Cargo::Remote { from, to, bytes, .. } => {
            claim(*from, *bytes, Swizzle::None, false)?;
            claim(*to, *bytes, Swizzle::None, true)?;
            visible(machine, commons, *from, *bytes, origin)
        }
        Cargo::Value { value, to, .. } => claim(*to, value.len() as u32, Swizzle::None, true),
        Cargo::Thread { to, bytes, .. } => claim(*to, u32::from(*bytes), Swizzle::None, true),
        Cargo::Arrival { .. } => Ok(()),
    }
}

impl Claim {
    fn note(
        &self,
        machine: &Machine<'_>,
        commons: &mut Commons,
        origin: Origin,
        id: u64,
    ) -> Result<(), Box<Trouble>> {
        let Spot { block, offset } = self.spot;
        let block = commons.block(block)?;
        block.shared.read(offset, self.bytes as usize)?;
        // Swizzled chunks stay within rows of 128 bytes.
        let (start, end) = match self.swizzle {
            Swizzle::None => (offset, offset + self.bytes),
            _ => (offset & !127, (offset + self.bytes).next_multiple_of(128)),
        };
        block.watch.check(start, end, self.writes).map_err(|conflict| {
            let access = if self.writes { "a copy would write" } else { "a copy would read" };
            conflict.trouble(access, offset, machine.line(conflict.pc))
        })?;
        if self.writes
            && let Some(at) = block.mbarriers.touched(start, end)
        {
            let what =
                format!("a copy to {start:#x}..{end:#x} would destroy the mbarrier at {at:#x}");
            return Err(Trouble::new(FaultKind::Mbarrier, what));
        }
        block.watch.begin(start, end - start, self.writes, id, origin.pc);
        Ok(())
    }
}

impl Origin {
    /// Number of the thread in its block.
    fn thread(&self) -> u32 {
        self.warp * LANES as u32 + self.lane
    }
}

/// Refuses bytes that the async proxy does not see.
fn visible(
    machine: &Machine<'_>,
    commons: &mut Commons,
    from: Spot,
    bytes: u32,
    origin: Origin,
) -> Result<(), Box<Trouble>> {
    let block = &mut commons.blocks[from.block];
    match block.watch.unseen(from.offset, from.offset + bytes, origin.thread()) {
        None => Ok(()),
        Some(writer) => {
            let [x, y, z] = machine.dimensions.thread(writer);
            let what = format!(
                "a copy reads {:#x}..{:#x} of shared memory, where thread ({x}, {y}, {z}) has \
                 written: fence.proxy.async is missing between",
                from.offset,
                from.offset + bytes
            );
            Err(Trouble::new(FaultKind::MissingFence, what))
        }
    }
}

/// The same of global memory.
fn visible_globally(
    machine: &Machine<'_>,
    commons: &Commons,
    source: &Global,
    origin: Origin,
) -> Result<(), Box<Trouble>> {
    if !commons.global.active() {
        return Ok(());
    }
    let reader = Writer { block: origin.block, thread: origin.thread() };
    source.rows(|row| {
        let Some((address, _, bytes)) = row.inside else { return Ok(()) };
        let Some(writer) = commons.global.unseen(&commons.blocks, address, bytes, reader) else {
            return Ok(());
        };
        let [x, y, z] = machine.dimensions.thread(writer.thread);
        let what = format!(
            "a copy reads {bytes} bytes of global memory at {address:#x}, where thread \
             ({x}, {y}, {z}) has written: fence.proxy.async is missing between"
        );
        Err(Trouble::new(FaultKind::MissingFence, what))
    })
}
