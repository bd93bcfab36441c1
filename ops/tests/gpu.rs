//! Operations on a GPU, which the mock driver imitates: kernels are executed by the emulator. Without a compiler for
//! them, a line says so, and the suite computes on the CPU.

mod suite;

use std::sync::OnceLock;

use slimpipe_allocator::MemoryBuilder;
use slimpipe_kernels::cuda::compile::{self, ImageKind};
use slimpipe_runtime::{Device, stream};

/// Where the suite computes.
fn device() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    *DEVICE.get_or_init(|| match compile::available() {
        Ok(()) => {
            slimpipe_mock::driver();
            ImageKind::Ptx.choose();
            Device::cuda(0).expect("the mock has a GPU")
        }
        Err(why) => {
            eprintln!("not on a GPU: {why}");
            Device::Cpu
        }
    })
}

/// A memory of that device.
fn memory(builder: MemoryBuilder) -> MemoryBuilder {
    match device() {
        Device::Cuda(ordinal) => {
            builder.source(stream::current(ordinal).expect("a stream").source())
        }
        _ => builder,
    }
}
