//! Where a stage's parameters come from: random numbers or a Hugging Face folder.

use slimpipe_allocator::{Region, scope};
use slimpipe_autograd::Parameter;
use slimpipe_ops::cast::cast;
use slimpipe_runtime::random::Random;
use slimpipe_runtime::{DType, Device, RawTensor};

use crate::hub::Weights;
use crate::{Error, Result};

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
        let full = match self {
            Self::Random(seed) => random(*seed, name, shape)?,
            Self::Folder(weights) => from_folder(weights, name, shape)?,
        };
        let _persistent = scope::place(Region::Persistent);
        let mut value = RawTensor::empty(shape, dtype, Device::Cpu, "parameter")?;
        slimpipe_ops::cast::cast_into(&full, &mut value)?;
        Ok(Parameter::new(name, value))
    }
}

fn random(seed: u64, name: &str, shape: &[usize]) -> Result<RawTensor> {
    let mut value = RawTensor::empty(shape, DType::F32, Device::Cpu, "parameter")?;
    let out = value.slice_mut::<f32>("parameter")?;
    if shape.len() == 1 {
        out.fill(1.0);
    } else {
        Random::named(seed, name).fill_normal(out, 0.02);
    }
    Ok(value)
}
