//! Atomic accesses, against the same updates made one after the other.

use crate::common::{Buffers, POLICIES, launch, text};
use proptest::prelude::*;

/// All lanes of `grid` blocks of 64 update the words that `%r1` numbers by `%r2`.
fn run(instruction: &str, grid: u32, start: &[u8], values: &[u32]) -> Vec<Vec<u8>> {
    let body = format!(
        "{} ld.param.u64 %d0, [p0]; ld.param.u64 %d1, [p1]; mov.u32 %r0, %ctaid.x; mad.lo.u32 %r0, %r0, 64, %t0;
         mul.wide.u32 %d2, %r0, 4; add.s64 %d1, %d1, %d2; ld.global.u32 %r2, [%d1]; and.b32 %r1, %r0, 7; mul.wide.u32 %d2, %r1, 8; add.s64 %d0, %d0, %d2;
         {instruction} ret;",
        crate::common::REGISTERS
    );
    let text = text(2, &body);
    POLICIES
        .iter()
        .map(|&policy| {
            let values = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let buffers = Buffers::new(&[start.to_vec(), values]);
            launch(&text, [grid, 1, 1], [64, 1, 1], 0, &buffers, policy).unwrap();
            buffers.bytes(0)
        })
        .collect()
}

fn word(bytes: &[u8], i: usize) -> u32 {
    u32::from_le_bytes(bytes[8 * i..8 * i + 4].try_into().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn integers_are_reduced(values in prop::collection::vec(any::<u32>(), 128), start in any::<u32>()) {
        let begin: Vec<u8> = (0..8).flat_map(|_| [start.to_le_bytes(), [0; 4]]).flatten().collect();
        let cases: [(&str, fn(u32, u32) -> u32); 6] = [
            ("red.global.add.u32 [%d0], %r2;", u32::wrapping_add),
            ("red.relaxed.gpu.global.max.s32 [%d0], %r2;", |a, b| (a as i32).max(b as i32) as u32),
            ("atom.global.min.u32 %r3, [%d0], %r2;", u32::min),
            ("atom.global.or.b32 %r3, [%d0], %r2;", |a, b| a | b),
            ("atom.global.and.b32 %r3, [%d0], %r2;", |a, b| a & b),
            ("atom.xor.b32 %r3, [%d0], %r2;", |a, b| a ^ b),
        ];
        for (instruction, f) in cases {
            for result in run(instruction, 2, &begin, &values) {
                for i in 0..8 {
                    let expected = values.iter().skip(i).step_by(8).fold(start, |a, &b| f(a, b));
                    prop_assert_eq!(word(&result, i), expected, "{}", instruction);
                }
            }
        }
    }

    #[test]
    fn floats_are_added(values in prop::collection::vec(-64i32..64, 128)) {
        // Small integers, so that the order does not matter.
        let bits: Vec<u32> = values.iter().map(|&v| (v as f32).to_bits()).collect();
        for result in run("red.global.add.f32 [%d0], %r2;", 2, &[0; 64], &bits) {
            for i in 0..8 {
                let expected: i32 = values.iter().skip(i).step_by(8).sum();
                prop_assert_eq!(f32::from_bits(word(&result, i)), expected as f32);
            }
        }
        let halves: Vec<u32> = values.iter().map(|&v| {
            let x = u32::from(half::bf16::from_f32((v % 8) as f32).to_bits());
            x << 16 | x
        }).collect();
        for result in run("red.global.add.noftz.bf16x2 [%d0], %r2;", 1, &[0; 64], &halves) {
            for i in 0..8 {
                let expected: i32 = values.iter().take(64).skip(i).step_by(8).map(|v| v % 8).sum();
                let word = word(&result, i);
                for half in [word as u16, (word >> 16) as u16] {
                    prop_assert_eq!(half::bf16::from_bits(half).to_f32(), expected as f32);
                }
            }
        }
    }
}

#[test]
fn every_thread_gets_a_ticket_of_its_own() {
    // Increments wrap at 99; exchange and compare-and-swap keep what they find.
    let values = vec![99u32; 256];
    for result in run("mov.u32 %r4, 0; atom.global.inc.u32 %r3, [%d0], %r2;", 4, &[0; 64], &values)
    {
        assert_eq!(word(&result, 0), 32);
    }
    let swap = "SPIN: ld.global.u32 %r3, [%d0]; add.u32 %r4, %r3, 3; atom.global.cas.b32 %r5, [%d0], %r3, %r4; setp.ne.u32 %p0, %r5, %r3; @%p0 bra SPIN;";
    for result in run(swap, 4, &[0; 64], &values) {
        assert_eq!(word(&result, 5), 96);
    }
    for result in
        run("cvt.u64.u32 %d4, %r2; atom.global.exch.b64 %d5, [%d0], %d4;", 1, &[0; 64], &values)
    {
        assert_eq!(word(&result, 3), 99);
    }
}

#[test]
fn threads_of_the_host_share_the_work() {
    // A counter that 64 blocks raise, on one, two and four threads.
    let body = format!(
        "{} ld.param.u64 %d0, [p0]; atom.global.add.u64 %d1, [%d0], 1; ret;",
        crate::common::REGISTERS
    );
    let module = slimpipe_emulator::Module::parse(&text(1, &body)).unwrap();
    let kernel = module.kernel("k").unwrap();
    for threads in [1, 2, 4] {
        let buffers = Buffers::new(&[vec![0; 8]]);
        let params = buffers.params();
        let launch = slimpipe_emulator::Launch::new(&kernel, [64, 1, 1], [96, 1, 1], &params);
        slimpipe_emulator::Launch { threads, ..launch }.run(&buffers.memory).unwrap();
        assert_eq!(u64::from_le_bytes(buffers.bytes(0).try_into().unwrap()), 64 * 96);
    }
}
