//! Memory that is read and written at once.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use half::{bf16, f16};

use super::access::{addresses, aligned, lanes, note_global, resolve, shared_block};
use super::commons::Commons;
use super::step::Machine;
use super::warp::Warp;
use crate::fault::{FaultKind, Trouble};
use crate::isa::{Atomic, Operands, Reduction, Type, Update};
use crate::memory::window::Place;
use crate::registers::{Class, LANES};

/// Executes `atom` or `red` for the active lanes, lowest first.
pub(super) fn execute(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &mut Warp,
    atomic: &Atomic,
    operands: &Operands,
    active: u32,
) -> Result<(), Box<Trouble>> {
    let width = atomic.ty.bytes() as usize;
    let at = addresses(&warp.registers, operands.src[0], atomic.offset);
    aligned(&at, active, width * usize::from(atomic.count))?;
    machine.progress += 1;
    for element in 0..usize::from(atomic.count) {
        let value = |i: usize, lane: usize| {
            let slot = operands.src[1 + i];
            match slot.class() {
                Class::Double => warp.registers.doubles(slot)[lane],
                _ => u64::from(warp.registers.words(slot)[lane]),
            }
        };
        let mut old = [0u64; LANES];
        for lane in lanes(active) {
            let address = at[lane] + (element * width) as u64;
            let (a, b) = match atomic.update {
                Update::CompareAndSwap => (value(0, lane), value(1, lane)),
                _ => (value(element, lane), 0),
            };
            let f = |old: u64| updated(atomic.update, atomic.ty, old, a, b);
            old[lane] = match resolve(atomic.space, address) {
                Place::Global(address) => {
                    if commons.global.active() {
                        note_global(commons, warp, lane, address, width);
                    }
                    global(machine, address, width, f)
                }
                Place::Shared(address) => {
                    let (block, offset) =
                        shared_block(&commons.blocks, warp, atomic.space, address)?;
                    let thread = warp.number * LANES as u32 + lane as u32;
                    let clock = commons.clock;
                    let block = &mut commons.blocks[block];
                    block.watch.check(offset, offset + width as u32, true).map_err(|c| {
                        c.trouble("an atomic access to", offset, machine.line(c.pc))
                    })?;
                    block.watch.wrote(offset, offset + width as u32, thread, clock);
                    let bytes = block.shared.write(offset, width)?;
                    let old = load(bytes);
                    bytes.copy_from_slice(&f(old).to_le_bytes()[..width]);
                    Ok(old)
                }
                Place::Local(_) | Place::Param(_) => Err(Trouble::new(
                    FaultKind::OutOfBounds,
                    "atomic accesses need global or shared memory",
                )),
            }
            .map_err(|trouble| trouble.at_lane(lane))?;
        }
        let slot = operands.dst[element];
        if slot.is_some() {
            match slot.class() {
                Class::Double => warp.registers.put_doubles(slot, active, &old),
                _ => warp.registers.put_words(slot, active, &old.map(|v| v as u32)),
            }
        }
    }
    Ok(())
}

