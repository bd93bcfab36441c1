//! Stores that arrive later.

use super::Data;
use super::place::{addresses, aligned, lanes, spot};
use super::store::get;
use crate::exec::commons::Commons;
use crate::exec::flight::{Cargo, Origin, send};
use crate::exec::step::{Machine, Raised};
use crate::exec::warp::Warp;
use crate::isa::{Operands, StoreAsync};
use crate::registers::LANES;

/// Executes `st.async` and `red.async`: values that arrive later, reported to an mbarrier.
pub(in crate::exec) fn store_async(
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
    let mut data: Data<16> = [[0; 16]; LANES];
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
        send(machine, commons, origin, Cargo::Value { value, to, how, barrier })?;
    }
    Ok(())
}
