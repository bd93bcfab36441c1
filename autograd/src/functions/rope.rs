//! Rotary position embedding: backward rotates the gradient back, so nothing is saved.

use std::sync::Arc;

use slimpipe_ops::rope::{RopeTable, rope};
use slimpipe_runtime::RawTensor;

use crate::engine::Backward;
use crate::node::Function;
use crate::{Result, Tensor};

struct Rope {
    table: Arc<RopeTable>,
    offset: usize,
}

impl Function for Rope {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        cx.add(0, rope(grad, &self.table, self.offset, true)?)
    }
}

impl Tensor {
    /// Rotates the heads of `self` [rows, heads, head_dim], whose first row is at position `offset`:
    /// elements j and j + head_dim / 2 by the angle position * frequency(j).
    ///
    /// # Errors
    /// Another shape, more rows than the table has, out of memory.
    #[track_caller]
    pub fn rope(&self, table: &Arc<RopeTable>, offset: usize) -> Result<Self> {
        self.clone().rope_into(table, offset)
    }

    /// As [`Tensor::rope`], written over `self` if nobody else holds it.
    ///
    /// # Errors
    /// As [`Tensor::rope`].
    #[track_caller]
    pub fn rope_into(self, table: &Arc<RopeTable>, offset: usize) -> Result<Self> {
        let (raw, edge) = self.into_parts();
        let raw = rope(raw, table, offset, false)?;
        Ok(Self::from_edges("rope", raw, vec![edge], || Rope { table: table.clone(), offset }))
    }
}
