//! A GPU for tests whose bodies run on the CPU too: that of the mock driver, whose kernels the emulator executes.

use std::sync::OnceLock;

use slimpipe_allocator::MemoryBuilder;
use slimpipe_kernels::cuda::compile::{self, ImageKind};
use slimpipe_runtime::{Device, stream};

/// The mock's GPU. Where kernels can be neither compiled nor found, a line says so, and tests compute on the CPU.
///
/// # Panics
/// The mock cannot be opened; a test that uses it must depend on it, so that cargo builds it.
pub fn device() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    *DEVICE.get_or_init(|| match compile::available() {
        Ok(()) => {
            if slimpipe_mock::driver_unless_real().is_some() {
                ImageKind::Ptx.choose();
            }
            Device::cuda(0).expect("the mock has a GPU")
        }
        Err(why) => {
            eprintln!("not on a GPU: {why}");
            Device::Cpu
        }
    })
}

/// A memory of that device.
///
/// # Panics
/// The GPU has no stream left.
pub fn memory(builder: MemoryBuilder) -> MemoryBuilder {
    match device() {
        Device::Cuda(ordinal) => {
            builder.source(stream::current(ordinal).expect("a stream").source())
        }
        Device::Cpu | Device::Meta => builder,
    }
}
