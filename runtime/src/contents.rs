//! Filling tensors and reading them, wherever they lie.
//!
//! What reads a GPU's elements waits for its compute stream; what fills them does not.

use std::borrow::Cow;
use std::ops::Range;

use slimpipe_kernels::cuda::copy;

use crate::random::Random;
use crate::stream::{self, Streams};
use crate::{DType, Device, Element, Error, RawTensor, Result, Shape};

/// Elements that are made on the host at a time, for a tensor on a GPU.
const BLOCK: usize = 1 << 20;

impl RawTensor {
    /// Normal numbers of mean 0 and standard deviation `std`, as f32: element i is number i of
    /// `random`, on any device.
    ///
    /// # Errors
    /// Out of memory.
    #[track_caller]
    pub fn randn(
        shape: impl Into<Shape>,
        std: f32,
        random: Random,
        device: Device,
    ) -> Result<Self> {
        let mut out = Self::empty(shape, DType::F32, device, "randn")?;
        match device {
            Device::Cpu => random.fill_normal(out.slice_mut("randn")?, std),
            Device::Cuda(ordinal) => {
                let (streams, count) = (stream::current(ordinal)?, out.elem_count());
                let mut block = vec![0f32; count.min(BLOCK)];
                for first in (0..count).step_by(BLOCK) {
                    let block = &mut block[..BLOCK.min(count - first)];
                    random.fill_normal_from(first as u64, block, std);
                    out.write(&streams, first * size_of::<f32>(), bytemuck::cast_slice(block))?;
                }
            }
            Device::Meta => {}
        }
        Ok(out)
    }

    /// A tensor with the elements of `values` in row-major order.
    ///
    /// # Errors
    /// Out of memory, or as many values as the shape does not take.
    #[track_caller]
    pub fn from_slice<T: Element>(
        values: &[T],
        shape: impl Into<Shape>,
        device: Device,
    ) -> Result<Self> {
        let shape = shape.into();
        if values.len() != shape.elem_count() {
            let what = format!("{} values for shape {shape}", values.len());
            return Err(Error::ShapeMismatch { op: "from_slice", what });
        }
        let mut out = Self::empty(shape, T::DTYPE, device, "from_slice")?;
        match device {
            Device::Cpu => out.slice_mut("from_slice")?.copy_from_slice(values),
            Device::Cuda(ordinal) => {
                out.write(&stream::current(ordinal)?, 0, bytemuck::cast_slice(values))?;
            }
            Device::Meta => {}
        }
        Ok(out)
    }

    /// The same elements on `device`, contiguous; the same tensor if it is there and contiguous already.
    ///
    /// # Errors
    /// Out of memory, a meta tensor that is to have elements, or memory whose unit was closed.
    #[track_caller]
    pub fn to_device(&self, device: Device) -> Result<Self> {
        if device == self.device() && self.layout().is_contiguous() {
            return Ok(self.clone());
        }
        let mut out = Self::empty(*self.shape(), self.dtype(), device, "to_device")?;
        match device {
            Device::Meta => {}
            Device::Cpu => {
                let bytes = self.host_bytes("to_device")?;
                out.as_bytes_mut("to_device")?.copy_from_slice(&bytes);
            }
            Device::Cuda(ordinal) => {
                let bytes = self.host_bytes("to_device")?;
                out.write(&stream::current(ordinal)?, 0, &bytes)?;
            }
        }
        Ok(out)
    }

    /// Sets every element of an unshared tensor to zero; does nothing on the meta device.
    ///
    /// # Errors
    /// As [`RawTensor::slice_mut`], except that any device will do.
    pub fn fill_zero(&mut self) -> Result<()> {
        match self.device() {
            Device::Cpu => self.as_bytes_mut("zeros")?.fill(0),
            Device::Cuda(ordinal) => {
                let (at, bytes) = (self.device_ptr_mut("zeros")?, self.bytes());
                // SAFETY: the tensor's own bytes, which nobody else holds; its memory is used in the order
                // of this stream.
                unsafe { copy::fill(stream::current(ordinal)?.compute(), at, 0, bytes)? };
            }
            Device::Meta => {}
        }
        Ok(())
    }

