//! Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
//! 1, 2, 3", SC'11). A number is a pure function of (seed, stream, index), so a run resumes, a rank
//! restarts and a recompute replays without any generator state.

use crate::team;

/// A stream of random numbers, addressed by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random {
    seed: u64,
    stream: u64,
}

impl Random {
    /// The stream `stream` of `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self { seed, stream }
    }

    /// A stream named by text (a parameter's name): FNV-1a of the bytes.
    pub fn named(seed: u64, name: &str) -> Self {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
        Self::new(seed, hash)
    }

    /// Four independent 32-bit numbers of block `index`.
    pub fn block(&self, index: u64) -> [u32; 4] {
        let mut key = [self.seed as u32, (self.seed >> 32) as u32];
        let mut c =
            [index as u32, (index >> 32) as u32, self.stream as u32, (self.stream >> 32) as u32];
        for _ in 0..10 {
            let a = u64::from(c[0]) * 0xd251_1f53;
            let b = u64::from(c[2]) * 0xcd9e_8d57;
            c = [
                (b >> 32) as u32 ^ c[1] ^ key[0],
                b as u32,
                (a >> 32) as u32 ^ c[3] ^ key[1],
                a as u32,
            ];
            key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
        }
        c
    }

    /// A number below `bound`, of index `index`; the bias is below 2^-64 * `bound`.
    ///
    /// # Panics
    /// `bound` is 0.
    pub fn below(&self, index: u64, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        let [a, b, ..] = self.block(index);
        let wide = u128::from(u64::from(a) | u64::from(b) << 32) * u128::from(bound);
        (wide >> 64) as u64
    }

    /// Fills `out` with numbers spread evenly over `low..high`, element i a function of i alone.
    pub fn fill_uniform(&self, out: &mut [f32], low: f32, high: f32) {
        self.fill(0, out, |bits, values| {
            for (value, bits) in values.iter_mut().zip(bits) {
                // 24 bits are exact in f32, so the unit number never rounds up to 1.
                let unit = (bits >> 8) as f32 / 16_777_216.0;
                *value = low + (high - low) * unit;
            }
        });
    }

    /// Fills `out` with normal numbers of mean 0 (Box-Muller), element i a function of i alone.
    pub fn fill_normal(&self, out: &mut [f32], std: f32) {
        self.fill_normal_from(0, out, std);
    }

    /// As [`Random::fill_normal`], with the elements from `first` on of a longer row of numbers.
    pub fn fill_normal_from(&self, first: u64, out: &mut [f32], std: f32) {
        self.fill(first, out, |bits, four| {
            for (pair, values) in four.chunks_mut(2).enumerate() {
                // (bits + 1) / 2^32 lies in (0, 1], so the logarithm is finite.
                let radius =
                    (-2.0 * ((f64::from(bits[2 * pair]) + 1.0) / 4_294_967_296.0).ln()).sqrt();
                let angle = std::f64::consts::TAU * f64::from(bits[2 * pair + 1]) / 4_294_967_296.0;
                let normal = [radius * angle.cos(), radius * angle.sin()];
                for (value, z) in values.iter_mut().zip(normal) {
                    *value = (z * f64::from(std)) as f32;
                }
            }
        });
    }

    /// Gives each four elements their own block of bits; shared by the thread's team. `out` begins
    /// with element `first`.
    fn fill(&self, first: u64, out: &mut [f32], f: impl Fn([u32; 4], &mut [f32]) + Sync) {
        const TASK: usize = 1 << 12;
        let skipped = (first % 4) as usize;
        let (begun, out) = out.split_at_mut(out.len().min((4 - skipped) % 4));
        if !begun.is_empty() {
            let mut four = [0.0; 4];
            f(self.block(first / 4), &mut four);
            begun.copy_from_slice(&four[skipped..][..begun.len()]);
        }
        team::current().chunks(out, TASK, |task, out| {
            for (i, four) in out.chunks_mut(4).enumerate() {
                f(self.block(first.div_ceil(4) + (task * TASK / 4 + i) as u64), four);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_vectors() {
        // Known-answer vectors of the Random123 distribution (philox4x32-10).
        assert_eq!(
            Random::new(0, 0).block(0),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        let all = Random::new(u64::MAX, u64::MAX);
        assert_eq!(all.block(u64::MAX), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn normal_numbers_have_the_right_moments_and_depend_on_the_index_alone() {
        let random = Random::named(3, "weight");
        let mut long = vec![0f32; 40_001];
        random.fill_normal(&mut long, 2.0);
        let n = long.len() as f64;
        let mean = long.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let var = long.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 0.05 && (var - 4.0).abs() < 0.15, "{mean} {var}");
        let mut short = vec![0f32; 7];
        random.fill_normal(&mut short, 2.0);
        assert_eq!(short, long[..7]);
        for (first, len) in [(1, 2), (3, 1), (4, 9), (5, 20_000), (39_998, 3)] {
            let mut part = vec![0f32; len];
            random.fill_normal_from(first as u64, &mut part, 2.0);
            assert_eq!(part, long[first..][..len], "from {first}");
        }
    }

    #[test]
    fn uniform_numbers_fill_their_range_evenly() {
        let mut values = vec![0f32; 20_003];
        Random::new(5, 6).fill_uniform(&mut values, -1.0, 3.0);
        assert!(values.iter().all(|value| (-1.0..3.0).contains(value)));
        let n = values.len() as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let var = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        assert!((mean - 1.0).abs() < 0.03 && (var - 16.0 / 12.0).abs() < 0.05, "{mean} {var}");
    }

    #[test]
    fn numbers_do_not_depend_on_the_team() {
        let draw = |threads| {
            let _team = team::enter(threads).unwrap();
            let mut values = vec![0f32; 10_001];
            Random::new(7, 8).fill_normal(&mut values, 1.0);
            values
        };
        assert_eq!(draw(1), draw(3));
    }

    #[test]
    fn bounded_numbers_stay_below_their_bound() {
        let random = Random::new(1, 2);
        assert!((0..1000).all(|i| random.below(i, 7) < 7));
        assert!((0..7).all(|v| (0..1000).any(|i| random.below(i, 7) == v)));
    }
}
