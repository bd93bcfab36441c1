//! Objects behind opaque handles.

use std::{
    collections::HashMap,
    ffi::c_void,
    sync::{
        Arc, LazyLock, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

/// One counter for all kinds, so that a handle of one kind is never a handle of another.
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// The objects of one kind that are alive, by handle. A handle looks like a pointer and is none:
/// looking up a stale one finds nothing.
pub struct Handles<T>(LazyLock<RwLock<HashMap<usize, Arc<T>>>>);

impl<T> Handles<T> {
    /// No objects.
    pub const fn new() -> Handles<T> {
        Handles(LazyLock::new(RwLock::default))
    }

    /// A handle that no object has yet.
    pub fn fresh() -> usize {
        // Far from small numbers, which the driver gives meanings of their own, and aligned as
        // pointers are.
        0x1000 + 16 * NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// Keeps an object and gives its handle.
    pub fn add<P>(&self, object: Arc<T>) -> *mut P {
        let handle = Self::fresh();
        self.write().insert(handle, object);
        handle as *mut P
    }

    /// The object of a handle, if it is alive.
    pub fn get<P>(&self, handle: *mut P) -> Option<Arc<T>> {
        self.0.read().unwrap_or_else(|e| e.into_inner()).get(&(handle as usize)).cloned()
    }

    /// Forgets a handle; its object lives on as long as somebody uses it.
    pub fn remove<P>(&self, handle: *mut P) -> Option<Arc<T>> {
        self.write().remove(&(handle as usize))
    }

    /// The objects alive now.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.0.read().unwrap_or_else(|e| e.into_inner()).values().cloned().collect()
    }

    /// Forgets every handle.
    pub fn clear(&self) {
        self.write().clear();
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<usize, Arc<T>>> {
        self.0.write().unwrap_or_else(|e| e.into_inner())
    }
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A handle as the number that it is.
pub fn number<P>(handle: *mut P) -> usize {
    handle.cast::<c_void>() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_handle_finds_nothing() {
        static NAMES: Handles<&str> = Handles::new();
        let one: *mut u8 = NAMES.add(Arc::new("one"));
        let two: *mut u8 = NAMES.add(Arc::new("two"));
        assert_ne!(one, two);
        assert_eq!(NAMES.get(one).as_deref(), Some(&"one"));
        assert_eq!(NAMES.remove(one).as_deref(), Some(&"one"));
        assert!(NAMES.get(one).is_none() && NAMES.remove(one).is_none());
        assert_eq!(NAMES.all().len(), 1);
    }
}
