//! Bytes with an owner: an allocation and the device it lies on.

use slimpipe_allocator::{Allocation, Space, allocate, allocate_in, allocate_meta, scope};
use slimpipe_kernels::cuda::DevicePtr;

use crate::{Device, Element, Error, Result, stream};

/// The memory behind one or more tensors.
#[derive(Debug)]
pub struct Storage {
    allocation: Allocation,
    device: Device,
}

impl Storage {
    /// Takes `bytes` from the current scope. `op` names the owner in traces and errors.
    ///
    /// # Errors
    /// Out of memory.
    #[track_caller]
    pub fn new(bytes: usize, device: Device, op: &'static str) -> Result<Self> {
        let allocation = match device {
            Device::Cpu => allocate(bytes as u64, op)?,
            Device::Cuda(ordinal) => {
                let otherwise = || Ok::<_, Error>(stream::current(ordinal)?.memory());
                allocate_in(Space::Device(ordinal), bytes as u64, op, otherwise)?
            }
            Device::Meta => allocate_meta(bytes as u64),
        };
        Ok(Self { allocation, device })
    }

    /// Where the bytes lie.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The allocation, for traces and plans.
    pub fn allocation(&self) -> &Allocation {
        &self.allocation
    }

    /// Elements `start..start + len` of the storage read as `T`.
    ///
    /// # Errors
    /// The unit that owned the bytes was closed, or they are not on the host.
    pub fn slice<T: Element>(&self, start: usize, len: usize, op: &'static str) -> Result<&[T]> {
        self.assert_own_rank(op);
        self.read(start, len, op)
    }

    /// As [`Storage::slice`] for the bytes of a message, which another rank may read.
    pub(crate) fn message(&self, start: usize, len: usize, op: &'static str) -> Result<&[u8]> {
        self.read(start, len, op)
    }

    fn read<T: Element>(&self, start: usize, len: usize, op: &'static str) -> Result<&[T]> {
        let pointer = self.pointer(start, len, size_of::<T>(), op)?;
        // SAFETY: `pointer` is aligned to 64 bytes plus a multiple of the element size, the range was
        // checked against the allocation, all bytes are initialised (they come from the operating
        // system zeroed) and any bit pattern is a `T: Pod`. Writers hold the storage exclusively. The
        // unit that owns the bytes is open, and is closed by the thread that computes in it, between
        // operations: no operation keeps a slice.
        Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), len) })
    }

    /// Like [`Storage::slice`], for writing; exclusive by the borrow.
    ///
    /// # Errors
    /// As [`Storage::slice`].
    pub fn slice_mut<T: Element>(
        &mut self,
        start: usize,
        len: usize,
        op: &'static str,
    ) -> Result<&mut [T]> {
        self.assert_own_rank(op);
        let pointer = self.pointer(start, len, size_of::<T>(), op)?;
        // SAFETY: as in `slice`; `&mut self` makes the access exclusive, allocations never overlap.
        Ok(unsafe { std::slice::from_raw_parts_mut(pointer.cast(), len) })
    }

    /// Ranks that are threads of one process compute on their own memory only, as if they were
    /// processes: in debug builds, straying is a panic.
    fn assert_own_rank(&self, op: &'static str) {
        if cfg!(debug_assertions)
            && let (Some(own), Some(current)) = (self.allocation.rank(), scope::current_rank())
        {
            assert_eq!(own, current, "{op}: rank {current} touches memory of rank {own}");
        }
    }

    /// The address of byte `start`, behind which `len` bytes of the storage lie on a GPU.
    ///
    /// # Errors
    /// The unit that owned the bytes was closed, or they are not on a GPU.
    pub fn device_ptr(&self, start: usize, len: usize, op: &'static str) -> Result<DevicePtr> {
        self.assert_own_rank(op);
        self.device_message(start, len, op)
    }

    /// As [`Storage::device_ptr`] for the bytes of a message, which another rank may read.
    pub(crate) fn device_message(
        &self,
        start: usize,
        len: usize,
        op: &'static str,
    ) -> Result<DevicePtr> {
        let Device::Cuda(_) = self.device else {
            return Err(Error::NotOnGpu { op, device: self.device });
        };
        let address = self.address(start, len, 1, op)?;
        Ok(DevicePtr(address.addr() as u64))
    }

    fn pointer(&self, start: usize, len: usize, size: usize, op: &'static str) -> Result<*mut u8> {
        if let Device::Cuda(_) = self.device {
            return Err(Error::NotOnHost { op, device: self.device });
        }
        self.address(start, len, size, op)
    }

    fn address(&self, start: usize, len: usize, size: usize, op: &'static str) -> Result<*mut u8> {
        self.allocation.check(op)?;
        let end = (start + len) * size;
        assert!(end as u64 <= self.allocation.bytes(), "{op}: view ends outside its storage");
        let base = self.allocation.as_ptr().ok_or(Error::MetaHasNoData { op })?;
        Ok(base.as_ptr().wrapping_add(start * size))
    }
}
