//! Barriers in shared memory that count arrivals and bytes.

use crate::fault::{FaultKind, Trouble};

/// Bytes of an mbarrier object.
pub(in crate::exec) const BYTES: u32 = 8;
/// Most arrivals a phase may wait for.
const MOST_ARRIVALS: u32 = (1 << 20) - 1;
/// Most bytes that may be missing or ahead.
const MOST_BYTES: i64 = (1 << 20) - 1;

/// An initialised mbarrier.
#[derive(Clone, Copy, Debug)]
pub(in crate::exec) struct MBarrier {
    /// Arrivals of a phase.
    count: u32,
    /// Arrivals the phase still waits for.
    pub pending: u32,
    /// Bytes the phase still waits for; negative if some came before they were announced.
    pub bytes: i64,
    /// Completed phases.
    pub phase: u64,
    /// Who made it, and when.
    pub maker: (u32, u32),
}

impl MBarrier {
    pub(in crate::exec) fn new(count: u32, maker: (u32, u32)) -> Result<Self, Box<Trouble>> {
        if !(1..=MOST_ARRIVALS).contains(&count) {
            return Err(mbarrier(format!("an mbarrier cannot wait for {count} arrivals")));
        }
        Ok(Self { count, pending: count, bytes: 0, phase: 0, maker })
    }

    /// What an arriving thread gets: the phase and the arrivals it waits for.
    pub(in crate::exec) fn state(&self) -> u64 {
        u64::from(self.pending) << 32 | self.phase & 0xFFFF_FFFF
    }

    pub(in crate::exec) fn arrive(
        &mut self,
        arrivals: u32,
        drop: bool,
    ) -> Result<(), Box<Trouble>> {
        if arrivals == 0 || arrivals > self.pending {
            let what = format!(
                "{arrivals} arrivals at an mbarrier whose phase {} waits for {} of {} \
                 (and {} bytes)",
                self.phase, self.pending, self.count, self.bytes
            );
            return Err(mbarrier(what));
        }
        self.pending -= arrivals;
        if drop {
            self.count -= arrivals;
        }
        self.settle();
        Ok(())
    }

    /// More bytes are to come, or with a negative number came.
    pub(in crate::exec) fn expect(&mut self, bytes: i64) -> Result<(), Box<Trouble>> {
        self.bytes += bytes;
        if self.bytes.abs() > MOST_BYTES {
            let what =
                format!("an mbarrier waits for {} bytes: it cannot count so far", self.bytes);
            return Err(mbarrier(what));
        }
        self.settle();
        Ok(())
    }

    fn settle(&mut self) {
        if self.pending == 0 && self.bytes == 0 {
            self.phase += 1;
            self.pending = self.count;
        }
    }

    /// Whether the phase of that parity is over.
    pub(in crate::exec) fn parity_over(&self, parity: u32) -> bool {
        self.phase & 1 != u64::from(parity & 1)
    }

    /// Whether the phase of that state is over.
    pub(in crate::exec) fn state_over(&self, state: u64) -> bool {
        self.phase & 0xFFFF_FFFF != state & 0xFFFF_FFFF
    }
}

fn mbarrier(what: String) -> Box<Trouble> {
    Trouble::new(FaultKind::Mbarrier, what)
}

/// The mbarriers of a block, by their offset in shared memory.
#[derive(Debug, Default)]
pub(in crate::exec) struct MBarriers {
    list: Vec<(u32, MBarrier)>,
    /// All lie within these offsets.
    span: (u32, u32),
}

impl MBarriers {
    pub(in crate::exec) fn clear(&mut self) {
        self.list.clear();
        self.span = (u32::MAX, 0);
    }

    pub(in crate::exec) fn insert(&mut self, offset: u32, barrier: MBarrier) {
        self.remove(offset);
        self.list.push((offset, barrier));
        self.span = (self.span.0.min(offset), self.span.1.max(offset + BYTES));
    }

    pub(in crate::exec) fn remove(&mut self, offset: u32) -> bool {
        let before = self.list.len();
        self.list.retain(|b| b.0 != offset);
        before != self.list.len()
    }

    pub(in crate::exec) fn get(&mut self, offset: u32) -> Result<&mut MBarrier, Box<Trouble>> {
        match self.list.iter_mut().find(|b| b.0 == offset) {
            Some((_, barrier)) => Ok(barrier),
            None => Err(mbarrier(format!("there is no initialised mbarrier at {offset:#x}"))),
        }
    }

    pub(in crate::exec) fn peek(&self, offset: u32) -> Option<&MBarrier> {
        self.list.iter().find(|b| b.0 == offset).map(|b| &b.1)
    }

    /// The mbarrier that a write to these offsets would destroy.
    #[inline(always)]
    pub(in crate::exec) fn touched(&self, start: u32, end: u32) -> Option<u32> {
        if end <= self.span.0 || start >= self.span.1 {
            return None;
        }
        self.list.iter().map(|b| b.0).find(|&at| start < at + BYTES && end > at)
    }
}
