//! Where a stage's parameters come from: random numbers or a Hugging Face folder.

use std::ops::Range;

use slimpipe_allocator::{Region, intern, scope};
use slimpipe_autograd::Parameter;
use slimpipe_ops::cast::cast_into;
use slimpipe_runtime::random::Random;
use slimpipe_runtime::{DType, Device, RawTensor, Shape};

use crate::Result;
use crate::hub::Weights;

const OP: &str = "parameter";

/// The source of a model's weights. Every parameter is a function of its name alone, so a model is
/// the same however it is dealt to ranks.
pub enum Source<'a> {
    /// Normal numbers of standard deviation 0.02 (norm weights are 1), drawn from this seed.
    Random(u64),
    /// Tensors read from a folder.
    Folder(&'a Weights),
}

impl Source<'_> {
    /// The parameter `name` of `shape` as `dtype`, in persistent memory.
    ///
    /// # Errors
    /// Out of memory, or the folder lacks the tensor or has it in another shape.
    pub fn parameter(&self, name: &str, shape: &[usize], dtype: DType) -> Result<Parameter> {
        self.rows(name, shape, 0..shape[0], dtype)
    }

    /// Rows `rows` of the parameter `name` of `shape`, as a parameter of the same name: a rank's part
    /// of it.
    ///
    /// # Errors
    /// As [`Source::parameter`].
    pub fn rows(
        &self,
        name: &str,
        shape: &[usize],
        rows: Range<usize>,
        dtype: DType,
    ) -> Result<Parameter> {
        let native = match self {
            Self::Random(_) => DType::F32,
            Self::Folder(weights) => weights.float_dtype(name, shape)?,
        };
        let first = rows.start * shape[1..].iter().product::<usize>();
        let mut part = Shape::from(shape);
        part.dims_mut()[0] = rows.len();
        // What converting takes for a moment is taken next by gradients and moments.
        let _persistent = scope::place(Region::Persistent);
        // A parameter lies where the rank computes.
        let (device, op) = (Device::current(), intern(&format!("{OP} {name}")));
        let mut value = RawTensor::empty(part, dtype, device, op)?;
        if native == dtype {
            self.fill(name, first, &mut value)?;
        } else {
            let mut full = RawTensor::empty(part, native, device, OP)?;
            self.fill(name, first, &mut full)?;
            cast_into(&full, &mut value)?;
        }
        Ok(Parameter::new(name, value))
    }

    /// Fills `value`, which has the source's own dtype, with elements of `name` from `first` on.
    fn fill(&self, name: &str, first: usize, value: &mut RawTensor) -> Result<()> {
        let (is_norm, start) = (value.rank() == 1, (first * value.dtype().size()) as u64);
        value.fill_bytes(0..value.bytes(), OP, |bytes| {
            match self {
                Self::Random(_) if is_norm => bytemuck::cast_slice_mut::<_, f32>(bytes).fill(1.0),
                Self::Random(seed) => {
                    let random = Random::named(*seed, name);
                    random.fill_normal_from(first as u64, bytemuck::cast_slice_mut(bytes), 0.02);
                }
                Self::Folder(weights) => weights.read_from(name, start, bytes)?,
            }
            Ok(())
        })
    }
}
