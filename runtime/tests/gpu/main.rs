//! Tensors and a rank's memory on a GPU, on the mock driver.

mod memory;
mod offload;
mod tensors;

use slimpipe_kernels::cuda::{DevicePtr, copy};
use slimpipe_mock::{Alone, driver};
use slimpipe_runtime::stream::{StreamGuard, Streams};
use slimpipe_runtime::{Device, RawTensor};

const GPU: Device = Device::Cuda(0);

/// A rank's streams on a GPU of the mock, which is used alone.
struct Rig {
    _entered: StreamGuard,
    streams: Streams,
    _alone: Alone<'static>,
}

impl Rig {
    /// Streams begin their operations in the given order: `eager`, `random:SEED` or `late`.
    fn new(order: &str) -> Self {
        let alone = driver().alone();
        driver().set("order", order);
        let streams = Streams::new(0).unwrap();
        Self { _entered: streams.enter(), streams, _alone: alone }
    }

    /// Has the GPU set bytes, behind what it computes.
    fn fill(&self, at: DevicePtr, byte: u8, bytes: usize) {
        // SAFETY: tests fill what they allocated, in the order of the compute stream.
        unsafe { copy::fill(self.streams.compute(), at, byte, bytes) }.unwrap();
    }

    /// What the GPU has there, when it has computed all it was given.
    fn read(&self, at: DevicePtr, bytes: usize) -> Vec<u8> {
        let mut found = vec![0; bytes];
        // SAFETY: tests read what they allocated; waited for just after.
        unsafe { copy::to_host(self.streams.compute(), at, found.as_mut_ptr(), bytes) }.unwrap();
        self.streams.compute().synchronize().unwrap();
        found
    }
}

fn counted(shape: &[usize], device: Device) -> RawTensor {
    let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| i as f32).collect();
    RawTensor::from_slice(&values, shape, device).unwrap()
}
