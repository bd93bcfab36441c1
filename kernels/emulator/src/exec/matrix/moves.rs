//! `ldmatrix` and `stmatrix`: 8 x 8 matrices of 16-bit elements, one row per lane's address.

use crate::exec::access::{addresses, aligned, shared_place};
use crate::exec::commons::Commons;
use crate::exec::execute::Next;
use crate::exec::step::Machine;
use crate::exec::warp::{Wait, Warp};
use crate::fault::{FaultKind, Trouble};
use crate::isa::{MoveMatrix, Operands};
use crate::registers::{ALL, LANES};

/// Bytes of a row.
const ROW: usize = 16;

/// Executes a move for the whole warp.
pub(in crate::exec) fn move_matrix(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &mut Warp,
    moved: &MoveMatrix,
    operands: &Operands,
    active: u32,
) -> Result<Next, Box<Trouble>> {
    if active != warp.live {
        return Ok(Next::Wait(Wait::Lanes(warp.live)));
    }
    if active != ALL {
        let what = "moves of matrices need all lanes of the warp";
        return Err(Trouble::new(FaultKind::Divergence, what));
    }
    let count = usize::from(moved.count);
    let rows = count * 8;
    let mask = if rows == LANES { ALL } else { (1 << rows) - 1 };
    let at = addresses(&warp.registers, operands.src[0], 0);
    aligned(&at, mask, ROW)?;
    for matrix in 0..count {
        if moved.store {
            let words = *warp.registers.words(operands.src[1 + matrix]);
            for row in 0..8 {
                let bytes = row_of(&words, row, moved.transpose);
                let lane = 8 * matrix + row;
                write(machine, commons, warp, lane, at[lane], &bytes)
                    .map_err(|trouble| trouble.at_lane(lane))?;
            }
        } else {
            let mut matrix_rows = [[0u8; ROW]; 8];
            for (row, bytes) in matrix_rows.iter_mut().enumerate() {
                let lane = 8 * matrix + row;
                read(machine, commons, warp, at[lane], bytes)
                    .map_err(|trouble| trouble.at_lane(lane))?;
            }
            let words = words_of(&matrix_rows, moved.transpose);
            warp.registers.put_words(operands.dst[matrix], ALL, &words);
        }
    }
    machine.progress += u64::from(moved.store);
    Ok(Next::Step)
}

/// The element a lane holds: two neighbours of a row, or with a transposed matrix of a column.
fn element(lane: usize, side: usize, transpose: bool) -> (usize, usize) {
    let (row, column) = (lane / 4, lane % 4 * 2 + side);
    if transpose { (column, row) } else { (row, column) }
}

fn words_of(rows: &[[u8; ROW]; 8], transpose: bool) -> [u32; LANES] {
    std::array::from_fn(|lane| {
        let half = |side| {
            let (row, column) = element(lane, side, transpose);
            u32::from(u16::from_le_bytes([rows[row][2 * column], rows[row][2 * column + 1]]))
        };
        half(0) | half(1) << 16
    })
}

fn row_of(words: &[u32; LANES], row: usize, transpose: bool) -> [u8; ROW] {
    let mut bytes = [0; ROW];
    for (lane, word) in words.iter().enumerate() {
        for side in 0..2 {
            let (r, column) = element(lane, side, transpose);
            if r == row {
                let half = (word >> (16 * side)) as u16;
                bytes[2 * column..2 * column + 2].copy_from_slice(&half.to_le_bytes());
            }
        }
    }
    bytes
}

fn read(
    machine: &Machine<'_>,
    commons: &Commons,
    warp: &Warp,
    address: u64,
    target: &mut [u8; ROW],
) -> Result<(), Box<Trouble>> {
    let offset = own(commons, warp, address)?;
    let block = &commons.blocks[warp.block];
    if let Err(conflict) = block.watch.check(offset, offset + ROW as u32, false) {
        return Err(conflict.trouble("a load of", offset, machine.line(conflict.pc)));
    }
    target.copy_from_slice(block.shared.read(offset, ROW)?);
    Ok(())
}

fn write(
    machine: &Machine<'_>,
    commons: &mut Commons,
    warp: &Warp,
    lane: usize,
    address: u64,
    source: &[u8; ROW],
) -> Result<(), Box<Trouble>> {
    let offset = own(commons, warp, address)?;
    let now = commons.clock;
    let block = &mut commons.blocks[warp.block];
    block.shared.write(offset, ROW)?.copy_from_slice(source);
    let end = offset + ROW as u32;
    if let Err(conflict) = block.watch.check(offset, end, true) {
        return Err(conflict.trouble("a store to", offset, machine.line(conflict.pc)));
    }
    if let Some(at) = block.mbarriers.touched(offset, end) {
        let what = format!("a store to {offset:#x} destroys the mbarrier at {at:#x}");
        return Err(Trouble::new(FaultKind::Mbarrier, what));
    }
    block.watch.wrote(offset, end, warp.number * LANES as u32 + lane as u32, now);
    Ok(())
}

/// The offset of an address in the own block's memory.
fn own(commons: &Commons, warp: &Warp, address: u64) -> Result<u32, Box<Trouble>> {
    let (block, offset) = shared_place(&commons.blocks, warp, address)?;
    match block == warp.block {
        true => Ok(offset),
        false => {
            let what = format!("{address:#x} is in another block's shared memory");
            Err(Trouble::new(FaultKind::OutOfBounds, what))
        }
    }
}
