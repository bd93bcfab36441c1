//! Asking communicators, and ending them.

use std::ffi::c_int;

use cudarc::nccl::sys::{ncclComm_t, ncclResult_t};

use crate::{
    abi::{BEGUN, DONE, nccl_functions, put},
    comm::{COMMS, Comm},
    failure::Failure,
};

fn gone() -> Failure {
    Failure::argument("no communicator, or one that is gone")
}

nccl_functions! {
    fn ncclCommCount(comm: ncclComm_t, count: *mut c_int) {
        put(count, Comm::find(comm)?.ready()?.members.len() as c_int)
    }

    fn ncclCommUserRank(comm: ncclComm_t, rank: *mut c_int) {
        put(rank, Comm::find(comm)?.ready()?.rank as c_int)
    }

    fn ncclCommCuDevice(comm: ncclComm_t, device: *mut c_int) {
        put(device, Comm::find(comm)?.device as c_int)
    }

    fn ncclCommGetAsyncError(comm: ncclComm_t, error: *mut ncclResult_t) {
        put(error, Comm::find(comm)?.status())
    }

    /// Waits until its operations have ended, or begins to, if it does not block.
    fn ncclCommFinalize(comm: ncclComm_t) {
        let comm = Comm::find(comm)?;
        comm.ready()?;
        if comm.blocking {
            comm.drain();
            return DONE;
        }
        let busy = comm.call();
        std::thread::spawn(move || {
            comm.drain();
            drop(busy);
        });
        BEGUN
    }

    /// Waits until its operations have ended.
    fn ncclCommDestroy(comm: ncclComm_t) {
        COMMS.remove(comm).ok_or_else(gone)?.drain();
        DONE
    }

    /// Lets go of its operations, whether they can end or not. Other ranks are not told: they go on
    /// waiting, as with ranks of one host.
    fn ncclCommAbort(comm: ncclComm_t) {
        let comm = COMMS.remove(comm).ok_or_else(gone)?;
        comm.abort();
        comm.drain();
        DONE
    }
}
