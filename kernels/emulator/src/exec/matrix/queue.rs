//! Products of a warpgroup: issued by its four warps, done together, waited for by each.

use std::collections::VecDeque;

use half::f16;

use super::descriptor::{DEPTH, Descriptor};
use super::fragment::ROWS;
use super::multiply::multiply;
use crate::exec::shared::Shared;
use crate::fault::Trouble;
use crate::isa::Product;

/// Warps of a warpgroup.
pub(super) const WARPS: usize = 4;
/// Rows of a product.
pub(super) const HEIGHT: usize = WARPS * ROWS;

/// A product that at least one warp has issued and not all have waited for.
#[derive(Debug)]
pub(super) struct Pending {
    pub pc: u32,
    pub product: Product,
    pub a: Option<Descriptor>,
    /// A from registers, as far as warps have brought it.
    pub rows: Vec<[f32; DEPTH]>,
    pub b: Descriptor,
    pub add: bool,
    pub accumulators: usize,
    /// Warps that have issued it, and that have waited for it, a bit each.
    pub issued: u8,
    pub retired: u8,
    pub done: bool,
    /// Its number among what uses shared memory.
    pub id: u64,
}

impl Pending {
    /// What all warps must agree on.
    pub(super) fn same(&self, other: &Self) -> bool {
        (self.pc, self.a, self.b, self.add) == (other.pc, other.a, other.b, other.add)
    }
}

/// Accumulators of a warpgroup: 64 rows.
#[derive(Debug, Default)]
pub(super) struct Accumulators {
    pub values: Vec<f32>,
    /// Warps whose registers they stand for.
    pub owners: u8,
}

/// Products of one warpgroup, oldest first.
#[derive(Debug, Default)]
pub(in crate::exec) struct ProductQueue {
    /// Number of the first.
    pub(super) first: u64,
    pub(super) list: VecDeque<Pending>,
    pub(super) accumulators: Vec<Accumulators>,
    /// Room for a factor B.
    columns: Vec<f32>,
}

pub(super) const EVERYBODY: u8 = (1 << WARPS) - 1;

impl ProductQueue {
    pub(super) fn index(&self, number: u64) -> usize {
        (number - self.first) as usize
    }

    /// A place that no warp uses.
    pub(super) fn free_accumulators(&mut self) -> usize {
        match self.accumulators.iter().position(|a| a.owners == 0) {
            Some(free) => free,
            None => {
                self.accumulators.push(Accumulators::default());
                self.accumulators.len() - 1
            }
        }
    }

    /// Whether all warps have issued every product before `end`.
    pub(super) fn complete(&self, end: u64) -> bool {
        end <= self.first
            || self.list.get(self.index(end) - 1).is_some_and(|last| last.issued == EVERYBODY)
    }

    /// Does the products before `end` that all warps have issued.
    pub(super) fn run(
        &mut self,
        shared: &Shared,
        end: u64,
        report: &mut u64,
    ) -> Result<(), Box<Trouble>> {
        for number in self.first..end {
            let index = self.index(number);
            let Some(pending) = self.list.get_mut(index) else { break };
            if pending.issued != EVERYBODY {
                break;
            }
            if !pending.done {
                let values = &mut self.accumulators[pending.accumulators].values;
                compute(pending, shared, values, &mut self.columns)?;
                pending.done = true;
                *report += 1;
            }
        }
        Ok(())
    }
}

/// Does one product.
fn compute(
    pending: &mut Pending,
    shared: &Shared,
    values: &mut [f32],
    b: &mut Vec<f32>,
) -> Result<(), Box<Trouble>> {
    let product = &pending.product;
    let n = usize::from(product.n);
    if let Some(a) = &pending.a {
        a.read_rows(shared, product.factor, &mut pending.rows, 0)?;
    }
    b.resize(DEPTH * n, 0.0);
    pending.b.read_columns(shared, product.factor, b, n)?;
    if product.negate_a != product.negate_b {
        b.iter_mut().for_each(|x| *x = -*x);
    }
    if !pending.add {
        values.fill(0.0);
    }
    multiply(&pending.rows, b, values, n);
    if product.half_result {
        values.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32());
    }
    Ok(())
}
