//! What an H200 says of itself, as far as programs ask.

use std::ffi::c_int;

use cudarc::driver::sys::CUdevice_attribute;

use crate::settings;

/// The name of every device.
pub const NAME: &str = "Mock H200";
/// Threads of a warp.
pub const WARP: u32 = 32;
/// Threads of a block at most.
pub const THREADS_PER_BLOCK: u32 = 1024;
/// Threads of a multiprocessor at most.
pub const THREADS_PER_MULTIPROCESSOR: u32 = 2048;
/// Blocks of a multiprocessor at most.
pub const BLOCKS_PER_MULTIPROCESSOR: u32 = 32;
/// Bytes of shared memory of a block without asking for more.
pub const SHARED_PER_BLOCK: usize = 48 << 10;
/// Bytes of shared memory of a block that asks for them.
pub const SHARED_PER_BLOCK_OPTIN: usize = 227 << 10;
/// Bytes of shared memory of a multiprocessor.
pub const SHARED_PER_MULTIPROCESSOR: usize = 228 << 10;
/// Bytes of shared memory that each block takes besides its own.
pub const SHARED_RESERVED: usize = 1 << 10;
/// 32-bit registers of a block, and of a multiprocessor.
pub const REGISTERS: u32 = 65536;
/// Blocks of a cluster at most that every device of the generation can run.
pub const CLUSTER: u32 = 8;
/// Blocks of a cluster at most that this device can run.
pub const CLUSTER_NON_PORTABLE: u32 = 16;
/// Largest extent of a block in each dimension.
pub const MOST_BLOCK: [u32; 3] = [1024, 1024, 64];
/// Largest extent of a grid in each dimension.
pub const MOST_GRID: [u32; 3] = [0x7FFF_FFFF, 65535, 65535];
/// Stream priorities, the lowest and the highest.
pub const PRIORITIES: (c_int, c_int) = (0, -5);

/// Multiprocessors.
pub fn multiprocessors() -> u32 {
    settings::with(|s| s.multiprocessors) as u32
}

/// An attribute of a device; 0 for what it does not have.
pub fn attribute(attribute: CUdevice_attribute, device: usize) -> c_int {
    use CUdevice_attribute::*;
    match attribute {
        CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK => THREADS_PER_BLOCK as c_int,
        CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X => MOST_BLOCK[0] as c_int,
        CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y => MOST_BLOCK[1] as c_int,
        CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z => MOST_BLOCK[2] as c_int,
        CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X => MOST_GRID[0] as c_int,
        CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y => MOST_GRID[1] as c_int,
        CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z => MOST_GRID[2] as c_int,
        CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK => SHARED_PER_BLOCK as c_int,
        CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY => 64 << 10,
        CU_DEVICE_ATTRIBUTE_WARP_SIZE => WARP as c_int,
        CU_DEVICE_ATTRIBUTE_MAX_PITCH => 0x7FFF_FFFF,
        CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK
        | CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR => REGISTERS as c_int,
        CU_DEVICE_ATTRIBUTE_CLOCK_RATE => 1_980_000,
        CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE => 3_201_000,
        CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH => 6016,
        CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE => 60 << 20,
        CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT | CU_DEVICE_ATTRIBUTE_SURFACE_ALIGNMENT => 512,
        CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT => multiprocessors() as c_int,
        CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR => THREADS_PER_MULTIPROCESSOR as c_int,
        CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR => BLOCKS_PER_MULTIPROCESSOR as c_int,
        CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT => 3,
        CU_DEVICE_ATTRIBUTE_PCI_BUS_ID => 16 + device as c_int,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR => settings::with(|s| s.capability.0),
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR => settings::with(|s| s.capability.1),
        CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR => {
            SHARED_PER_MULTIPROCESSOR as c_int
        }
        CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN => SHARED_PER_BLOCK_OPTIN as c_int,
        CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK => SHARED_RESERVED as c_int,
        CU_DEVICE_ATTRIBUTE_GPU_OVERLAP
        | CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY
        | CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS
        | CU_DEVICE_ATTRIBUTE_ECC_ENABLED
        | CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING
        | CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED
        | CU_DEVICE_ATTRIBUTE_GLOBAL_L1_CACHE_SUPPORTED
        | CU_DEVICE_ATTRIBUTE_LOCAL_L1_CACHE_SUPPORTED
        | CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED
        | CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM
        | CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED
        | CU_DEVICE_ATTRIBUTE_VIRTUAL_ADDRESS_MANAGEMENT_SUPPORTED
        | CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED
        | CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH
        | CU_DEVICE_ATTRIBUTE_TENSOR_MAP_ACCESS_SUPPORTED
        | CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS => 1,
        _ => 0,
    }
}

/// What tells one device from another, on this machine and in other processes.
pub fn uuid(device: usize) -> [u8; 16] {
    let mut uuid = *b"slimpipe-mock-00";
    uuid[14] += (device / 10) as u8;
    uuid[15] += (device % 10) as u8;
    uuid
}
