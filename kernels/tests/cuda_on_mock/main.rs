//! The layer between launchers and the driver, on the mock driver.

mod kernels;
mod memory;
mod order;

use slimpipe_kernels::cuda::compile::{Compiler, ImageKind};
use slimpipe_kernels::cuda::stream::Priority;
use slimpipe_kernels::cuda::{Context, DevicePtr, Range, Stream, copy};
use slimpipe_mock::{Alone, driver};

/// A GPU of the mock, to be used alone, and a stream on it.
struct Rig {
    context: &'static Context,
    stream: Stream,
    _alone: Alone<'static>,
}

impl Rig {
    /// Streams begin their operations in the given order: `eager`, `random:SEED` or `late`.
    fn new(order: &str) -> Self {
        let alone = driver().alone();
        driver().set("order", order);
        ImageKind::Ptx.choose();
        let context = Context::of(0).unwrap();
        let stream = Stream::new(context, Priority::Normal).unwrap();
        Self { context, stream, _alone: alone }
    }

    /// Committed memory of that many bytes.
    fn range(&self, bytes: u64) -> Range {
        let mut range = Range::reserve(self.context, 1 << 30).unwrap();
        range.commit(bytes).unwrap();
        range
    }

    /// Copies to the GPU, and waits.
    fn write<T: bytemuck::Pod>(&self, to: DevicePtr, values: &[T]) {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        // SAFETY: tests write to memory that they committed; waited for just after.
        unsafe { copy::to_device(&self.stream, bytes.as_ptr(), to, bytes.len()) }.unwrap();
        self.stream.synchronize().unwrap();
    }

    /// Copies from the GPU what is there when the stream has done all it was given.
    fn read<T: bytemuck::Pod>(&self, from: DevicePtr, count: usize) -> Vec<T> {
        let mut values = vec![T::zeroed(); count];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
        // SAFETY: tests read memory that they committed; waited for just after.
        unsafe { copy::to_host(&self.stream, from, bytes.as_mut_ptr(), bytes.len()) }.unwrap();
        self.stream.synchronize().unwrap();
        values
    }
}

/// Whether kernels can be compiled; else a line says why the test is skipped.
fn has_compiler() -> bool {
    Compiler::find().inspect_err(|why| eprintln!("skipped: no NVRTC here ({why})")).is_ok()
}
