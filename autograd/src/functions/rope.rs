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
        cx.add(0, rope(&grad, &self.table, self.offset, true)?)
    }
}

impl Tensor {
    /// Rotates `self` [rows, heads, head_dim], whose first row is at position `offset`.
    ///
    /// # Errors
    /// Another shape, more rows than the table has, out of memory.
    #[track_caller]
    pub fn rope(&self, table: &Arc<RopeTable>, offset: usize) -> Result<Self> {
        let raw = rope(self.raw(), table, offset, false)?;
        Ok(Self::from_op("rope", raw, &[self], || Rope { table: table.clone(), offset }))
    }
}
