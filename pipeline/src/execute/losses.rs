//! The losses of a step's units, added up.

use slimpipe_allocator::{Region, scope};
use slimpipe_ops::copy::copy_into;
use slimpipe_runtime::{DType, Device, RawTensor};

use super::Result;

/// Where a rank that computes losses keeps them. On a GPU they stay there until the step is over, so that
/// nobody waits for a unit.
pub(super) struct Losses {
    /// One number for each unit of a step, on a GPU.
    waiting: Option<RawTensor>,
    /// Of those, how many this step has.
    count: usize,
    sum: f64,
}

impl Losses {
    /// For steps with losses of at most `units` units, on `device`; with memory entered.
    ///
    /// # Errors
    /// Out of memory.
    pub(super) fn new(units: usize, device: Device) -> Result<Self> {
        let waiting = match device {
            Device::Cuda(_) if units > 0 => {
                let _persistent = scope::place(Region::Persistent);
                Some(RawTensor::empty(units, DType::F32, device, "losses")?)
            }
            _ => None,
        };
        Ok(Self { waiting, count: 0, sum: 0.0 })
    }

    /// Forgets the last step's.
    pub(super) fn clear(&mut self) {
        (self.count, self.sum) = (0, 0.0);
    }

    /// Adds the loss of a unit, a scalar.
    ///
    /// # Errors
    /// It has no number, or there are more than there is room for.
    pub(super) fn add(&mut self, loss: &RawTensor) -> Result<()> {
        match &mut self.waiting {
            Some(waiting) => {
                let loss = loss.reshape(1)?;
                waiting.with_rows(self.count, 1, |row| copy_into(&loss, row))?;
                self.count += 1;
            }
            None => self.sum += f64::from(loss.to_vec::<f32>()?[0]),
        }
        Ok(())
    }

    /// The sum; of a GPU's this waits for them.
    ///
    /// # Errors
    /// Something that ran on the GPU failed.
    pub(super) fn sum(&self) -> Result<f64> {
        let waiting = match &self.waiting {
            Some(waiting) => waiting.narrow(0, 0, self.count)?.to_vec::<f32>()?,
            None => Vec::new(),
        };
        Ok(self.sum + waiting.into_iter().map(f64::from).sum::<f64>())
    }
}
