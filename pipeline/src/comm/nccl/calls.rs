//! What can be enqueued on a group.

use std::ffi::{c_int, c_void};

use cudarc::nccl::sys::{ncclComm_t, ncclDataType_t, ncclRedOp_t};
use slimpipe_kernels::cuda::{DevicePtr, Stream};

use super::NcclGroup;
use super::library::{Code, IN_PROGRESS, SUCCESS};
use crate::comm::CommError;

/// How numbers of several ranks become one, and what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// Sums of f32.
    SumF32,
    /// The largest f32.
    MaxF32,
    /// Sums of f64.
    SumF64,
}

impl Reduce {
    fn raw(self) -> (ncclDataType_t, ncclRedOp_t) {
        match self {
            Self::SumF32 => (ncclDataType_t::ncclFloat32, ncclRedOp_t::ncclSum),
            Self::MaxF32 => (ncclDataType_t::ncclFloat32, ncclRedOp_t::ncclMax),
            Self::SumF64 => (ncclDataType_t::ncclFloat64, ncclRedOp_t::ncclSum),
        }
    }
}

/// What can be enqueued on a group. Buffers stay where they are, unused by others, until the stream
/// has done it.
pub struct Calls<'a> {
    pub(super) group: &'a NcclGroup,
    pub(super) comm: ncclComm_t,
    pub(super) stream: &'a Stream,
}

fn read(at: DevicePtr) -> *const c_void {
    at.0 as *const c_void
}

fn write(at: DevicePtr) -> *mut c_void {
    at.0 as *mut c_void
}

impl Calls<'_> {
    fn done(&self, what: &str, code: Code) -> Result<(), CommError> {
        match code {
            // Within a group nothing has begun yet.
            SUCCESS | IN_PROGRESS => Ok(()),
            code => self.group.shared().expect(self.comm, what, code),
        }
    }

    fn peer(&self, rank: u32) -> Result<c_int, CommError> {
        let size = self.group.size();
        if rank < size { Ok(rank as c_int) } else { Err(CommError::NoSuchRank { rank, size }) }
    }

    fn raw_stream(&self) -> cudarc::nccl::sys::cudaStream_t {
        self.stream.raw().cast()
    }

    /// Sends `bytes` bytes to rank `to`.
    ///
    /// # Errors
    /// No such rank, or the library refuses.
    ///
    /// # Safety
    /// The bytes at `from` stay there until the stream has sent them.
    pub unsafe fn send(&self, from: DevicePtr, bytes: usize, to: u32) -> Result<(), CommError> {
        let (peer, kind) = (self.peer(to)?, ncclDataType_t::ncclUint8);
        let send = self.group.shared().library.send;
        // SAFETY: the handle is alive; the buffer is the caller's promise.
        self.done("a send", unsafe {
            send(read(from), bytes, kind, peer, self.comm, self.raw_stream())
        })
    }

    /// Receives `bytes` bytes from rank `from`.
    ///
    /// # Errors
    /// As [`Calls::send`].
    ///
    /// # Safety
    /// Nobody else uses the bytes at `into` until the stream has received them.
    pub unsafe fn recv(&self, into: DevicePtr, bytes: usize, from: u32) -> Result<(), CommError> {
        let (peer, kind) = (self.peer(from)?, ncclDataType_t::ncclUint8);
        let recv = self.group.shared().library.recv;
        // SAFETY: as in `send`.
        self.done("a receive", unsafe {
            recv(write(into), bytes, kind, peer, self.comm, self.raw_stream())
        })
    }

    /// Reduces `count` numbers of all ranks in place, on all of them.
    ///
    /// # Errors
    /// The library refuses.
    ///
    /// # Safety
    /// As [`Calls::recv`].
    pub unsafe fn all_reduce(
        &self,
        at: DevicePtr,
        count: usize,
        how: Reduce,
    ) -> Result<(), CommError> {
        let ((kind, op), call) = (how.raw(), self.group.shared().library.all_reduce);
        // SAFETY: as in `send`.
        self.done("an all-reduce", unsafe {
            call(read(at), write(at), count, kind, op, self.comm, self.raw_stream())
        })
    }

    /// Reduces `count` numbers of all ranks in place, on rank `root`.
    ///
    /// # Errors
    /// As [`Calls::send`].
    ///
    /// # Safety
    /// As [`Calls::recv`].
    pub unsafe fn reduce(
        &self,
        at: DevicePtr,
        count: usize,
        how: Reduce,
        root: u32,
    ) -> Result<(), CommError> {
        let ((kind, op), call) = (how.raw(), self.group.shared().library.reduce);
        let root = self.peer(root)?;
        // SAFETY: as in `send`.
        self.done("a reduce", unsafe {
            call(read(at), write(at), count, kind, op, root, self.comm, self.raw_stream())
        })
    }

    /// Fills `bytes` bytes of all ranks with those of rank `root`.
    ///
    /// # Errors
    /// As [`Calls::send`].
    ///
    /// # Safety
    /// As [`Calls::recv`].
    pub unsafe fn broadcast(
        &self,
        at: DevicePtr,
        bytes: usize,
        root: u32,
    ) -> Result<(), CommError> {
        let (root, kind) = (self.peer(root)?, ncclDataType_t::ncclUint8);
        let call = self.group.shared().library.broadcast;
        // SAFETY: as in `send`.
        self.done("a broadcast", unsafe {
            call(read(at), write(at), bytes, kind, root, self.comm, self.raw_stream())
        })
    }

    /// Collects `bytes` bytes of every rank on all of them, by rank. Rank i's are the i-th of `into`,
    /// which may hold them already.
    ///
    /// # Errors
    /// The library refuses.
    ///
    /// # Safety
    /// As [`Calls::send`] and [`Calls::recv`], for as many bytes as all ranks have.
    pub unsafe fn all_gather(
        &self,
        from: DevicePtr,
        into: DevicePtr,
        bytes: usize,
    ) -> Result<(), CommError> {
        let (kind, call) = (ncclDataType_t::ncclUint8, self.group.shared().library.all_gather);
        // SAFETY: as in `send`.
        self.done("an all-gather", unsafe {
            call(read(from), write(into), bytes, kind, self.comm, self.raw_stream())
        })
    }

    /// Reduces `count` numbers for every rank: of `from`, which has as many for each, the i-th of all
    /// ranks become those of rank i at `into`.
    ///
    /// # Errors
    /// The library refuses.
    ///
    /// # Safety
    /// As [`Calls::all_gather`].
    pub unsafe fn reduce_scatter(
        &self,
        from: DevicePtr,
        into: DevicePtr,
        count: usize,
        how: Reduce,
    ) -> Result<(), CommError> {
        let ((kind, op), call) = (how.raw(), self.group.shared().library.reduce_scatter);
        // SAFETY: as in `send`.
        self.done("a reduce-scatter", unsafe {
            call(read(from), write(into), count, kind, op, self.comm, self.raw_stream())
        })
    }
}
