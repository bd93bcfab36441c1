//! Where an operation runs, and what it needs of a GPU.

use slimpipe_kernels::cuda::strided::View;
use slimpipe_kernels::cuda::{DevicePtr, Float, Stream};
use slimpipe_runtime::stream::{self, Streams};
use slimpipe_runtime::{DType, Device, Error, RawTensor, Result};

use crate::dispatch::not_float;

/// Where an operation runs.
pub(crate) enum Place {
    /// Nowhere: shapes are all there is.
    Meta,
    /// On the host, by the thread's team.
    Cpu,
    /// On a GPU, in the order of the thread's compute stream.
    Gpu(Gpu),
}

impl Place {
    /// Where `op` runs, whose result lies on `device`.
    pub(crate) fn of(op: &'static str, device: Device) -> Result<Self> {
        Ok(match device {
            Device::Meta => Self::Meta,
            Device::Cpu => Self::Cpu,
            Device::Cuda(ordinal) => {
                Self::Gpu(Gpu { op, device, streams: stream::current(ordinal)? })
            }
        })
    }
}

/// A GPU that an operation runs on. Addresses it gives out are those of tensors on that GPU, whose memory is used in
/// the order of [`Gpu::stream`]: a kernel that is enqueued there may use them.
pub(crate) struct Gpu {
    op: &'static str,
    device: Device,
    streams: Streams,
}

impl Gpu {
    pub(crate) fn stream(&self) -> &Stream {
        self.streams.compute()
    }

    /// The address of a contiguous operand.
    pub(crate) fn read(&self, x: &RawTensor) -> Result<DevicePtr> {
        self.check(x)?;
        x.device_ptr(self.op)
    }

    /// An operand of any strides.
    pub(crate) fn view<'a>(&self, x: &'a RawTensor) -> Result<View<'a>> {
        self.check(x)?;
        Ok(View { at: x.device_span(self.op)?, strides: x.layout().strides() })
    }

    /// The address of a contiguous tensor that nobody else holds, to be written.
    pub(crate) fn write(&self, x: &mut RawTensor) -> Result<DevicePtr> {
        self.check(x)?;
        x.device_ptr_mut(self.op)
    }

    /// The address of row `row` of the first dimension of such a tensor.
    pub(crate) fn rows(&self, x: &mut RawTensor, row: usize) -> Result<DevicePtr> {
        let bytes = x.dtype().size() * x.dims()[1..].iter().product::<usize>();
        Ok(self.write(x)?.offset((row * bytes) as u64))
    }

    /// The float that kernels are compiled for.
    pub(crate) fn float(&self, dtype: DType) -> Result<Float> {
        match dtype {
            DType::F32 => Ok(Float::F32),
            DType::BF16 => Ok(Float::Bf16),
            got => Err(not_float(self.op, got)),
        }
    }

    fn check(&self, x: &RawTensor) -> Result<()> {
        match x.device() {
            device if device == self.device => Ok(()),
            Device::Cuda(_) => {
                let (own, other) = (self.device, x.device());
                let what = format!("operands lie on {own} and {other}; copy one with to_device");
                Err(crate::dispatch::mismatch(self.op, what))
            }
            device => Err(Error::NotOnGpu { op: self.op, device }),
        }
    }
}
