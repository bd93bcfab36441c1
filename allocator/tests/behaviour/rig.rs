//! The memory that a behaviour is checked on, and what holds for it in the end.

use std::cell::RefCell;
use std::fs::File;
use std::path::PathBuf;

use slimpipe_allocator::events::{Log, What};
use slimpipe_allocator::{Bytes, Memory, MemoryBuilder, MemoryStats};
use tempfile::TempDir;

/// An adaptor that must not change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A limit out of reach.
    Limit,
    Poison,
    Trace,
    /// A failure that never comes.
    FailNth,
}

/// Makes memories with one combination of adaptors.
pub struct Rig {
    adaptors: &'static [Kind],
    folder: TempDir,
    made: RefCell<Vec<Memory>>,
}

/// Checks a behaviour on memory with these adaptors.
pub fn check(adaptors: &'static [Kind], behaviour: fn(&Rig)) {
    let rig = Rig { adaptors, folder: TempDir::new().unwrap(), made: RefCell::default() };
    behaviour(&rig);
    rig.finish();
}

impl Rig {
    /// Memory with the adaptors.
    pub fn memory(&self) -> Memory {
        self.memory_with(|builder| builder)
    }

    /// Memory with the adaptors and more.
    pub fn memory_with(&self, furnish: impl FnOnce(MemoryBuilder) -> MemoryBuilder) -> Memory {
        let log = self.log(self.made.borrow().len());
        let builder = self.adaptors.iter().fold(Memory::builder(3), |builder, kind| match kind {
            Kind::Limit => builder.limit(Bytes(1 << 40)),
            Kind::Poison => builder.poison(),
            Kind::Trace => builder.trace(&log).unwrap(),
            Kind::FailNth => builder.fail_nth(u64::MAX),
        });
        let memory = furnish(builder).build();
        self.made.borrow_mut().push(memory.clone());
        memory
    }

    /// Whether memory is filled with NaN before and after its use.
    pub fn poisons(&self) -> bool {
        self.adaptors.contains(&Kind::Poison)
    }

    fn log(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("{number}.events"))
    }

    /// Checks what holds in the end for all that was made, and forgets it: each memory takes a good
    /// piece of the address space.
    pub fn finish(&self) {
        for (number, memory) in self.made.take().into_iter().enumerate() {
            self.finish_one(number, &memory);
        }
    }

    /// Behaviours leave nothing alive; a log has told every block that came and went.
    fn finish_one(&self, number: usize, memory: &Memory) {
        let stats = memory.stats();
        assert!(live(&stats).iter().all(|&bytes| bytes == 0), "{stats:#?}");
        assert!(memory.owners(1).is_empty() && memory.units().is_empty());
        if self.adaptors.contains(&Kind::Trace) {
            memory.flush().unwrap();
            let log = Log::read(File::open(self.log(number)).unwrap()).unwrap();
            let count = |what: fn(&What) -> bool| -> u64 {
                log.events.iter().filter(|event| what(&event.what)).count() as u64
            };
            assert_eq!((log.rank, log.truncated), (3, false));
            assert_eq!(count(|what| matches!(what, What::Alloc { .. })), stats.allocations);
            assert_eq!(count(|what| matches!(what, What::Free { .. })), stats.allocations);
        }
    }
}

/// All figures of what is alive now.
pub fn live(stats: &MemoryStats) -> Vec<u64> {
    let usages = stats.regions.iter().chain([&stats.total]);
    usages
        .flat_map(|usage| [usage.active.current, usage.requested.current])
        .chain([stats.activations.current, stats.units_in_flight.current])
        .collect()
}
