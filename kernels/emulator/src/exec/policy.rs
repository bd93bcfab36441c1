//! In which order things happen that may happen in any order.

/// A schedule of warps and of asynchronous work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Warps take turns; asynchronous work is done when it is issued.
    #[default]
    Eager,
    /// Warps run in random order and for random times; asynchronous work lands at random times.
    Random {
        /// Gives the order.
        seed: u64,
    },
    /// Warps run in random order; asynchronous work lands when nothing else can go on, or when
    /// somebody waits for it.
    Latest {
        /// Gives the order.
        seed: u64,
    },
}

impl Policy {
    pub(super) fn seed(self) -> u64 {
        match self {
            Self::Eager => 0,
            Self::Random { seed } | Self::Latest { seed } => seed,
        }
    }
}

/// Pseudorandom numbers (xorshift64*).
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mixed =
            (seed ^ stream.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        Self((mixed ^ mixed >> 31) | 1)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        (value % end.max(1) as u64) as usize
    }
}