fn load(bytes: &[u8]) -> u64 {
    let mut value = [0; 8];
    value[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(value)
}

/// Updates global memory, other threads of the host notwithstanding; gives the old value.
fn global(
    machine: &mut Machine<'_>,
    address: u64,
    width: usize,
    f: impl Fn(u64) -> u64,
) -> Result<u64, Box<Trouble>> {
    let pointer = machine.view.locate(address, width)?;
    let order = (Ordering::AcqRel, Ordering::Acquire);
    macro_rules! update {
        ($atomic:ty, $int:ty) => {{
            let pointer = pointer.cast::<$int>();
            if !pointer.is_aligned() {
                let what = "the host bytes behind an atomic access are not aligned";
                return Err(Trouble::new(FaultKind::Misaligned, what));
            }
            // SAFETY: the view found that many live bytes there; they are aligned, and all
            // accesses that may happen at the same time are atomic or racy on a device as well.
            let cell = unsafe { <$atomic>::from_ptr(pointer) };
            let old = cell.fetch_update(order.0, order.1, |old| Some(f(old.into()) as $int));
            old.unwrap_or_default().into()
        }};
    }
    Ok(match width {
        2 => update!(AtomicU16, u16),
        4 => update!(AtomicU32, u32),
        _ => update!(AtomicU64, u64),
    })
}

/// The new value of memory.
fn updated(update: Update, ty: Type, old: u64, a: u64, b: u64) -> u64 {
    match update {
        Update::Exchange => a,
        Update::CompareAndSwap if old == a & mask(ty) => b,
        Update::CompareAndSwap => old,
        Update::Reduce(how) => combine(how, ty, old, a),
    }
}

fn mask(ty: Type) -> u64 {
    u64::MAX >> (64 - 8 * ty.bytes())
}

/// Two values of a type become one.
pub(super) fn combine(how: Reduction, ty: Type, old: u64, value: u64) -> u64 {
    match ty {
        Type::F32 => {
            let (a, b) = (f32::from_bits(old as u32), f32::from_bits(value as u32));
            u64::from(float(how, a, b).to_bits())
        }
        Type::F64 => {
            let (a, b) = (f64::from_bits(old), f64::from_bits(value));
            match how {
                Reduction::Min => a.min(b),
                Reduction::Max => a.max(b),
                _ => a + b,
            }
            .to_bits()
        }
        Type::F16 => u64::from(half16(how, old as u16, value as u16)),
        Type::Bf16 => u64::from(brain16(how, old as u16, value as u16)),
        Type::F16x2 | Type::Bf16x2 => {
            let f = if ty == Type::F16x2 { half16 } else { brain16 };
            let low = f(how, old as u16, value as u16);
            let high = f(how, (old >> 16) as u16, (value >> 16) as u16);
            u64::from(high) << 16 | u64::from(low)
        }
        _ => integer(how, ty, old, value),
    }
}

fn float(how: Reduction, a: f32, b: f32) -> f32 {
    match how {
        Reduction::Min => a.min(b),
        Reduction::Max => a.max(b),
        _ => a + b,
    }
}

fn half16(how: Reduction, a: u16, b: u16) -> u16 {
    f16::from_f32(float(how, f16::from_bits(a).to_f32(), f16::from_bits(b).to_f32())).to_bits()
}

fn brain16(how: Reduction, a: u16, b: u16) -> u16 {
    bf16::from_f32(float(how, bf16::from_bits(a).to_f32(), bf16::from_bits(b).to_f32())).to_bits()
}

fn integer(how: Reduction, ty: Type, old: u64, value: u64) -> u64 {
    let signed = |x: u64| match ty.bytes() {
        4 => i64::from(x as i32),
        _ => x as i64,
    };
    let (old, value) = (old & mask(ty), value & mask(ty));
    let result = match how {
        Reduction::Add => old.wrapping_add(value),
        Reduction::Min if ty.signed() => signed(old).min(signed(value)) as u64,
        Reduction::Max if ty.signed() => signed(old).max(signed(value)) as u64,
        Reduction::Min => old.min(value),
        Reduction::Max => old.max(value),
        // They wrap at the given value, not at the width.
        Reduction::Inc if old >= value => 0,
        Reduction::Inc => old + 1,
        Reduction::Dec if old == 0 || old > value => value,
        Reduction::Dec => old - 1,
        Reduction::And => old & value,
        Reduction::Or => old | value,
        Reduction::Xor => old ^ value,
    };
    result & mask(ty)
}

/// Combines elements of two pieces of shared memory.
pub(super) fn reduce_slice(target: &mut [u8], source: &[u8], how: Reduction, ty: Type) {
    let width = ty.bytes() as usize;
    for (old, value) in target.chunks_exact_mut(width).zip(source.chunks_exact(width)) {
        let new = combine(how, ty, load(old), load(value));
        old.copy_from_slice(&new.to_le_bytes()[..width]);
    }
}

/// Combines elements into global memory, each atomically.
pub(super) fn reduce_global(
    machine: &mut Machine<'_>,
    address: u64,
    source: &[u8],
    how: Reduction,
    ty: Type,
) -> Result<(), Box<Trouble>> {
    let width = ty.bytes() as usize;
    for (i, value) in source.chunks_exact(width).enumerate() {
        let value = load(value);
        let address = address + (i * width) as u64;
        if width == 1 {
            return Err(Trouble::new(FaultKind::Descriptor, "bytes cannot be combined"));
        }
        global(machine, address, width, |old| combine(how, ty, old, value))?;
    }
    Ok(())
}
