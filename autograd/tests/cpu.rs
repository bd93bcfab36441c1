//! Gradients on the CPU, the tape, what is allocated, and custom operations.

#[path = "suite/allocations.rs"]
mod allocations;
#[path = "suite/custom.rs"]
mod custom;
mod suite;
#[path = "suite/tape.rs"]
mod tape;

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
