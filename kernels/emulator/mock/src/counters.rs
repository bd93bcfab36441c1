//! What a mock has counted.

use std::{collections::BTreeMap, fmt};

use slimpipe_mock_protocol::control::{read_counters, write_counters};

/// Counters of a mock at one moment, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    pub(crate) fn read(text: &str) -> Counters {
        Counters(read_counters(text))
    }

    /// One counter; 0 if nothing of the kind was counted.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// What was counted between `earlier` and this.
    pub fn since(&self, earlier: &Counters) -> Counters {
        let difference = |(name, n): (&String, &u64)| (name.clone(), n - earlier.get(name));
        Counters(self.0.iter().map(difference).filter(|(_, n)| *n > 0).collect())
    }

    /// How often the host waited for the device: for a context, a stream, an event, or inside a
    /// call that waits.
    pub fn synchronisations(&self) -> u64 {
        self.sum(&[
            "synchronisations.context",
            "synchronisations.stream",
            "synchronisations.event",
            "synchronisations.implicit",
        ])
    }

    /// How often the driver was asked for memory or addresses, or to give some back.
    pub fn allocations(&self) -> u64 {
        self.sum(&[
            "allocations.device",
            "allocations.host",
            "frees.device",
            "frees.host",
            "reservations",
            "maps",
            "unmaps",
        ])
    }

    /// Launches of a kernel.
    pub fn launches(&self, kernel: &str) -> u64 {
        self.get(&format!("launches.{kernel}"))
    }

    fn sum(&self, names: &[&str]) -> u64 {
        names.iter().map(|name| self.get(name)).sum()
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&write_counters(&self.0))
    }
}
