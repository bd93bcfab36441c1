//! Embedding lookup: the gradient goes straight into the table's accumulator.

use slimpipe_ops::embedding::{embedding, embedding_backward};
use slimpipe_runtime::{DType, RawTensor, Shape};

use crate::engine::Backward;
use crate::node::Function;
use crate::{Result, Tensor};

struct Embedding {
    ids: RawTensor,
    table: Shape,
}

impl Function for Embedding {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        let direct =
            cx.accumulate_only(0, |table| Ok(embedding_backward(&grad, &self.ids, table)?))?;
        if !direct && cx.needs(0) {
            let mut table = RawTensor::zeros(self.table, DType::F32, grad.device())?;
            embedding_backward(&grad, &self.ids, &mut table)?;
            cx.add(0, slimpipe_ops::cast::cast(&table, grad.dtype())?)?;
        }
        Ok(())
    }
}

impl Tensor {
    /// Rows `ids` (u32, [rows]) of the table `self` [vocab, width]: [rows, width].
    ///
    /// # Errors
    /// Shapes that do not fit, an id outside the table, out of memory.
    #[track_caller]
    pub fn embedding(&self, ids: &RawTensor) -> Result<Self> {
        let raw = embedding(self.raw(), ids)?;
        let function = || Embedding { ids: ids.clone(), table: *self.shape() };
        Ok(Self::from_op("embedding", raw, &[self], function))
    }
}
