//! `mma.sync`: a product of one warp, done at once.

use super::descriptor::{DEPTH, halves};
use super::fragment::{ROWS, gather_factor};
use super::multiply::multiply;
use crate::exec::execute::Next;
use crate::exec::warp::{Wait, Warp};
use crate::fault::{FaultKind, Trouble};
use crate::isa::{Operands, WarpProduct};
use crate::registers::{ALL, LANES, Slot};

/// Columns of the result.
const N: usize = 8;

/// Executes a product for the whole warp.
pub(in crate::exec) fn warp_product(
    warp: &mut Warp,
    product: &WarpProduct,
    operands: &Operands,
    active: u32,
) -> Result<Next, Box<Trouble>> {
    if active != warp.live {
        return Ok(Next::Wait(Wait::Lanes(warp.live)));
    }
    if active != ALL {
        let what = "a warp's product needs all its lanes";
        return Err(Trouble::new(FaultKind::Divergence, what));
    }
    let blocks = usize::from(product.k) / 8;
    let (a_slots, rest) = operands.more.split_at(2 * blocks);
    let (b_slots, c_slots) = rest.split_at(blocks);
    let mut a = [[0.0; DEPTH]; ROWS];
    gather_factor(&warp.registers, a_slots, product.factor, &mut a);
    // B's columns are spread like A's rows.
    let mut b = [0.0; DEPTH * N];
    for (block, &slot) in b_slots.iter().enumerate() {
        for (lane, &word) in warp.registers.words(slot).iter().enumerate() {
            let (column, k) = (lane / 4, lane % 4 * 2 + 8 * block);
            let [low, high] = halves(word, product.factor);
            b[k * N + column] = low;
            b[(k + 1) * N + column] = high;
        }
    }
    let mut c = [0.0; ROWS * N];
    for (i, &slot) in c_slots.iter().enumerate() {
        for (lane, &word) in warp.registers.words(slot).iter().enumerate() {
            c[at(lane, i)] = f32::from_bits(word);
        }
    }
    multiply(&a, &b, &mut c, N);
    let dst: [Slot; 4] = operands.dst;
    for (i, slot) in dst.into_iter().enumerate() {
        let words: [u32; LANES] = std::array::from_fn(|lane| c[at(lane, i)].to_bits());
        warp.registers.put_words(slot, ALL, &words);
    }
    Ok(Next::Step)
}

/// The element of the result that a lane's register `i` holds.
fn at(lane: usize, i: usize) -> usize {
    (lane / 4 + 8 * (i / 2)) * N + lane % 4 * 2 + i % 2
}
