//! Where a stage's parameters come from: random numbers or a Hugging Face folder.

use slimpipe_allocator::{Region, scope};
use slimpipe_autograd::Parameter;
use slimpipe_ops::cast::cast_into;
use slimpipe_runtime::random::Random;
use slimpipe_runtime::{DType, Device, RawTensor};

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
        let native = match self {
            Self::Random(_) => DType::F32,
            Self::Folder(weights) => weights.float_dtype(name, shape)?,
        };
        // What converting takes for a moment is taken next by gradients and moments.
        let _persistent = scope::place(Region::Persistent);
        let mut value = RawTensor::empty(shape, dtype, Device::Cpu, OP)?;
        if native == dtype {
            self.fill(name, &mut value)?;
        } else {
            let mut full = RawTensor::empty(shape, native, Device::Cpu, OP)?;
            self.fill(name, &mut full)?;
            cast_into(&full, &mut value)?;
        }
        Ok(Parameter::new(name, value))
    }

    /// Fills `value`, which has the source's own dtype.
    fn fill(&self, name: &str, value: &mut RawTensor) -> Result<()> {
        match self {
            Self::Random(_) if value.rank() == 1 => value.slice_mut::<f32>(OP)?.fill(1.0),
            Self::Random(seed) => {
                Random::named(*seed, name).fill_normal(value.slice_mut(OP)?, 0.02);
            }
            Self::Folder(weights) => weights.read_into(name, value.as_bytes_mut(OP)?)?,
        }
        Ok(())
    }
}
