//! Sends, receives and collective operations.

use std::{ffi::c_void, sync::Arc, sync::atomic::Ordering};

use cudarc::nccl::sys::{cudaStream_t, ncclComm_t, ncclDataType_t, ncclRedOp_t};

use crate::{
    abi::{Answer, nccl_functions},
    collective::{Collective, What},
    comm::Comm,
    counters::count,
    element::{self, Reduction},
    failure::Failure,
    group::{Call, submit_call},
    operation::{Operation, Pair},
};

/// The rank of a communicator that a caller names.
fn member(comm: &Comm, rank: i32) -> Result<usize, Failure> {
    let ranks = comm.ready()?.members.len();
    let known = usize::try_from(rank).ok().filter(|rank| *rank < ranks);
    known.ok_or_else(|| Failure::argument(format!("rank {rank} of {ranks}")))
}

/// What all functions of this file are given.
struct Given {
    name: &'static str,
    comm: Arc<Comm>,
    stream: cudaStream_t,
    count: usize,
    of: ncclDataType_t,
    size: usize,
}

impl Given {
    fn new(
        name: &'static str,
        comm: ncclComm_t,
        stream: cudaStream_t,
        number: usize,
        of: ncclDataType_t,
    ) -> Result<Given, Failure> {
        let comm = Comm::find(comm)?;
        comm.ready()?;
        let size = element::bytes(of)?;
        let too_many = || Failure::argument(format!("{number} elements of {size} bytes"));
        count(name, number.checked_mul(size).ok_or_else(too_many)?);
        Ok(Given { name, comm, stream, count: number, of, size })
    }

    /// An address where elements must be, if there are any.
    fn address(&self, place: *const c_void) -> Result<u64, Failure> {
        if place.is_null() && self.count > 0 {
            return Err(Failure::argument("a null pointer for elements"));
        }
        Ok(place as u64)
    }

    fn call(self, operation: Operation) -> Call {
        let Given { name, comm, stream, count, .. } = self;
        let operation = (count > 0).then_some(operation);
        Call { comm, stream: stream as usize, name, operation }
    }

    fn pair(&self, place: *const c_void, peer: i32) -> Result<Pair, Failure> {
        let &Given { count, of, size, .. } = self;
        let peer = member(&self.comm, peer)?;
        Ok(Pair { peer, address: self.address(place)?, count, of, size })
    }

    fn collective(self, what: What, source: u64, target: u64) -> Call {
        let Given { count, of, size, .. } = self;
        let number = self.comm.collectives.fetch_add(1, Ordering::AcqRel);
        let collective = Collective { what, number, source, target, count, of, size };
        self.call(Operation::Collective(collective))
    }

    fn reduction(&self, operation: ncclRedOp_t) -> Result<Reduction, Failure> {
        Reduction::new(operation, self.of)
    }
}

fn submit(call: impl FnOnce() -> Result<Call, Failure>) -> Answer {
    submit_call(call())
}

nccl_functions! {
    fn ncclSend(
        from: *const c_void,
        count: usize,
        of: ncclDataType_t,
        peer: i32,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) {
        submit(|| {
            let given = Given::new("ncclSend", comm, stream, count, of)?;
            let pair = given.pair(from, peer)?;
            Ok(given.call(Operation::Send(pair)))
        })
    }

    fn ncclRecv(
        to: *mut c_void,
        count: usize,
        of: ncclDataType_t,
        peer: i32,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) {
        submit(|| {
            let given = Given::new("ncclRecv", comm, stream, count, of)?;
            let pair = given.pair(to, peer)?;
            Ok(given.call(Operation::Receive(pair)))
        })
    }

    fn ncclAllGather(
        from: *const c_void,
        to: *mut c_void,
        count: usize,
        of: ncclDataType_t,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) {
        submit(|| {
            let given = Given::new("ncclAllGather", comm, stream, count, of)?;
            let (source, target) = (given.address(from)?, given.address(to)?);
            Ok(given.collective(What::AllGather, source, target))
        })
    }

    fn ncclAllReduce(
        from: *const c_void,
        to: *mut c_void,
        count: usize,
        of: ncclDataType_t,
        operation: ncclRedOp_t,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) {
        submit(|| {
            let given = Given::new("ncclAllReduce", comm, stream, count, of)?;
            let (source, target) = (given.address(from)?, given.address(to)?);
            let what = What::AllReduce(given.reduction(operation)?);
            Ok(given.collective(what, source, target))
        })
    }

    fn ncclReduceScatter(
        from: *const c_void,
        to: *mut c_void,
        count: usize,
        of: ncclDataType_t,
        operation: ncclRedOp_t,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) {
        submit(|| {
            let given = Given::new("ncclReduceScatter", comm, stream, count, of)?;
            let (source, target) = (given.address(from)?, given.address(to)?);
            let what = What::ReduceScatter(given.reduction(operation)?);
            Ok(given.collective(what, source, target))
        })
    }

    fn ncclReduce(
        from: *const c_void,
        to: *mut c_void,
        count: usize,
        of: ncclDataType_t,
        operation: ncclRedOp_t,
        root: i32,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) {
        submit(|| {
            let given = Given::new("ncclReduce", comm, stream, count, of)?;
            let root = member(&given.comm, root)?;
            let is_root = given.comm.ready()?.rank == root;
            let target = if is_root { given.address(to)? } else { 0 };
            let (source, reduction) = (given.address(from)?, given.reduction(operation)?);
            Ok(given.collective(What::Reduce { root, reduction }, source, target))
        })
    }

    fn ncclBroadcast(
        from: *const c_void,
        to: *mut c_void,
        count: usize,
        of: ncclDataType_t,
        root: i32,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) {
        submit(|| broadcast("ncclBroadcast", from, to, count, of, root, comm, stream))
    }

    /// The same in place.
    fn ncclBcast(
        place: *mut c_void,
        count: usize,
        of: ncclDataType_t,
        root: i32,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) {
        submit(|| broadcast("ncclBcast", place, place, count, of, root, comm, stream))
    }
}

#[allow(clippy::too_many_arguments)]
fn broadcast(
    name: &'static str,
    from: *const c_void,
    to: *mut c_void,
    count: usize,
    of: ncclDataType_t,
    root: i32,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> Result<Call, Failure> {
    let given = Given::new(name, comm, stream, count, of)?;
    let root = member(&given.comm, root)?;
    let is_root = given.comm.ready()?.rank == root;
    let source = if is_root { given.address(from)? } else { 0 };
    let target = given.address(to)?;
    Ok(given.collective(What::Broadcast { root }, source, target))
}
