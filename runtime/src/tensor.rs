//! [`RawTensor`]: a handle on storage and a layout. No gradients, no operations.

use std::sync::Arc;

use slimpipe_kernels::cuda::DevicePtr;

use crate::storage::Storage;
use crate::{DType, Device, Element, Error, Layout, Result, Shape};

/// A tensor without gradients: shared storage seen through a layout. Cloning copies the handle.
#[derive(Clone, Debug)]
pub struct RawTensor {
    storage: Arc<Storage>,
    layout: Layout,
    dtype: DType,
}

impl RawTensor {
    /// A tensor whose elements the caller will write; until then they are unspecified.
    ///
    /// # Errors
    /// Out of memory, or more bytes than there are addresses.
    #[track_caller]
    pub fn empty(
        shape: impl Into<Shape>,
        dtype: DType,
        device: Device,
        op: &'static str,
    ) -> Result<Self> {
        let shape = shape.into();
        let bytes = shape.elem_count().checked_mul(dtype.size());
        let bytes = bytes.filter(|&bytes| bytes <= isize::MAX as usize).ok_or_else(|| {
            let what = format!("shape {shape} has more bytes of {dtype} than there are addresses");
            Error::ShapeMismatch { op, what }
        })?;
        let storage = Arc::new(Storage::new(bytes, device, op)?);
        Ok(Self { storage, layout: Layout::contiguous(shape), dtype })
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// Out of memory.
    #[track_caller]
    pub fn zeros(shape: impl Into<Shape>, dtype: DType, device: Device) -> Result<Self> {
        let mut out = Self::empty(shape, dtype, device, "zeros")?;
        out.fill_zero()?;
        Ok(out)
    }

    /// The extents.
    pub fn shape(&self) -> &Shape {
        self.layout.shape()
    }

    /// The extents as a slice.
    pub fn dims(&self) -> &[usize] {
        self.layout.shape().dims()
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.layout.shape().rank()
    }

    /// Number of elements.
    pub fn elem_count(&self) -> usize {
        self.layout.shape().elem_count()
    }

    /// Bytes of the elements (not of the storage behind a view).
    pub fn bytes(&self) -> usize {
        self.elem_count() * self.dtype.size()
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where the elements are.
    pub fn device(&self) -> Device {
        self.storage.device()
    }

    /// Whether the tensor has a shape but no elements.
    pub fn is_meta(&self) -> bool {
        self.device() == Device::Meta
    }

    /// Shape, strides and start.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The memory behind the tensor.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Whether both handles see the same memory.
    pub fn same_storage(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.storage, &other.storage)
    }

    /// Whether this is the only handle on the memory, so that it may be written in place.
    pub fn is_unique(&mut self) -> bool {
        Arc::get_mut(&mut self.storage).is_some()
    }

    pub(crate) fn expect_dtype<T: Element>(&self, op: &'static str) -> Result<()> {
        if T::DTYPE == self.dtype {
            return Ok(());
        }
        Err(Error::WrongDType { op, expected: T::DTYPE.name(), got: self.dtype })
    }

    fn expect_contiguous(&self, op: &'static str) -> Result<()> {
        if self.layout.is_contiguous() {
            return Ok(());
        }
        Err(self.not_contiguous(op))
    }

    fn not_contiguous(&self, op: &'static str) -> Error {
        Error::NotContiguous { op, shape: *self.shape(), strides: self.layout.strides().to_vec() }
    }

    /// The elements of a contiguous tensor. `op` is who asks, for errors.
    ///
    /// # Errors
    /// Another dtype, not contiguous, a meta tensor, or memory whose unit was closed.
    pub fn slice<T: Element>(&self, op: &'static str) -> Result<&[T]> {
        self.expect_dtype::<T>(op)?;
        self.expect_contiguous(op)?;
        self.storage.slice(self.layout.start(), self.elem_count(), op)
    }

    /// The elements from the first to the last that a strided view reaches, gaps included.
    ///
    /// # Errors
    /// As [`RawTensor::slice`], except that any strides will do.
    pub fn span<T: Element>(&self, op: &'static str) -> Result<&[T]> {
        self.expect_dtype::<T>(op)?;
        self.storage.slice(self.layout.start(), self.layout.span(), op)
    }

    /// The bytes from the first to the last that a strided view reaches, gaps included.
    pub(crate) fn span_bytes(&self, op: &'static str) -> Result<&[u8]> {
        self.storage.slice(self.byte_start(), self.layout.span() * self.dtype.size(), op)
    }

    /// The elements of a contiguous tensor that nobody else holds, for writing.
    ///
    /// # Errors
    /// As [`RawTensor::slice`], or the storage is shared.
    pub fn slice_mut<T: Element>(&mut self, op: &'static str) -> Result<&mut [T]> {
        self.expect_dtype::<T>(op)?;
        self.expect_contiguous(op)?;
        let (start, len) = (self.layout.start(), self.layout.shape().elem_count());
        let storage = Arc::get_mut(&mut self.storage).ok_or(Error::SharedStorage { op })?;
        storage.slice_mut(start, len, op)
    }

    /// The bytes of a contiguous tensor of any dtype. Unlike elements, they may be read by another
    /// rank: that is how a message between threads is handed over.
    ///
    /// # Errors
    /// As [`RawTensor::slice`].
    pub fn as_bytes(&self, op: &'static str) -> Result<&[u8]> {
        self.expect_contiguous(op)?;
        self.storage.message(self.byte_start(), self.bytes(), op)
    }

    /// The bytes of a contiguous tensor that nobody else holds, for writing.
    ///
    /// # Errors
    /// As [`RawTensor::slice_mut`].
    pub fn as_bytes_mut(&mut self, op: &'static str) -> Result<&mut [u8]> {
        self.expect_contiguous(op)?;
        let (start, len) = (self.byte_start(), self.bytes());
        let storage = Arc::get_mut(&mut self.storage).ok_or(Error::SharedStorage { op })?;
        storage.slice_mut(start, len, op)
    }

    /// The address of the first element of a contiguous tensor on a GPU, for kernels that read it.
    ///
    /// # Errors
    /// Not contiguous, not on a GPU, or memory whose unit was closed.
    pub fn device_ptr(&self, op: &'static str) -> Result<DevicePtr> {
        self.expect_contiguous(op)?;
        self.storage.device_ptr(self.byte_start(), self.bytes(), op)
    }

    /// The address of the first element of a strided view on a GPU.
    ///
    /// # Errors
    /// As [`RawTensor::device_ptr`], except that any strides will do.
    pub fn device_span(&self, op: &'static str) -> Result<DevicePtr> {
        self.storage.device_ptr(self.byte_start(), self.layout.span() * self.dtype.size(), op)
    }

    /// The address of the first element of a contiguous tensor on a GPU that nobody else holds, for kernels
    /// that write it.
    ///
    /// # Errors
    /// As [`RawTensor::device_ptr`], or the storage is shared.
    pub fn device_ptr_mut(&mut self, op: &'static str) -> Result<DevicePtr> {
        if !self.is_unique() {
            return Err(Error::SharedStorage { op });
        }
        self.device_ptr(op)
    }

    /// The address of a contiguous tensor on a GPU. Unlike [`RawTensor::device_ptr`], another rank may ask:
    /// that is how a message between threads is handed over.
    ///
    /// # Errors
    /// As [`RawTensor::device_ptr`].
    pub fn device_message(&self, op: &'static str) -> Result<DevicePtr> {
        self.expect_contiguous(op)?;
        self.storage.device_message(self.byte_start(), self.bytes(), op)
    }

    fn byte_start(&self) -> usize {
        self.layout.start() * self.dtype.size()
    }

    /// Runs `f` on rows `start..start + len` of the first dimension, so that a part of an unshared
    /// tensor can be written.
    ///
    /// # Errors
    /// The range leaves the dimension, or `f` failed.
    pub fn with_rows<R>(
        &mut self,
        start: usize,
        len: usize,
        f: impl FnOnce(&mut Self) -> Result<R>,
    ) -> Result<R> {
        let whole = self.layout;
        self.layout = whole.narrow(0, start, len)?;
        let result = f(self);
        self.layout = whole;
        result
    }

    /// Runs `f` on this tensor under another shape of as many elements, without a second handle.
    ///
    /// # Errors
    /// Another number of elements, strides that would need a copy, or whatever `f` fails with.
    pub fn with_shape<R>(
        &mut self,
        shape: impl Into<Shape>,
        f: impl FnOnce(&mut Self) -> Result<R>,
    ) -> Result<R> {
        let reshaped = self.reshape(shape)?.layout;
        let whole = std::mem::replace(&mut self.layout, reshaped);
        let result = f(self);
        self.layout = whole;
        result
    }

    fn with_layout(&self, layout: Layout) -> Self {
        Self { storage: self.storage.clone(), layout, dtype: self.dtype }
    }

    /// A view of elements `start..start + len` along `dim`.
    ///
    /// # Errors
    /// The range leaves the dimension.
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Self> {
        Ok(self.with_layout(self.layout.narrow(dim, start, len)?))
    }

    /// A view with two dimensions exchanged.
    ///
    /// # Errors
    /// No such dimension.
    pub fn transpose(&self, a: usize, b: usize) -> Result<Self> {
        Ok(self.with_layout(self.layout.transpose(a, b)?))
    }

    /// A view with the dimensions in another order.
    ///
    /// # Errors
    /// `axes` is not a permutation.
    pub fn permute(&self, axes: &[usize]) -> Result<Self> {
        Ok(self.with_layout(self.layout.permute(axes)?))
    }

    /// A view repeated to a larger shape.
    ///
    /// # Errors
    /// The shapes do not broadcast.
    pub fn broadcast_to(&self, shape: impl Into<Shape>) -> Result<Self> {
        Ok(self.with_layout(self.layout.broadcast_to(shape.into())?))
    }

    /// A view of the same elements under another shape.
    ///
    /// # Errors
    /// Another number of elements, or strides that would need a copy.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if shape.elem_count() != self.elem_count() {
            let what = format!(
                "{} elements of shape {} do not fill shape {shape}",
                self.elem_count(),
                self.shape()
            );
            return Err(Error::ShapeMismatch { op: "reshape", what });
        }
        match self.layout.reshape(shape) {
            Some(layout) => Ok(self.with_layout(layout)),
            None => Err(self.not_contiguous("reshape")),
        }
    }

    /// A view without dimension `dim`, whose extent is 1.
    ///
    /// # Errors
    /// Another extent, or no such dimension.
    pub fn squeeze(&self, dim: usize) -> Result<Self> {
        Ok(self.with_layout(self.layout.squeeze(dim)?))
    }

    /// A view with a dimension of extent 1 before dimension `dim` (or after the last).
    ///
    /// # Errors
    /// No such place, or more dimensions than a tensor can have.
    pub fn unsqueeze(&self, dim: usize) -> Result<Self> {
        Ok(self.with_layout(self.layout.unsqueeze(dim)?))
    }
}
