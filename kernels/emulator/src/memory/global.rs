//! The device's global memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::MemoryError;
use super::allocation::{ALIGNMENT, Allocation};
use super::view::View;

/// Global memory of one device: live allocations with host bytes behind them.
///
/// Addresses are never used twice, and allocations have gaps between them, so that an access
/// outside a live allocation is always found.
#[derive(Debug)]
pub struct Memory {
    state: RwLock<State>,
    /// Changes with every allocation and free.
    generation: AtomicU64,
}

#[derive(Debug)]
struct State {
    live: BTreeMap<u64, Arc<Allocation>>,
    /// First address and end of what was freed.
    freed: BTreeMap<u64, u64>,
    next: u64,
    /// Addresses of a module's variables, by the module's number.
    modules: HashMap<u64, Arc<[u64]>>,
}

/// Where allocations begin; small integers are no addresses.
const FIRST: u64 = 0x10_0000_0000;
/// Unused bytes between allocations.
const GAP: u64 = 4096;

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// Memory without allocations.
    pub fn new() -> Self {
        let state = State {
            live: BTreeMap::new(),
            freed: BTreeMap::new(),
            next: FIRST,
            modules: HashMap::new(),
        };
        Self { state: RwLock::new(state), generation: AtomicU64::new(0) }
    }

    /// Allocates bytes, aligned to 256, and fills them with `0xCD`.
    pub fn allocate(&self, bytes: usize) -> u64 {
        let mut state = self.state.write();
        let address = state.next;
        let allocation = Arc::new(Allocation::new(address, bytes));
        let end = (allocation.end() + GAP).next_multiple_of(ALIGNMENT as u64);
        state.next = end;
        state.live.insert(address, allocation);
        self.generation.fetch_add(1, Ordering::Release);
        address
    }

    /// Frees the allocation that begins at `address`. Launches that run keep its bytes until they
    /// look at memory again; later accesses fail.
    ///
    /// # Errors
    /// If no live allocation of [`allocate`](Self::allocate) begins there.
    pub fn free(&self, address: u64) -> Result<(), MemoryError> {
        let mut state = self.state.write();
        match state.live.get(&address) {
            Some(allocation) if allocation.is_owned() => {
                let end = allocation.end();
                state.live.remove(&address);
                state.freed.insert(address, end);
            }
            _ => return Err(MemoryError::Unknown { address }),
        }
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Puts host bytes behind device addresses of the caller's choice.
    ///
    /// # Errors
    /// If a live range has one of these addresses.
    ///
    /// # Safety
    /// `host` must have `bytes` bytes that stay valid until [`unmap`](Self::unmap) returns and all
    /// launches that began before have ended. `address` and `host` must agree modulo 16.
    pub unsafe fn map(&self, address: u64, host: *mut u8, bytes: usize) -> Result<(), MemoryError> {
        let mut state = self.state.write();
        let end = address + bytes as u64;
        let before = state.live.range(..end).next_back();
        if before.is_some_and(|(_, a)| a.end() > address) {
            return Err(MemoryError::Overlap { address, bytes });
        }
        state.live.insert(address, Arc::new(Allocation::borrowed(address, host, bytes)));
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Takes back what [`map`](Self::map) put at `address`.
    ///
    /// # Errors
    /// If no mapped range begins there.
    pub fn unmap(&self, address: u64) -> Result<(), MemoryError> {
        let mut state = self.state.write();
        match state.live.get(&address) {
            Some(allocation) if !allocation.is_owned() => {
                state.live.remove(&address);
            }
            _ => return Err(MemoryError::Unknown { address }),
        }
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Copies bytes out.
    ///
    /// # Errors
    /// If they are not all in one live allocation.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), MemoryError> {
        let mut view = View::new(self);
        let source = view.locate(address, bytes.len())?;
        // SAFETY: the view found that many live bytes there, and holds them.
        unsafe { source.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// If they are not all in one live allocation.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let mut view = View::new(self);
        let target = view.locate(address, bytes.len())?;
        // SAFETY: the view found that many live bytes there, and holds them.
        unsafe { target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// All live allocations, in order of their addresses.
    pub(super) fn live(&self) -> Vec<Arc<Allocation>> {
        self.state.read().live.values().cloned().collect()
    }

    /// Why an access fails that no live allocation holds.
    pub(super) fn explain(&self, address: u64, bytes: usize) -> MemoryError {
        let state = self.state.read();
        let freed = state.freed.range(..=address).next_back();
        if freed.is_some_and(|(_, &end)| address < end) {
            return MemoryError::Freed { address, bytes };
        }
        let below = state.live.range(..=address).next_back();
        let nearest = match below {
            Some((_, a)) => {
                format!("; the nearest below has {} bytes and ends at {:#x}", a.bytes, a.end())
            }
            None => String::new(),
        };
        MemoryError::OutOfBounds { address, bytes, nearest }
    }

    /// Addresses of a module's variables; `make` allocates and fills them the first time.
    pub(crate) fn module(&self, number: u64, make: impl FnOnce() -> Vec<u64>) -> Arc<[u64]> {
        if let Some(addresses) = self.state.read().modules.get(&number) {
            return Arc::clone(addresses);
        }
        let addresses: Arc<[u64]> = make().into();
        Arc::clone(self.state.write().modules.entry(number).or_insert(addresses))
    }
}
