//! Operations on the CPU.

mod suite;
#[path = "suite/threads.rs"]
mod threads;

use slimpipe_allocator::MemoryBuilder;
use slimpipe_runtime::Device;

/// Where the suite computes.
fn device() -> Device {
    Device::Cpu
}

/// A memory of that device.
fn memory(builder: MemoryBuilder) -> MemoryBuilder {
    builder
}
