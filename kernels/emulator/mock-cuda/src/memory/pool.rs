//! Pools of stream-ordered allocation. They keep nothing back: what is freed is free at once, so
//! that a use after the free is seen.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};

use cudarc::driver::sys::{CUmemPool_attribute, CUmemoryPool, CUresult};
use slimpipe_mock_protocol::handles::Handles;

use crate::settings::MOST_DEVICES;

/// Pools by handle.
pub static POOLS: Handles<Pool> = Handles::new();

/// A pool of one device.
pub struct Pool {
    /// The device's ordinal.
    pub device: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: u64,
    high: u64,
    set: HashMap<u32, u64>,
}

impl Pool {
    /// A pool with nothing allocated from it.
    pub fn new(device: usize) -> Arc<Pool> {
        Arc::new(Pool { device, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Notes an allocation.
    pub fn add(&self, bytes: usize) {
        let mut state = self.state();
        state.used += bytes as u64;
        state.high = state.high.max(state.used);
    }

    /// Notes a free.
    pub fn subtract(&self, bytes: usize) {
        self.state().used -= bytes as u64;
    }

    /// An attribute's value.
    pub fn attribute(&self, attribute: CUmemPool_attribute) -> u64 {
        use CUmemPool_attribute::*;
        let state = self.state();
        match attribute {
            CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT | CU_MEMPOOL_ATTR_USED_MEM_CURRENT => state.used,
            CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH | CU_MEMPOOL_ATTR_USED_MEM_HIGH => state.high,
            CU_MEMPOOL_ATTR_RELEASE_THRESHOLD => {
                state.set.get(&(attribute as u32)).copied().unwrap_or(0)
            }
            _ => state.set.get(&(attribute as u32)).copied().unwrap_or(1),
        }
    }

    /// Changes an attribute. High-water marks can only be set to 0, and start anew.
    ///
    /// # Errors
    /// `CUDA_ERROR_INVALID_VALUE` for what cannot be changed.
    pub fn set_attribute(&self, what: CUmemPool_attribute, value: u64) -> Result<(), CUresult> {
        use CUmemPool_attribute::*;
        let mut state = self.state();
        match what {
            CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT | CU_MEMPOOL_ATTR_USED_MEM_CURRENT => {
                return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
            }
            CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH | CU_MEMPOOL_ATTR_USED_MEM_HIGH if value != 0 => {
                return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
            }
            CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH | CU_MEMPOOL_ATTR_USED_MEM_HIGH => {
                state.high = state.used;
            }
            _ => _ = state.set.insert(what as u32, value),
        }
        Ok(())
    }
}

/// A device's own pool and the one in use, by handle.
struct Pools {
    own: usize,
    current: Mutex<usize>,
}

static OF_DEVICE: [OnceLock<Pools>; MOST_DEVICES] = [const { OnceLock::new() }; MOST_DEVICES];

fn pools(device: usize) -> &'static Pools {
    OF_DEVICE[device].get_or_init(|| {
        let own = POOLS.add::<()>(Pool::new(device)) as usize;
        Pools { own, current: Mutex::new(own) }
    })
}

/// A device's own pool.
pub fn own(device: usize) -> CUmemoryPool {
    pools(device).own as CUmemoryPool
}

/// The pool that a device's allocations come from.
pub fn current(device: usize) -> CUmemoryPool {
    *pools(device).current.lock().unwrap_or_else(|e| e.into_inner()) as CUmemoryPool
}

/// Changes the pool that a device's allocations come from.
pub fn set_current(device: usize, pool: CUmemoryPool) {
    *pools(device).current.lock().unwrap_or_else(|e| e.into_inner()) = pool as usize;
}
