//! Accesses of lanes that lie near each other are checked together.

use super::Data;
use super::place::{aligned, lanes, resolve};
use crate::exec::commons::Commons;
use crate::exec::global_watch::Writer;
use crate::exec::shared::split;
use crate::exec::step::Machine;
use crate::exec::warp::Warp;
use crate::fault::Trouble;
use crate::isa::Space;
use crate::memory::window::Place;
use crate::registers::{ALL, LANES};

/// Remembers that a lane wrote global memory.
pub(in crate::exec) fn note_global(
    commons: &mut Commons,
    warp: &Warp,
    lane: usize,
    address: u64,
    bytes: usize,
) {
    let thread = warp.number * LANES as u32 + lane as u32;
    let writer = Writer { block: warp.block, thread };
    commons.global.wrote(address, bytes, writer, commons.clock);
}

/// All bytes from the lowest lane's first to the highest lane's last.
#[derive(Clone, Copy)]
pub(super) struct Span {
    low: u64,
    bytes: usize,
    /// Bytes of each lane.
    width: u32,
    /// All lanes are there, one behind the other.
    dense: bool,
}

impl Span {
    #[inline(always)]
    pub(super) fn new(at: &[u64; LANES], mask: u32, bytes: usize) -> Self {
        let first = at[0];
        let mut apart = u64::from(!mask);
        for (lane, &at) in at.iter().enumerate() {
            apart |= at ^ first.wrapping_add((lane * bytes) as u64);
        }
        if apart == 0 {
            return Self { low: first, bytes: LANES * bytes, width: bytes as u32, dense: true };
        }
        let (mut low, mut high) = (u64::MAX, 0);
        for (lane, &at) in at.iter().enumerate() {
            let here = mask >> lane & 1 == 1;
            low = low.min(if here { at } else { u64::MAX });
            high = high.max(if here { at } else { 0 });
        }
        Self { low, bytes: (high - low) as usize + bytes, width: bytes as u32, dense: false }
    }

    /// Refuses lanes whose address is no multiple of their bytes.
    #[inline(always)]
    pub(super) fn aligned(&self, at: &[u64; LANES], mask: u32) -> Result<(), Box<Trouble>> {
        match self.dense && self.low.is_multiple_of(u64::from(self.width)) {
            true => Ok(()),
            false => aligned(at, mask, self.width as usize),
        }
    }

    /// The span in shared memory, if it is all in the own block.
    fn own(&self, warp: &Warp, address: u32) -> Option<(u32, u32)> {
        let (rank, offset) = split(address);
        let end = u32::try_from(self.bytes).ok()?.checked_add(offset)?;
        (rank == warp.block).then_some((offset, end))
    }

    /// Where the span is, if every lane may read there. Others are looked at one by one.
    pub(super) fn readable(
        &self,
        machine: &mut Machine<'_>,
        commons: &Commons,
        warp: &Warp,
        space: Space,
    ) -> Option<*const u8> {
        match resolve(space, self.low) {
            Place::Global(address) => {
                machine.view.locate(address, self.bytes).ok().map(<*mut u8>::cast_const)
            }
            Place::Shared(address) => {
                let (start, end) = self.own(warp, address)?;
                let block = &commons.blocks[warp.block];
                block.watch.check(start, end, false).ok()?;
                block.shared.read(start, self.bytes).ok().map(<[u8]>::as_ptr)
            }
            Place::Param(offset) => {
                let start = usize::try_from(offset).ok()?;
                let end = start.checked_add(self.bytes)?;
                machine.params.get(start..end).map(<[u8]>::as_ptr)
            }
            Place::Local(_) => None,
        }
    }

    /// Where the span is, if every lane may write there; what they write is noted.
    pub(super) fn writable(
        &self,
        machine: &mut Machine<'_>,
        commons: &mut Commons,
        warp: &Warp,
        space: Space,
        at: &[u64; LANES],
        mask: u32,
    ) -> Option<*mut u8> {
        match resolve(space, self.low) {
            Place::Global(address) => {
                let pointer = machine.view.locate(address, self.bytes).ok()?;
                if commons.global.active() {
                    for lane in lanes(mask) {
                        note_global(commons, warp, lane, at[lane], self.width as usize);
                    }
                }
                Some(pointer)
            }
            Place::Shared(address) => {
                let (start, end) = self.own(warp, address)?;
                let now = commons.clock;
                let block = &mut commons.blocks[warp.block];
                block.watch.check(start, end, true).ok()?;
                if block.mbarriers.touched(start, end).is_some() {
                    return None;
                }
                let pointer = block.shared.write(start, self.bytes).ok()?.as_mut_ptr();
                if block.watch.remembers() {
                    let first = warp.number * LANES as u32;
                    for lane in lanes(mask) {
                        let offset = start + (at[lane] - self.low) as u32;
                        block.watch.wrote(offset, offset + self.width, first + lane as u32, now);
                    }
                }
                Some(pointer)
            }
            Place::Local(_) | Place::Param(_) => None,
        }
    }

    /// Reads the lanes' bytes.
    ///
    /// # Safety
    /// `base` must be what [`Span::readable`] gave just now.
    #[inline(always)]
    pub(super) unsafe fn gather<const N: usize>(
        &self,
        base: *const u8,
        at: &[u64; LANES],
        mask: u32,
        data: &mut Data<N>,
    ) {
        if self.dense {
            let target = data.as_flattened_mut();
            // SAFETY: the span's bytes are readable, as many as the lanes have.
            unsafe { base.copy_to_nonoverlapping(target.as_mut_ptr(), target.len()) };
            return;
        }
        let read = |at: u64| {
            // SAFETY: the span's bytes are readable, and the lane's are among them.
            unsafe { *base.wrapping_add((at - self.low) as usize).cast::<[u8; N]>() }
        };
        if mask == ALL {
            for (bytes, &at) in data.iter_mut().zip(at) {
                *bytes = read(at);
            }
        } else {
            for lane in lanes(mask) {
                data[lane] = read(at[lane]);
            }
        }
    }

    /// Writes the lanes' bytes.
    ///
    /// # Safety
    /// `base` must be what [`Span::writable`] gave just now.
    #[inline(always)]
    pub(super) unsafe fn scatter<const N: usize>(
        &self,
        base: *mut u8,
        at: &[u64; LANES],
        mask: u32,
        data: &Data<N>,
    ) {
        if self.dense {
            let source = data.as_flattened();
            // SAFETY: the span's bytes are writable, as many as the lanes have.
            unsafe { base.copy_from_nonoverlapping(source.as_ptr(), source.len()) };
            return;
        }
        for lane in lanes(mask) {
            let target = base.wrapping_add((at[lane] - self.low) as usize).cast::<[u8; N]>();
            // SAFETY: the span's bytes are writable, and the lane's are among them.
            unsafe { *target = data[lane] };
        }
    }
}
