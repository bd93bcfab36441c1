//! Numbers that another program can make again, bit for bit.

use half::bf16;

/// `len` numbers of mean 0 and variance 1, close to a normal distribution: element i is the sum of the
/// four bytes of a hash of i and `seed`, shifted and scaled. `scripts/gpu_torch.py` has the same.
pub fn numbers(seed: u32, len: usize) -> Vec<bf16> {
    (0..len as u32).map(|i| bf16::from_f32(number(seed, i))).collect()
}

fn number(seed: u32, i: u32) -> f32 {
    let mut hash = i.wrapping_mul(0x9e37_79b1).wrapping_add(seed.wrapping_mul(0x85eb_ca77));
    hash ^= hash >> 15;
    hash = hash.wrapping_mul(0x2c1b_3c6d);
    hash ^= hash >> 12;
    hash = hash.wrapping_mul(0x297a_2d39);
    hash ^= hash >> 15;
    let sum: u32 = hash.to_le_bytes().into_iter().map(u32::from).sum();
    // Four bytes: mean 510, variance 4 (256^2 - 1) / 12.
    (sum as f32 - 510.0) / 147.8
}

/// The Euclidean norm.
pub fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_mean_0_and_variance_1() {
        let values: Vec<f64> = numbers(3, 1 << 16).into_iter().map(f64::from).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }
}
