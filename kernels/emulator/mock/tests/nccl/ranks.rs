//! Ranks as threads, for all tests of this binary.

use std::{
    ffi::{CStr, c_void},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use cudarc::{
    driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, DeviceRepr},
    nccl::{result, sys},
};
use slimpipe_mock::{Alone, driver, nccl};
pub use sys::{ncclDataType_t as Type, ncclRedOp_t as Op, ncclResult_t as Code};

/// Both mocks for one test.
pub fn alone() -> (Alone<'static>, Alone<'static>) {
    (driver().alone(), nccl().alone())
}

/// Fails a test that would hang.
pub fn within<T: Send + 'static>(
    what: &str,
    limit: Duration,
    body: impl FnOnce() -> T + Send + 'static,
) -> T {
    let worker = thread::spawn(body);
    let end = Instant::now() + limit;
    while !worker.is_finished() {
        assert!(Instant::now() < end, "{what} hangs");
        thread::sleep(Duration::from_millis(1));
    }
    worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A rank: its communicator and a stream on its own device.
pub struct Rank {
    pub rank: usize,
    pub stream: Arc<CudaStream>,
    pub comm: sys::ncclComm_t,
}

// SAFETY: NCCL's communicators may be used from any one thread at a time.
unsafe impl Send for Rank {}

pub type Outcome = Result<(), Code>;

/// The code of an answer; that something has begun counts as success.
pub fn outcome(answer: Code) -> Outcome {
    match answer {
        Code::ncclSuccess | Code::ncclInProgress => Ok(()),
        code => Err(code),
    }
}

/// A configuration as `NCCL_CONFIG_INITIALIZER` makes it.
pub fn config(blocking: bool) -> sys::ncclConfig_t {
    // SAFETY: a structure of plain numbers and pointers, of which zeros are valid.
    let mut config: sys::ncclConfig_t = unsafe { std::mem::zeroed() };
    config.size = size_of::<sys::ncclConfig_t>();
    config.magic = 0xCAFE_BEEF;
    config.version = 23007;
    config.blocking = i32::from(blocking);
    config
}

impl Rank {
    /// Joins `ranks` ranks, on the device of its number.
    pub fn join(rank: usize, ranks: usize, id: sys::ncclUniqueId) -> Result<Rank, Code> {
        let stream = CudaContext::new(rank).unwrap().new_stream().unwrap();
        let mut comm = std::ptr::null_mut();
        // SAFETY: the place is good for writing.
        outcome(unsafe { sys::ncclCommInitRank(&mut comm, ranks as i32, id, rank as i32) })?;
        Ok(Rank { rank, stream, comm })
    }

    /// Joins without waiting.
    pub fn join_later(rank: usize, ranks: usize, id: sys::ncclUniqueId) -> Result<Rank, Code> {
        let stream = CudaContext::new(rank).unwrap().new_stream().unwrap();
        let mut comm = std::ptr::null_mut();
        let (ranks, number) = (ranks as i32, rank as i32);
        // SAFETY: the places are good for reading and writing.
        outcome(unsafe {
            sys::ncclCommInitRankConfig(&mut comm, ranks, id, number, &mut config(false))
        })?;
        Ok(Rank { rank, stream, comm })
    }

    pub fn send<T: DeviceRepr>(&self, data: &CudaSlice<T>, of: Type, to: usize) -> Outcome {
        let address = data.device_ptr(&self.stream).0 as *const c_void;
        let (count, stream) = (data.len(), self.stream.cu_stream().cast());
        // SAFETY: the elements live until the stream has come to them.
        outcome(unsafe { sys::ncclSend(address, count, of, to as i32, self.comm, stream) })
    }

    pub fn receive<T: DeviceRepr>(&self, data: &CudaSlice<T>, of: Type, from: usize) -> Outcome {
        let address = data.device_ptr(&self.stream).0 as *mut c_void;
        let (count, stream) = (data.len(), self.stream.cu_stream().cast());
        // SAFETY: the elements live until the stream has come to them.
        outcome(unsafe { sys::ncclRecv(address, count, of, from as i32, self.comm, stream) })
    }

    /// The sum of one number of every rank.
    pub fn sum(&self, number: f32) -> Result<f32, Code> {
        let data = self.stream.clone_htod(&[number]).unwrap();
        let address = data.device_ptr(&self.stream).0 as *mut c_void;
        let stream = self.stream.cu_stream().cast();
        // SAFETY: the element lives until the stream has come to it.
        outcome(unsafe {
            let (of, sum) = (Type::ncclFloat32, Op::ncclSum);
            sys::ncclAllReduce(address, address, 1, of, sum, self.comm, stream)
        })?;
        Ok(self.stream.clone_dtoh(&data).unwrap()[0])
    }

    /// What the communicator says of itself.
    pub fn status(&self) -> Code {
        let mut status = Code::ncclInternalError;
        // SAFETY: the place is good for writing.
        unsafe { sys::ncclCommGetAsyncError(self.comm, &mut status) };
        status
    }

    /// Waits until the communicator says that nothing is under way.
    pub fn settle(&self) -> Code {
        loop {
            match self.status() {
                Code::ncclInProgress => thread::sleep(Duration::from_micros(200)),
                settled => return settled,
            }
        }
    }

    /// Waits for an asynchronous error; gives its code and text.
    pub fn wait_for_error(&self) -> (Code, String) {
        loop {
            match self.status() {
                Code::ncclSuccess | Code::ncclInProgress => {
                    thread::sleep(Duration::from_millis(1));
                }
                code => return (code, self.last_error()),
            }
        }
    }

    pub fn last_error(&self) -> String {
        // SAFETY: the text lives for good.
        unsafe { CStr::from_ptr(sys::ncclGetLastError(self.comm)) }.to_string_lossy().into_owned()
    }

    pub fn abort(self) {
        // SAFETY: the communicator is not used any more.
        unsafe { result::comm_abort(self.comm) }.unwrap();
    }

    pub fn destroy(self) {
        // SAFETY: the communicator is not used any more.
        unsafe { result::comm_destroy(self.comm) }.unwrap();
    }
}

/// Runs `ranks` ranks as threads and gives their answers in rank order. A rank destroys its
/// communicator when its body is done.
pub fn run<T: Send + 'static>(
    ranks: usize,
    body: impl Fn(&Rank) -> T + Send + Sync + 'static,
) -> Vec<T> {
    let id = result::get_uniqueid().unwrap();
    let body = Arc::new(body);
    within("a run", Duration::from_secs(60), move || {
        let threads: Vec<_> = (0..ranks)
            .map(|number| {
                let body = body.clone();
                thread::spawn(move || {
                    let rank = Rank::join(number, ranks, id).unwrap();
                    let answer = body(&rank);
                    rank.destroy();
                    answer
                })
            })
            .collect();
        let answers = threads.into_iter().map(|thread| thread.join());
        answers.map(|a| a.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}