    /// The elements in row-major order, copied out of any view on any device.
    ///
    /// # Errors
    /// Another dtype, a meta tensor, or memory whose unit was closed.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        let op = "to_vec";
        let data = match self.device() {
            Device::Cuda(_) => {
                self.expect_dtype::<T>(op)?;
                let mut data = vec![T::zeroed(); self.layout().span()];
                self.read_span(bytemuck::cast_slice_mut(&mut data), op)?;
                Cow::Owned(data)
            }
            Device::Cpu | Device::Meta => Cow::Borrowed(self.span::<T>(op)?),
        };
        if self.layout().is_contiguous() {
            return Ok(data.into_owned());
        }
        let start = self.layout().start();
        Ok(self.layout().indices().map(|index| data[index - start]).collect())
    }

    /// The bytes of the elements in row-major order.
    fn host_bytes(&self, op: &'static str) -> Result<Cow<'_, [u8]>> {
        let contiguous = self.layout().is_contiguous();
        let span = match self.device() {
            Device::Cpu if contiguous => return Ok(Cow::Borrowed(self.as_bytes(op)?)),
            Device::Cpu => Cow::Borrowed(self.span_bytes(op)?),
            Device::Cuda(_) => {
                let mut bytes = vec![0; self.layout().span() * self.dtype().size()];
                self.read_span(&mut bytes, op)?;
                Cow::Owned(bytes)
            }
            Device::Meta => return Err(Error::MetaHasNoData { op }),
        };
        if contiguous {
            return Ok(span);
        }
        let (start, size) = (self.layout().start(), self.dtype().size());
        let elements = self.layout().indices().map(|index| &span[(index - start) * size..][..size]);
        Ok(Cow::Owned(elements.flatten().copied().collect()))
    }

    /// Copies the bytes from the first to the last that a view on a GPU reaches, and waits for them.
    fn read_span(&self, bytes: &mut [u8], op: &'static str) -> Result<()> {
        let Device::Cuda(ordinal) = self.device() else {
            return Err(Error::NotOnGpu { op, device: self.device() });
        };
        let (from, streams) = (self.device_span(op)?, stream::current(ordinal)?);
        // SAFETY: the view's bytes, as many as `bytes` has; the tensor was written in the order of this stream.
        unsafe { streams.download(from, bytes) }
    }

    /// Has `fill` write bytes `range` of an unshared contiguous tensor: where they lie, or, if that is on a GPU,
    /// in a copy (of zeros at first, aligned to 8) that goes there.
    ///
    /// # Errors
    /// Not contiguous, shared, a meta tensor, memory whose unit was closed, or `fill` failed.
    ///
    /// # Panics
    /// The range leaves the tensor.
    pub fn fill_bytes<E: From<Error>>(
        &mut self,
        range: Range<usize>,
        op: &'static str,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.device() {
            Device::Cuda(ordinal) => {
                let mut words = vec![0u64; range.len().div_ceil(size_of::<u64>())];
                let bytes = &mut bytemuck::cast_slice_mut(&mut words)[..range.len()];
                fill(bytes)?;
                Ok(self.write(&stream::current(ordinal)?, range.start, bytes)?)
            }
            Device::Cpu | Device::Meta => fill(&mut self.as_bytes_mut(op)?[range]),
        }
    }

    /// Copies to a GPU, from byte `start` of an unshared contiguous tensor on.
    fn write(&mut self, streams: &Streams, start: usize, bytes: &[u8]) -> Result<()> {
        assert!(start + bytes.len() <= self.bytes(), "a copy beyond the end of the tensor");
        let to = self.device_ptr_mut("to_device")?.offset(start as u64);
        // SAFETY: the tensor's own bytes, asserted above, which nobody else holds; its memory is used in the
        // order of the compute stream.
        unsafe { streams.upload(bytes, to) }
    }
}
