//! Embedding lookup: the gradient goes straight into the table's accumulator.

use slimpipe_ops::copy::contiguous;
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
        // Writing into an accumulator must not allocate: what is strided is copied before.
        let (grad, ids) = (contiguous(&grad)?, contiguous(&self.ids)?);
        let add = |table: &mut RawTensor| Ok(embedding_backward(&grad, &ids, table)?);
        if cx.accumulate_only(0, add)? {
            return Ok(());
        }
        let mut table = RawTensor::zeros(self.table, DType::F32, grad.device())?;
        add(&mut table)?;
        cx.add_f32(0, table, grad.dtype())
    }
}

impl Tensor {
    /// Rows `ids` (u32, any shape) of the table `self` [vocab, width]: [ids..., width].
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit, an id outside the table, out of memory.
    #[track_caller]
    pub fn embedding(&self, ids: &RawTensor) -> Result<Self> {
        let raw = embedding(self.raw(), ids)?;
        let function = || Embedding { ids: ids.clone(), table: *self.shape() };
        Ok(Self::from_op("embedding", raw, &[self], function))
    }
}
