//! Names of allocations that are known at run time only.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// `name` as what allocations can be called by. It stays for as long as the process runs, once however often
/// it is asked for: meant for names of which there are few, such as those of parameters.
///
/// ```
/// use slimpipe_allocator::{Memory, allocate, intern};
/// let memory = Memory::builder(0).build();
/// let _entered = memory.enter();
/// let weight = "head.weight".to_owned();
/// let moment = allocate(4096, intern(&format!("adam m {weight}")))?;
/// assert_eq!(memory.stats().total.active.current, 4096);
/// # drop(moment);
/// # Ok::<(), slimpipe_allocator::AllocError>(())
/// ```
pub fn intern(name: &str) -> &'static str {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    let name: &'static str = Box::leak(name.into());
    names.insert(name);
    name
}
