//! A GPU, buffers on it, inputs and comparisons.

use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, OnceLock};

use bytemuck::Pod;
use cudarc::driver::result;
use half::bf16;
use proptest::test_runner::Config;
use slimpipe_kernels::cpu::simd::Scalar;
use slimpipe_kernels::cuda::compile::{self, ImageKind};
use slimpipe_kernels::cuda::stream::Priority;
use slimpipe_kernels::cuda::{Context, DevicePtr, Float, Stream, copy};
use slimpipe_mock::Library;

use super::figures::assert_within;

/// How the emulator schedules warps and asynchronous work.
const SCHEDULES: [&str; 3] = ["eager", "random:7", "latest:7"];

/// A float that kernels are compiled for.
pub trait Element: Scalar + Pod + PartialEq + Into<f64> + std::fmt::Debug {
    const FLOAT: Float;
}

impl Element for f32 {
    const FLOAT: Float = Float::F32;
}

impl Element for bf16 {
    const FLOAT: Float = Float::Bf16;
}

/// The mock's GPU, or the machine's. One test has it at a time, for schedules are the whole process's.
pub struct Gpu {
    pub stream: Stream,
    /// None on a real GPU, which has no schedules to choose from.
    pub mock: Option<&'static Library>,
}

/// The GPU, or a line that says why the test is skipped.
pub fn gpu() -> Option<MutexGuard<'static, Gpu>> {
    static GPU: OnceLock<Option<Mutex<Gpu>>> = OnceLock::new();
    let gpu = GPU.get_or_init(|| {
        if let Err(why) = compile::available() {
            eprintln!("skipped: {why}");
            return None;
        }
        let mock = slimpipe_mock::driver_unless_real();
        if mock.is_some() {
            ImageKind::Ptx.choose();
        }
        let context = Context::of(0).expect("a GPU");
        let stream = Stream::new(context, Priority::Normal).expect("a stream");
        Some(Mutex::new(Gpu { stream, mock }))
    });
    Some(gpu.as_ref()?.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

impl Gpu {
    /// Runs `f` on every schedule; the results must be equal.
    #[track_caller]
    pub fn schedules<R: PartialEq + std::fmt::Debug>(&self, f: impl Fn() -> R) -> R {
        let Some(mock) = self.mock else { return f() };
        let [eager, others @ ..] = SCHEDULES.map(|schedule| {
            mock.set("policy", schedule);
            f()
        });
        for (other, name) in others.iter().zip(&SCHEDULES[1..]) {
            assert!(*other == eager, "{name} gives other bits than {}", SCHEDULES[0]);
        }
        eager
    }

    /// A buffer with `values` in it.
    pub fn with<T: Pod>(&self, values: &[T]) -> Buffer<T> {
        self.with_at(0, values)
    }

    /// The same, `skip` elements behind an aligned address.
    pub fn with_at<T: Pod>(&self, skip: usize, values: &[T]) -> Buffer<T> {
        let buffer = self.empty_at(skip, values.len());
        let bytes: &[u8] = bytemuck::cast_slice(values);
        // SAFETY: the buffer is as long; the host's bytes are read before anything else happens.
        unsafe { copy::to_device(&self.stream, bytes.as_ptr(), buffer.at, bytes.len()) }.unwrap();
        self.stream.synchronize().unwrap();
        buffer
    }

    /// A buffer of `len` elements, none of which was written.
    pub fn empty<T: Pod>(&self, len: usize) -> Buffer<T> {
        self.empty_at(0, len)
    }

    /// The same, `skip` elements behind an aligned address.
    pub fn empty_at<T: Pod>(&self, skip: usize, len: usize) -> Buffer<T> {
        self.stream.context().bind().unwrap();
        let bytes = ((skip + len) * size_of::<T>()).max(1);
        // SAFETY: freed when the buffer goes.
        let start = unsafe { result::malloc_sync(bytes) }.unwrap();
        let at = DevicePtr(start).offset((skip * size_of::<T>()) as u64);
        Buffer { start, at, len, elements: PhantomData }
    }

    /// What a buffer holds once all that was enqueued is done.
    pub fn read<T: Pod>(&self, buffer: &Buffer<T>) -> Vec<T> {
        let mut values = vec![T::zeroed(); buffer.len];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
        // SAFETY: the buffer is as long, and the stream is waited for before the bytes are used.
        unsafe { copy::to_host(&self.stream, buffer.at, bytes.as_mut_ptr(), bytes.len()) }.unwrap();
        let fault = self.stream.synchronize();
        let told = || self.mock.and_then(Library::fault).unwrap_or_default();
        assert!(fault.is_ok(), "{fault:?} {}", told());
        values
    }
}

/// Memory on the GPU: an allocation of its own, so that whoever leaves it is found out.
pub struct Buffer<T> {
    start: u64,
    pub at: DevicePtr,
    len: usize,
    elements: PhantomData<T>,
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // SAFETY: allocated once, freed once; the mock waits for what still uses it.
        let _ = unsafe { result::free_sync(self.start) };
    }
}

/// A few cases of properties: each of them is compiled code run in an interpreter, three times.
pub fn cases(cases: u32) -> Config {
    Config { cases, max_shrink_iters: 32, failure_persistence: None, ..Config::default() }
}

/// Numbers that look random, roughly normal, rounded to `T`.
pub fn random<T: Scalar>(seed: u64, len: usize) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..len).map(|_| T::from_f32((0..3).map(|_| next()).sum())).collect()
}

/// The values, exactly.
pub fn f64s<T: Scalar>(values: &[T]) -> Vec<f64> {
    values.iter().map(|value| f64::from(value.to_f32())).collect()
}

/// What a rounding to `T` and a computation in f32 may differ by, relative.
pub fn tolerance<T: Element>() -> f64 {
    if T::FLOAT == Float::F32 { 2e-6 } else { 1.0 / 256.0 }
}

/// Compares each element, relative to its size and the typical size of all.
#[track_caller]
pub fn assert_close<T: Scalar>(what: &str, actual: &[T], expected: &[f64], tolerance: f64) {
    assert_near(what, actual, expected, tolerance, 0.0);
}

/// The same where elements may cancel out: `terms` is what goes into them.
#[track_caller]
pub fn assert_near<T: Scalar>(
    what: &str,
    actual: &[T],
    expected: &[f64],
    tolerance: f64,
    terms: f64,
) {
    assert_eq!(actual.len(), expected.len(), "{what}: number of elements");
    let squares: f64 = expected.iter().map(|e| e * e).sum();
    let typical = (squares / expected.len().max(1) as f64).sqrt().max(terms);
    for (i, (actual, e)) in f64s(actual).into_iter().zip(expected).enumerate() {
        let allowed = tolerance * (e.abs() + typical);
        // Written so that a NaN fails.
        assert!(
            (actual - e).abs() <= allowed || (actual.is_nan() && e.is_nan()),
            "{what}, element {i}: {actual} instead of {e}, allowed {allowed:e}"
        );
    }
}

/// Holds what a kernel for bf16 computes to the figure for such kernels, as a whole.
#[track_caller]
pub fn assert_figure<T: Element>(
    what: &'static str,
    actual: &[impl Scalar + Into<f64>],
    expected: &[f64],
    most: f64,
) {
    if T::FLOAT == Float::Bf16 {
        assert_within(what, actual, expected, most, &actual.len());
    }
}

/// Runs a generic check for both floats.
macro_rules! both {
    ($check:ident($($arg:expr),* $(,)?)) => {{
        $check::<f32>($($arg),*);
        $check::<half::bf16>($($arg),*);
    }};
}
pub(crate) use both;
