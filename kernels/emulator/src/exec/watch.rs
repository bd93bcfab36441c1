//! Who may touch shared memory now: what asynchronous work still uses, and what the async proxy
//! cannot see yet.

use crate::fault::{FaultKind, Trouble};

/// Bytes that asynchronous work uses.
#[derive(Clone, Copy, Debug)]
struct Use {
    start: u32,
    end: u32,
    writes: bool,
    /// The work.
    id: u64,
    /// The instruction that issued it.
    pc: u32,
}

/// Bytes of a granule whose last generic writer is known.
const GRANULE: u32 = 16;

/// Watches the shared memory of one block.
#[derive(Debug, Default)]
pub(super) struct Watch {
    uses: Vec<Use>,
    /// Last generic writer of each granule: time in the upper half, thread plus one in the lower.
    writers: Vec<u64>,
    /// When each thread last made its writes to shared memory visible to the async proxy.
    fences: Vec<u32>,
    /// The same of its writes to global memory.
    global_fences: Vec<u32>,
    /// When each thread last made its mbarriers visible to it.
    init_fences: Vec<u32>,
}

impl Watch {
    /// Begins a block's life. Writers are only remembered if something reads by the async proxy.
    pub(super) fn start(&mut self, bytes: u32, threads: u32, remember: bool) {
        self.uses.clear();
        self.writers.clear();
        if remember {
            self.writers.resize(bytes.div_ceil(GRANULE) as usize, 0);
        }
        for fences in [&mut self.fences, &mut self.global_fences, &mut self.init_fences] {
            fences.clear();
            fences.resize(threads as usize, 0);
        }
    }

    /// Work begins to use bytes.
    pub(super) fn begin(&mut self, start: u32, bytes: u32, writes: bool, id: u64, pc: u32) {
        self.uses.push(Use { start, end: start + bytes, writes, id, pc });
    }

    /// Work has done with all its bytes.
    pub(super) fn end(&mut self, id: u64) {
        self.uses.retain(|u| u.id != id);
    }

    /// The instruction whose work still uses bytes of the block.
    pub(super) fn any_use(&self) -> Option<(u32, bool)> {
        self.uses.first().map(|u| (u.pc, u.writes))
    }

    /// Refuses an access that meets what is under way: any access meets writes, writes meet reads.
    #[inline(always)]
    pub(super) fn check(&self, start: u32, end: u32, write: bool) -> Result<(), Conflict> {
        for u in &self.uses {
            if start < u.end && end > u.start && (write || u.writes) {
                return Err(Conflict { pc: u.pc, start: u.start, end: u.end, writes: u.writes });
            }
        }
        Ok(())
    }

    /// Whether writers are remembered.
    pub(super) fn remembers(&self) -> bool {
        !self.writers.is_empty()
    }

    /// A thread wrote bytes by the generic proxy.
    #[inline(always)]
    pub(super) fn wrote(&mut self, start: u32, end: u32, thread: u32, now: u32) {
        if self.writers.is_empty() {
            return;
        }
        let record = u64::from(now) << 32 | u64::from(thread + 1);
        for granule in start / GRANULE..end.div_ceil(GRANULE) {
            self.writers[granule as usize] = record;
        }
    }

    /// The async proxy wrote bytes: it sees them.
    pub(super) fn overwritten(&mut self, start: u32, end: u32) {
        if !self.writers.is_empty() {
            let range = (start / GRANULE) as usize..end.div_ceil(GRANULE) as usize;
            self.writers[range].fill(0);
        }
    }

    /// A thread makes what it wrote visible to the async proxy.
    pub(super) fn fence(&mut self, thread: u32, now: u32, shared: bool, global: bool) {
        if shared {
            self.fences[thread as usize] = now;
        }
        if global {
            self.global_fences[thread as usize] = now;
        }
    }

    /// When a thread last made its writes to global memory visible.
    pub(super) fn global_fence(&self, thread: u32) -> u32 {
        self.global_fences.get(thread as usize).copied().unwrap_or(0)
    }

    /// A thread makes its mbarriers visible to it.
    pub(super) fn init_fence(&mut self, thread: u32, now: u32) {
        self.init_fences[thread as usize] = now;
    }

    /// Whether the async proxy sees the mbarrier that `maker` made.
    pub(super) fn sees_mbarrier(&self, (thread, made): (u32, u32), reader: u32) -> bool {
        let thread = thread as usize;
        self.init_fences[thread] > made
            || self.fences[thread] > made
            || self.fences.get(reader as usize).is_some_and(|&f| f > made)
    }

    /// The thread whose write to these bytes the async proxy does not see when `reader` sends it.
    pub(super) fn unseen(&mut self, start: u32, end: u32, reader: u32) -> Option<u32> {
        if self.writers.is_empty() {
            return None;
        }
        for granule in start / GRANULE..end.div_ceil(GRANULE) {
            let record = &mut self.writers[granule as usize];
            if *record == 0 {
                continue;
            }
            let (time, thread) = ((*record >> 32) as u32, *record as u32 - 1);
            let fenced = |t: u32| self.fences.get(t as usize).is_some_and(|&f| f > time);
            if !fenced(thread) && !fenced(reader) {
                return Some(thread);
            }
            *record = 0;
        }
        None
    }
}

/// Two uses of the same bytes.
pub(super) struct Conflict {
    pub pc: u32,
    pub start: u32,
    pub end: u32,
    pub writes: bool,
}

impl Conflict {
    /// The fault, for whoever touches `start..end`; `line` is where the other use was issued.
    pub(super) fn trouble(&self, access: &str, at: u32, line: u32) -> Box<Trouble> {
        let how = if self.writes { "writes" } else { "reads" };
        let what = format!(
            "{access} shared memory at {at:#x}, while the work issued at line {line} still {how} \
             {:#x}..{:#x}: a wait is missing",
            self.start, self.end
        );
        Trouble::new(FaultKind::Race, what)
    }
}
