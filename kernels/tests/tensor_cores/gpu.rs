//! A mock GPU for tests (or the machine's), its memory, and the schedules under which kernels run.

use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, OnceLock};

use cudarc::driver::sys;
use half::bf16;
use slimpipe_kernels::cuda::compile::{self, ImageKind};
use slimpipe_kernels::cuda::cublaslt::Products;
use slimpipe_kernels::cuda::stream::Priority;
use slimpipe_kernels::cuda::{Context, DevicePtr, Stream, copy};
use slimpipe_mock::Library;

/// One schedule of each kind: at once, at random, and as late as the rules allow.
pub const SCHEDULES: [&str; 3] = ["eager", "random:11", "latest:5"];

pub struct Gpu {
    /// None on a real GPU, which has no schedules to choose from.
    mock: Option<&'static Library>,
    pub stream: Stream,
    alone: Mutex<()>,
}

/// The GPU, or a line that says why the test is skipped.
pub fn gpu() -> Option<&'static Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    let open = || {
        if let Err(why) = compile::available() {
            eprintln!("skipped: {why}");
            return None;
        }
        Products::Own.choose();
        let mock = slimpipe_mock::driver_unless_real();
        if let Some(mock) = mock {
            ImageKind::Ptx.choose();
            // So few that blocks which stay compute several tiles of small problems.
            mock.set("multiprocessors", 3);
            mock.set("threads", std::thread::available_parallelism().map_or(1, usize::from));
        }
        let context = Context::of(0).unwrap();
        let stream = Stream::new(context, Priority::Normal).unwrap();
        Some(Gpu { mock, stream, alone: Mutex::new(()) })
    };
    GPU.get_or_init(open).as_ref()
}

impl Gpu {
    /// What `run` gives, which must be the same under each schedule, bit for bit.
    pub fn under_every_schedule<T: PartialEq + Debug>(&self, run: impl Fn() -> T) -> T {
        let _alone = self.lock();
        let Some(mock) = self.mock else { return run() };
        let mut results = SCHEDULES.map(|schedule| {
            mock.set("policy", schedule);
            (schedule, run())
        });
        let (first, others) = results.split_first_mut().unwrap();
        for (schedule, result) in others {
            assert!(*result == first.1, "{schedule} gives another result than {}", first.0);
        }
        let [(_, result), ..] = results;
        result
    }

    /// What `run` gives where cuBLASLt computes products: the mock's, or, on a real GPU, NVIDIA's if it is there.
    pub fn by_cublaslt<T>(&self, run: impl FnOnce() -> T) -> Option<T> {
        if self.is_mock() {
            slimpipe_mock::cublaslt();
        }
        let _alone = self.lock();
        Products::CublasLt.choose();
        let result = Products::current().is_ok().then(run);
        Products::Own.choose();
        result
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.alone.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether it is the emulator's, on which bugs may be planted.
    pub fn is_mock(&self) -> bool {
        self.mock.is_some()
    }

    /// Waits for the stream; a fault of the emulator is told.
    pub fn wait(&self) {
        if let Err(error) = self.stream.synchronize() {
            panic!("{error}: {}", self.mock.and_then(Library::fault).unwrap_or_default());
        }
    }

    /// Memory with these bytes.
    pub fn upload<T: bytemuck::Pod>(&self, values: &[T]) -> Memory<'_> {
        let memory = self.memory(size_of_val(values));
        let from = values.as_ptr().cast();
        // SAFETY: as many bytes on both sides; the copy is waited for.
        unsafe { copy::to_device(&self.stream, from, memory.at, memory.bytes) }.unwrap();
        self.wait();
        memory
    }

    /// Memory that nothing was written to.
    pub fn memory(&self, bytes: usize) -> Memory<'_> {
        self.stream.context().bind().unwrap();
        let mut at = 0;
        // SAFETY: writes one address.
        let allocated = unsafe { sys::cuMemAlloc_v2(&mut at, bytes.max(1)) };
        assert_eq!(allocated, sys::CUresult::CUDA_SUCCESS);
        Memory { gpu: self, at: DevicePtr(at), bytes }
    }
}

/// Memory of the GPU, exactly as long as was asked for, so that accesses beyond it are faults.
pub struct Memory<'a> {
    gpu: &'a Gpu,
    pub at: DevicePtr,
    bytes: usize,
}

impl Memory<'_> {
    /// What is there.
    pub fn read<T: bytemuck::Pod>(&self) -> Vec<T> {
        let mut values = vec![T::zeroed(); self.bytes / size_of::<T>()];
        let to = values.as_mut_ptr().cast();
        // SAFETY: as many bytes on both sides; the copy is waited for.
        unsafe { copy::to_host(&self.gpu.stream, self.at, to, self.bytes) }.unwrap();
        self.gpu.wait();
        values
    }
}

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        let _ = self.gpu.stream.context().bind();
        // SAFETY: allocated once, freed once; the stream was waited for.
        let _ = unsafe { sys::cuMemFree_v2(self.at.0) };
    }
}

/// A repeatable source of values around 0, of variance 1/3.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> f32 {
        let mut sum = 0.0;
        for _ in 0..4 {
            self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            sum += (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        }
        sum
    }

    pub fn f32(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next()).collect()
    }

    pub fn bf16(&mut self, len: usize) -> Vec<bf16> {
        (0..len).map(|_| bf16::from_f32(self.next())).collect()
    }
}
