use proptest::prelude::*;
use slimpipe_kernels::cuda::random::{self, Numbers};

use super::util::{cases, gpu};

/// Philox4x32-10, as the paper has it.
fn philox(seed: u64, stream: u64, index: u64) -> [u32; 4] {
    let (mut key, mut counter) = (seed, u128::from(index) | u128::from(stream) << 64);
    for _ in 0..10 {
        let word = |i: u32| (counter >> (32 * i)) as u32;
        let (a, b) = (u64::from(word(0)) * 0xd251_1f53, u64::from(word(2)) * 0xcd9e_8d57);
        let (low, high) = (key as u32, (key >> 32) as u32);
        let words = [
            (b >> 32) as u32 ^ word(1) ^ low,
            b as u32,
            (a >> 32) as u32 ^ word(3) ^ high,
            a as u32,
        ];
        counter = words.into_iter().rev().fold(0, |all, word| all << 32 | u128::from(word));
        let (low, high) = (low.wrapping_add(0x9e37_79b9), high.wrapping_add(0xbb67_ae85));
        key = u64::from(low) | u64::from(high) << 32;
    }
    [0, 32, 64, 96].map(|shift| (counter >> shift) as u32)
}

fn bits(numbers: Numbers, i: u64) -> [u32; 2] {
    let element = numbers.first + i;
    let four = philox(numbers.seed, numbers.stream, element / 4);
    let pair = (element % 4 / 2 * 2) as usize;
    [four[pair], four[pair + 1]]
}

fn check(numbers: Numbers, len: usize) {
    let Some(gpu) = gpu() else { return };
    let (normal, uniform) = gpu.schedules(|| {
        let (normal, uniform) = (gpu.empty::<f32>(len), gpu.empty::<f32>(len));
        // SAFETY: buffers of that many elements.
        unsafe {
            random::normal(&gpu.stream, numbers, 2.0, len, normal.at).unwrap();
            random::uniform(&gpu.stream, numbers, (-1.0, 3.0), len, uniform.at).unwrap();
        }
        (gpu.read(&normal), gpu.read(&uniform))
    });
    let mut off = 0;
    for i in 0..len {
        let element = numbers.first + i as u64;
        let [length, turn] = bits(numbers, i as u64);
        let radius = (-2.0 * ((f64::from(length) + 1.0) / 4_294_967_296.0).ln()).sqrt();
        let angle = std::f64::consts::TAU * f64::from(turn) / 4_294_967_296.0;
        let z = radius * if element.is_multiple_of(2) { angle.cos() } else { angle.sin() };
        let exact = (z * 2.0) as f32;
        // Near a zero of the cosine the angle's own rounding is all that is left.
        assert!(
            (normal[i] - exact).abs() <= 1e-14 + 2e-7 * exact.abs(),
            "{} for {exact}",
            normal[i]
        );
        off += usize::from(normal[i] != exact);
        let own = if element.is_multiple_of(2) { length } else { turn };
        assert_eq!(uniform[i], -1.0 + 4.0 * ((own >> 8) as f32 / 16_777_216.0), "uniform {i}");
    }
    assert!(off <= 1, "{off} of {len} normal numbers differ from the CPU's");
}

#[test]
fn the_reference_gives_the_published_vectors() {
    assert_eq!(philox(0, 0, 0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    let all = philox(u64::MAX, u64::MAX, u64::MAX);
    assert_eq!(all, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
}

proptest! {
    #![proptest_config(cases(10))]

    #[test]
    fn numbers_are_those_of_the_cpu_from_any_place_on(
        seed in any::<u64>(), stream in any::<u64>(), first in prop_oneof![0u64..9, any::<u32>().prop_map(u64::from)],
        len in 0usize..700,
    ) {
        check(Numbers { seed, stream, first }, len);
    }
}
