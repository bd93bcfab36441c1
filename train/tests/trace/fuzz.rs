//! Choices for damage that is tried, and how long it is tried.

use std::time::{Duration, Instant};

use slimpipe_runtime::random::Random;

/// A stream of choices.
pub struct Fuzz {
    random: Random,
    next: u64,
}

impl Fuzz {
    pub fn word(&mut self) -> u64 {
        let [low, high, ..] = self.random.block(self.next);
        self.next += 1;
        u64::from(high) << 32 | u64::from(low)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.word() % bound.max(1) as u64) as usize
    }

    /// A number with an eye to the edges.
    pub fn number(&mut self) -> u64 {
        match self.below(5) {
            0 => 0,
            1 => u64::MAX >> self.below(64),
            2 => 1 << self.below(64),
            3 => self.below(300) as u64,
            _ => self.word(),
        }
    }
}

/// Tries `cases` cases, and more for as long as `SLIMPIPE_FUZZ_SECONDS` says; tells of how many `is_good` held.
pub fn fuzz(cases: u64, mut is_good: impl FnMut(Fuzz) -> bool) -> (u64, u64) {
    let seconds = std::env::var("SLIMPIPE_FUZZ_SECONDS").ok().map(|text| text.parse().unwrap());
    let (start, limit) = (Instant::now(), seconds.map_or(Duration::ZERO, Duration::from_secs));
    let (mut case, mut good) = (0, 0);
    while case < cases || start.elapsed() < limit {
        good += u64::from(is_good(Fuzz { random: Random::new(case, 0), next: 0 }));
        case += 1;
    }
    println!("{case} files: {good} could be, {} could not", case - good);
    (case, good)
}
