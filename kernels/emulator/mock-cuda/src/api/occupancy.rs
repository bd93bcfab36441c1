//! How many blocks run at the same time.

use std::ffi::{c_int, c_uint};

use cudarc::driver::sys::{CUfunction, CUlaunchConfig, CUoccupancyB2DSize, CUresult};

use super::{function::find, launch::cluster};
use crate::{
    abi::{Answer, driver_functions, put},
    facts,
};

const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;

fn positive(number: c_int) -> Result<u32, CUresult> {
    u32::try_from(number).ok().filter(|n| *n > 0).ok_or(INVALID)
}

/// The largest block that fills a multiprocessor best, and the blocks that fill the device.
///
/// # Safety
/// The places must be null or good for writing, the function one that answers bytes for threads.
unsafe fn potential(
    blocks: *mut c_int,
    threads: *mut c_int,
    function: CUfunction,
    shared_of: CUoccupancyB2DSize,
    shared: usize,
    limit: c_int,
) -> Answer {
    let function = find(function)?;
    let most = function.kernel.max_threads();
    let most = if limit > 0 { most.min(limit as u32) } else { most };
    let score = |size: u32| {
        // SAFETY: promised by the caller.
        let shared = shared_of.map_or(shared, |shared_of| unsafe { shared_of(size as c_int) });
        (function.occupancy(size, shared) * size, size)
    };
    let sizes = (1..=most / facts::WARP).map(|warps| warps * facts::WARP);
    let (filled, best) = sizes.map(score).max().ok_or(INVALID)?;
    // SAFETY: promised by the caller.
    unsafe {
        put(threads, best as c_int)?;
        put(blocks, (filled / best * facts::multiprocessors()) as c_int)
    }
}

driver_functions! {
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        blocks: *mut c_int, function: CUfunction, threads: c_int, shared: usize,
    ) {
        put(blocks, find(function)?.occupancy(positive(threads)?, shared) as c_int)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: *mut c_int, function: CUfunction, threads: c_int, shared: usize, _flags: c_uint,
    ) {
        put(blocks, find(function)?.occupancy(positive(threads)?, shared) as c_int)
    }

    fn cuOccupancyAvailableDynamicSMemPerBlock(
        bytes: *mut usize, function: CUfunction, blocks: c_int, threads: c_int,
    ) {
        let function = find(function)?;
        let blocks = positive(blocks)?;
        if function.occupancy(positive(threads)?, 0) < blocks {
            return Err(INVALID);
        }
        let share = facts::SHARED_PER_MULTIPROCESSOR / blocks as usize;
        let taken = facts::SHARED_RESERVED + function.kernel.static_shared() as usize;
        put(bytes, share.saturating_sub(taken).min(facts::SHARED_PER_BLOCK_OPTIN))
    }

    fn cuOccupancyMaxPotentialBlockSize(
        blocks: *mut c_int,
        threads: *mut c_int,
        function: CUfunction,
        shared_of: CUoccupancyB2DSize,
        shared: usize,
        limit: c_int,
    ) {
        potential(blocks, threads, function, shared_of, shared, limit)
    }

    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        blocks: *mut c_int,
        threads: *mut c_int,
        function: CUfunction,
        shared_of: CUoccupancyB2DSize,
        shared: usize,
        limit: c_int,
        _flags: c_uint,
    ) {
        potential(blocks, threads, function, shared_of, shared, limit)
    }

    fn cuOccupancyMaxPotentialClusterSize(
        blocks: *mut c_int, function: CUfunction, _config: *const CUlaunchConfig,
    ) {
        let function = find(function)?;
        let free = function.non_portable_cluster.load(std::sync::atomic::Ordering::Relaxed);
        put(blocks, if free { facts::CLUSTER_NON_PORTABLE } else { facts::CLUSTER } as c_int)
    }

    fn cuOccupancyMaxActiveClusters(
        clusters: *mut c_int, function: CUfunction, config: *const CUlaunchConfig,
    ) {
        let function = find(function)?;
        let config = config.as_ref().ok_or(INVALID)?;
        let threads = config.blockDimX * config.blockDimY * config.blockDimZ;
        let per_multiprocessor = function.occupancy(threads, config.sharedMemBytes as usize);
        let size = cluster(config)?.or(function.kernel.cluster()).unwrap_or([1; 3]);
        let size = size.iter().product::<u32>().max(1);
        put(clusters, (per_multiprocessor * facts::multiprocessors() / size) as c_int)
    }
}
