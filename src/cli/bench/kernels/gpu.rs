//! A GPU, memory of it, and times on it.

use half::bf16;
use serde_json::{Value, json};
use slimpipe::kernels::cuda::stream::Priority;
use slimpipe::kernels::cuda::{Context, CudaError, DevicePtr, Event, Range, Stream, copy};

/// Addresses for the tensors of one case.
const CAPACITY: u64 = 64 << 30;

/// The GPU that is measured.
pub struct Gpu {
    context: &'static Context,
    pub stream: Stream,
    memory: Range,
    used: u64,
}

impl Gpu {
    pub fn open(ordinal: u32) -> Result<Self, CudaError> {
        let context = Context::of(ordinal)?;
        let stream = Stream::new(context, Priority::Normal)?;
        let memory = Range::reserve(context, CAPACITY)?;
        Ok(Self { context, stream, memory, used: 0 })
    }

    /// What it is.
    pub fn facts(&self) -> Value {
        let facts = self.context.facts();
        json!({"gpu": facts.name, "driver": facts.driver.to_string(), "memory_bytes": facts.memory})
    }

    /// Forgets all tensors.
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// Room for `bytes` bytes.
    pub fn room(&mut self, bytes: usize) -> Result<DevicePtr, CudaError> {
        let start = self.used;
        self.used = (start + bytes as u64).next_multiple_of(1024);
        self.memory.commit(self.used)?;
        Ok(self.memory.start().offset(start))
    }

    /// Room with zeros in it.
    pub fn zeros(&mut self, bytes: usize) -> Result<DevicePtr, CudaError> {
        let at = self.room(bytes)?;
        // SAFETY: just taken; the stream alone uses it.
        unsafe { copy::fill(&self.stream, at, 0, bytes) }?;
        Ok(at)
    }

    /// These numbers on the GPU.
    pub fn upload(&mut self, values: &[bf16]) -> Result<DevicePtr, CudaError> {
        let bytes = size_of_val(values);
        let at = self.room(bytes)?;
        // SAFETY: as many bytes on both sides, and waited for.
        unsafe { copy::to_device(&self.stream, values.as_ptr().cast(), at, bytes) }?;
        self.stream.synchronize()?;
        Ok(at)
    }

    /// `len` elements from the GPU.
    pub fn download<T: Copy + Default>(
        &self,
        at: DevicePtr,
        len: usize,
    ) -> Result<Vec<T>, CudaError> {
        let mut values = vec![T::default(); len];
        let bytes = size_of_val(&values[..]);
        // SAFETY: as many bytes on both sides, and waited for; elements are plain numbers.
        unsafe { copy::to_host(&self.stream, at, values.as_mut_ptr().cast(), bytes) }?;
        self.stream.synchronize()?;
        Ok(values)
    }

    /// Milliseconds of each of `runs` calls of `launch`, after one that is not counted.
    pub fn time(
        &self,
        runs: usize,
        launch: impl Fn(&Stream) -> Result<(), CudaError>,
    ) -> Result<Vec<f64>, CudaError> {
        let (start, end) = (Event::timed(self.context)?, Event::timed(self.context)?);
        launch(&self.stream)?;
        let one = |_| {
            self.stream.record(&start)?;
            launch(&self.stream)?;
            self.stream.record(&end)?;
            end.synchronize()?;
            Ok(f64::from(end.elapsed(&start)?))
        };
        (0..runs).map(one).collect()
    }
}
