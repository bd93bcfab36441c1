//! Matrix products of warpgroups and warps against f64.

use crate::common::{Buffers, POLICIES, launch_raw, text_with_maps};
use half::{bf16, f16};
use proptest::prelude::*;
use slimpipe_emulator::{FaultKind, Policy};

/// How a factor lies in shared memory.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Chunks of 16 bytes in a row of the swizzle: 1, 2, 4 or 8.
    width: usize,
    /// The factor's own axis is innermost, not K.
    transpose: bool,
}

impl Layout {
    fn swizzle(&self, offset: usize) -> usize {
        offset ^ ((offset >> 7 & (self.width - 1)) << 4)
    }

    /// Byte of element (row, k) of a factor with `rows` rows and `depth` columns.
    fn byte(&self, rows: usize, depth: usize, row: usize, k: usize) -> usize {
        let per_panel = 8 * self.width;
        let (inner, outer, length) = if self.transpose { (row, k, depth) } else { (k, row, rows) };
        let linear = inner / per_panel * (length * 16 * self.width)
            + outer * 16 * self.width
            + inner % per_panel * 2;
        self.swizzle(linear)
    }

    /// Descriptor of the sixteen columns from `k` on, without the start address.
    fn descriptor(&self, rows: usize, depth: usize) -> u64 {
        let panel = (if self.transpose { depth } else { rows }) * 16 * self.width;
        let group = 8 * 16 * self.width;
        let (leading, stride) = match (self.transpose, self.width) {
            (false, 1) => (panel, group),
            (true, 1) => (group, panel),
            (false, _) => (16, group),
            (true, _) => (panel, group),
        };
        let kind = match self.width {
            1 => 0u64,
            2 => 3,
            4 => 2,
            _ => 1,
        };
        kind << 62 | (stride as u64 / 16) << 32 | (leading as u64 / 16) << 16
    }

    /// How far the start of a step of sixteen columns is from the first step's.
    fn advance(&self, rows: usize, step: usize) -> usize {
        let k = 16 * step;
        if self.transpose {
            return k * 16 * self.width;
        }
        let per_panel = 8 * self.width;
        k / per_panel * (rows * 16 * self.width) + k % per_panel / 8 * 16
    }
}

#[derive(Clone, Debug)]
struct Case {
    n: usize,
    steps: usize,
    a: Layout,
    b: Layout,
    a_in_registers: bool,
    half: bool,
    half_result: bool,
    negate: (bool, bool),
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let layout = || {
        (prop::sample::select(vec![1usize, 2, 4, 8]), any::<bool>())
            .prop_map(|(width, transpose)| Layout { width, transpose })
    };
    (1usize..=32, 1usize..=4, layout(), layout(), any::<[bool; 5]>(), any::<u64>()).prop_map(
        |(eighths, steps, a, mut b, [registers, half, half_result, na, nb], seed)| {
            let n = 8 * eighths;
            // A transposed B needs whole panels.
            while b.transpose && n % (8 * b.width) != 0 {
                b.width /= 2;
            }
            // Panels along K must be whole as well.
            let steps =
                steps.next_multiple_of((b.width / 2).max(1)).next_multiple_of((a.width / 2).max(1));
            Case {
                n,
                steps,
                a,
                b,
                a_in_registers: registers,
                half,
                half_result: half && half_result,
                negate: (na, nb),
                seed,
            }
        },
    )
}

struct Random(u64);

impl Random {
    fn value(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f64 / f64::from(1 << 23) - 1.0
    }
}

/// A random matrix whose values the type can hold, and its image in shared memory.
fn factor(
    rows: usize,
    depth: usize,
    layout: Layout,
    half: bool,
    random: &mut Random,
) -> (Vec<f64>, Vec<u8>) {
    let mut image = vec![0u8; rows.next_multiple_of(64) * depth * 2];
    let values = (0..rows * depth)
        .map(|i| {
            let x = random.value();
            let (bits, value) = match half {
                true => (f16::from_f64(x).to_bits(), f16::from_f64(x).to_f64()),
                false => (bf16::from_f64(x).to_bits(), bf16::from_f64(x).to_f64()),
            };
            let at = layout.byte(rows, depth, i / depth, i % depth);
            image[at..at + 2].copy_from_slice(&bits.to_le_bytes());
            value
        })
        .collect();
    (values, image)
}

fn list(prefix: &str, count: usize) -> String {
    let names: Vec<_> = (0..count).map(|i| format!("{prefix}{i}")).collect();
    format!("{{{}}}", names.join(", "))
}

/// Kernel that copies both factors to shared memory, multiplies, and stores the accumulators.
fn kernel(case: &Case, a_bytes: usize, b_bytes: usize) -> String {
    let accumulators = if case.half_result { case.n / 4 } else { case.n / 2 };
    let ty = if case.half { "f16" } else { "bf16" };
    let result = if case.half_result { "f16" } else { "f32" };
    let depth = 16 * case.steps;
    let sign = |negative: bool| if negative { -1 } else { 1 };
    let mut body = format!(
        ".reg .b32 %c<{accumulators}>; .reg .b32 %a<4>; mov.u32 %r1, smem; add.u32 %r1, %r1, 1023; and.b32 %r1, %r1, -1024;
         ld.param.u64 %d0, [p0]; ld.param.u64 %d1, [p1]; ld.param.u64 %d2, [p2]; shl.b32 %r2, %t0, 2;
         COPY: setp.ge.u32 %p1, %r2, {}; @%p1 bra COPIED; cvt.u64.u32 %d3, %r2; add.s64 %d3, %d0, %d3; ld.global.u32 %r3, [%d3];
         add.u32 %r4, %r1, %r2; st.shared.u32 [%r4], %r3; add.u32 %r2, %r2, 512; bra COPY;
         COPIED: fence.proxy.async.shared::cta; bar.sync 0; and.b32 %r5, %r1, 0x3ffff; shr.u32 %r5, %r5, 4; cvt.u64.u32 %d4, %r5;\n",
        a_bytes + b_bytes
    );
    for i in 0..accumulators {
        body += &format!("mov.b32 %c{i}, 0;\n");
    }
    body += "wgmma.fence.sync.aligned;\n";
    for step in 0..case.steps {
        let start =
            |layout: &Layout, rows, base: usize| (base + layout.advance(rows, step)) as u64 / 16;
        let a = case.a.descriptor(64, depth) | start(&case.a, 64, 0);
        let b = case.b.descriptor(case.n, depth) | start(&case.b, case.n, a_bytes);
        body += &format!("add.s64 %d6, %d4, {b};\n");
        let scale = if step == 0 { "0" } else { "1" };
        body += &format!("setp.ne.u32 %p2, {scale}, 0;\n");
        let (first, transpose_a) = if case.a_in_registers {
            // Row t/4 (+8) of the warp, columns of each half of the sixteen.
            for i in 0..4 {
                body += &format!("ld.global.u32 %a{i}, [%d2]; add.s64 %d2, %d2, 512;\n");
            }
            body += "wgmma.fence.sync.aligned;\n";
            (list("%a", 4), String::new())
        } else {
            body += &format!("add.s64 %d5, %d4, {a};\n");
            ("%d5".to_string(), format!("{}, ", u8::from(case.a.transpose)))
        };
        body += &format!(
            "wgmma.mma_async.sync.aligned.m64n{}k16.{result}.{ty}.{ty} {}, {first}, %d6, %p2, {}, {}, {transpose_a}{};\n",
            case.n,
            list("%c", accumulators),
            sign(case.negate.0),
            sign(case.negate.1),
            u8::from(case.b.transpose)
        );
        if case.a_in_registers {
            // The registers are loaded again for the next step.
            body += "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;\n";
        }
    }
    body += "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0; mul.wide.u32 %d7, %t0, 4; add.s64 %d1, %d1, %d7;\n";
    for i in 0..accumulators {
        body += &format!("st.global.b32 [%d1+{}], %c{i};\n", 512 * i);
    }
    text_with_maps(0, 3, &(body + "ret;")).replace(
        "ld.param.u64 %d2, [p2];",
        "ld.param.u64 %d2, [p2]; mul.wide.u32 %d8, %t0, 4; add.s64 %d2, %d2, %d8;",
    )
}

/// The matrix whose accumulators were stored, register by register.
fn matrix(case: &Case, words: &[u32]) -> Vec<f64> {
    let mut values = vec![0.0; 64 * case.n];
    for (i, &word) in words.iter().enumerate() {
        let (register, thread) = (i / 128, i % 128);
        let (warp, lane) = (thread / 32, thread % 32);
        let column = lane % 4 * 2;
        if case.half_result {
            let row = warp * 16 + lane / 4 + 8 * (register % 2);
            for side in 0..2 {
                let at = row * case.n + register / 2 * 8 + column + side;
                values[at] = f16::from_bits((word >> (16 * side)) as u16).to_f64();
            }
        } else {
            let row = warp * 16 + lane / 4 + 8 * (register / 2 % 2);
            values[row * case.n + register / 4 * 8 + column + register % 2] =
                f64::from(f32::from_bits(word));
        }
    }
    values
}

/// A as the threads hold it, sixteen columns after sixteen columns.
fn a_registers(case: &Case, a: &[f64]) -> Vec<u8> {
    let depth = 16 * case.steps;
    let mut bytes = Vec::new();
    for step in 0..case.steps {
        for register in 0..4 {
            for thread in 0..128 {
                let (warp, lane) = (thread / 32, thread % 32);
                let row = warp * 16 + lane / 4 + 8 * (register % 2);
                let k = 16 * step + lane % 4 * 2 + 8 * (register / 2);
                for side in 0..2 {
                    let x = a[row * depth + k + side];
                    let bits = if case.half {
                        f16::from_f64(x).to_bits()
                    } else {
                        bf16::from_f64(x).to_bits()
                    };
                    bytes.extend(bits.to_le_bytes());
                }
            }
        }
    }
    bytes
}

fn check(case: &Case, policies: &[Policy]) -> Result<(), TestCaseError> {
    let depth = 16 * case.steps;
    let mut random = Random(case.seed | 1);
    let (a, a_image) = factor(64, depth, case.a, case.half, &mut random);
    let (b, b_image) = factor(case.n, depth, case.b, case.half, &mut random);
    let sign = if case.negate.0 != case.negate.1 { -1.0 } else { 1.0 };
    let a_bytes = a_image.len().next_multiple_of(1024);
    let mut image = a_image;
    image.resize(a_bytes, 0);
    image.extend(&b_image);
    let text = kernel(case, a_bytes, b_image.len());
    let accumulators = if case.half_result { case.n / 4 } else { case.n / 2 };
    for &policy in policies {
        let buffers =
            Buffers::new(&[image.clone(), vec![0; 512 * accumulators], a_registers(case, &a)]);
        let shared = image.len() as u32 + 1024;
        let report = launch_raw(
            &text,
            ([1; 3], [128, 1, 1]),
            None,
            shared,
            &buffers.params(),
            &buffers.memory,
            policy,
        )
        .map_err(|f| TestCaseError::fail(f.to_string()))?;
        prop_assert_eq!(report.products, case.steps as u64);
        let result = matrix(case, &buffers.words(1));
        for row in 0..64 {
            for column in 0..case.n {
                let exact: f64 =
                    (0..depth).map(|k| a[row * depth + k] * b[column * depth + k]).sum::<f64>()
                        * sign;
                let size: f64 =
                    (0..depth).map(|k| (a[row * depth + k] * b[column * depth + k]).abs()).sum();
                let got = result[row * case.n + column];
                let bound = size * if case.half_result { 2e-3 } else { 1e-6 } + 1e-6;
                prop_assert!(
                    (got - exact).abs() <= bound,
                    "({}, {}): {} not {}; {:?}",
                    row,
                    column,
                    got,
                    exact,
                    case
                );
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn products_agree_with_f64_in_every_layout(case in cases()) {
        check(&case, &[Policy::Eager, Policy::Random { seed: case.seed }, Policy::Latest { seed: case.seed }])?;
    }
}

fn simple(n: usize) -> Case {
    let layout = Layout { width: 8, transpose: false };
    Case {
        n,
        steps: 4,
        a: layout,
        b: layout,
        a_in_registers: false,
        half: false,
        half_result: false,
        negate: (false, false),
        seed: 5,
    }
}

#[test]
fn every_width_is_possible() {
    for n in (8..=256).step_by(8) {
        check(&simple(n), &[Policy::Eager]).unwrap();
    }
}

/// Runs the simple kernel after a change to its text; gives the fault.
fn mutant(from: &str, to: &str, policy: Policy) -> Option<FaultKind> {
    let case = simple(64);
    let mut random = Random(9);
    let (_, a) = factor(64, 64, case.a, false, &mut random);
    let (_, b) = factor(64, 64, case.b, false, &mut random);
    let text = kernel(&case, a.len(), b.len());
    assert!(text.contains(from), "{from} is not in\n{text}");
    let text = text.replacen(from, to, 1);
    let image = [a, b].concat();
    let buffers = Buffers::new(&[image.clone(), vec![0; 512 * 32], vec![0; 8192]]);
    let shared = image.len() as u32 + 1024;
    let sizes = ([1; 3], [128, 1, 1]);
    launch_raw(&text, sizes, None, shared, &buffers.params(), &buffers.memory, policy)
        .err()
        .map(|f| f.kind)
}

#[test]
fn what_products_use_must_not_be_touched_before_a_wait() {
    for policy in POLICIES {
        assert_eq!(mutant("bar.sync 0;", "bar.sync 0;", policy), None);
        // Accumulators are stored, read or written before the products are done.
        let wait = "wgmma.wait_group.sync.aligned 0;";
        assert_eq!(mutant(wait, "", policy), Some(FaultKind::Register));
        assert_eq!(
            mutant(wait, "mov.b32 %c3, 0; wgmma.wait_group.sync.aligned 0;", policy),
            Some(FaultKind::Register)
        );
        assert_eq!(
            mutant(wait, "wgmma.wait_group.sync.aligned 1;", policy),
            Some(FaultKind::Register)
        );
        assert_eq!(
            mutant(
                "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;",
                "ret;",
                policy
            ),
            Some(FaultKind::Register)
        );
        // Shared memory is overwritten.
        // A warp that comes first is caught by those that multiply later.
        let store = "st.shared.u32 [%r1+64], 0; wgmma.wait_group.sync.aligned 0;";
        let fault = mutant(wait, store, policy);
        assert!(matches!(fault, Some(FaultKind::Race | FaultKind::MissingFence)), "{fault:?}");
        // No order between what threads wrote and what products read.
        assert_eq!(
            mutant("fence.proxy.async.shared::cta;", "", policy),
            Some(FaultKind::MissingFence)
        );
        assert_eq!(
            mutant("wgmma.fence.sync.aligned;", "", policy),
            None,
            "nothing is added to what was written"
        );
    }
}

#[test]
fn accumulators_that_are_added_to_need_a_fence() {
    let from = "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;";
    let again = |fence: &str| {
        format!(
            "{from} mov.b32 %c0, 0; {fence} wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {}, %d5, %d6, %p2, 1, 1, 0, 0; {from}",
            list("%c", 32)
        )
    };
    for policy in POLICIES {
        assert_eq!(mutant(from, &again("wgmma.fence.sync.aligned;"), policy), None);
        assert_eq!(mutant(from, &again(""), policy), Some(FaultKind::MissingFence));
    }
}

#[test]
fn warps_of_a_group_must_issue_the_same_products() {
    let policy = Policy::Eager;
    let from = "wgmma.fence.sync.aligned;";
    let other = "setp.lt.u32 %p3, %t0, 32; @%p3 add.s64 %d4, %d4, 64; wgmma.fence.sync.aligned;";
    assert_eq!(mutant(from, other, policy), Some(FaultKind::Divergence));
    let diverged =
        "and.b32 %r9, %t0, 1; setp.eq.u32 %p3, %r9, 0; @%p3 ret; wgmma.fence.sync.aligned;";
    assert_eq!(mutant(from, diverged, policy), Some(FaultKind::Divergence));
}

#[test]
fn small_matrices_move_between_memory_and_registers() {
    // Four 8 x 8 matrices of numbered elements; both forms, both ways.
    for transpose in [false, true] {
        let trans = if transpose { ".trans" } else { "" };
        let body = format!(
            "mov.u32 %r1, smem; ld.param.u64 %d0, [p0]; ld.param.u64 %d1, [p1]; shl.b32 %r2, %t0, 4; add.u32 %r2, %r2, %r1;
             cvt.u64.u32 %d2, %t0; shl.b64 %d2, %d2, 4; add.s64 %d3, %d0, %d2; ld.global.v4.u32 {{%r4, %r5, %r6, %r7}}, [%d3]; st.shared.v4.u32 [%r2], {{%r4, %r5, %r6, %r7}};
             bar.warp.sync -1; ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%r8, %r9, %r10, %r11}}, [%r2];
             add.s64 %d4, %d1, %d2; st.global.v4.u32 [%d4], {{%r8, %r9, %r10, %r11}};
             add.u32 %r3, %r2, 512; stmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 [%r3], {{%r8, %r9, %r10, %r11}}; bar.warp.sync -1;
             ld.shared.v4.u32 {{%r4, %r5, %r6, %r7}}, [%r3]; st.global.v4.u32 [%d4+512], {{%r4, %r5, %r6, %r7}}; ret;"
        );
        let text = text_with_maps(0, 2, &body);
        let source: Vec<u8> = (0..256u16).flat_map(u16::to_le_bytes).collect();
        let buffers = Buffers::new(&[source.clone(), vec![0; 1024]]);
        launch_raw(
            &text,
            ([1; 3], [32, 1, 1]),
            None,
            2048,
            &buffers.params(),
            &buffers.memory,
            Policy::Eager,
        )
        .unwrap();
        let result = buffers.bytes(1);
        let half = |at: usize| u16::from_le_bytes([result[2 * at], result[2 * at + 1]]) as usize;
        for lane in 0..32 {
            for matrix in 0..4 {
                for side in 0..2 {
                    let (a, b) = (lane / 4, lane % 4 * 2 + side);
                    let (row, column) = if transpose { (b, a) } else { (a, b) };
                    assert_eq!(half(lane * 8 + matrix * 2 + side), matrix * 64 + row * 8 + column);
                }
            }
        }
        assert_eq!(result[512..], source, "what was stored is what was loaded");
    }
}

#[test]
fn a_product_of_one_warp_agrees_with_f64() {
    let mut random = Random(77);
    let a: Vec<f64> = (0..256).map(|_| bf16::from_f64(random.value()).to_f64()).collect();
    let b: Vec<f64> = (0..128).map(|_| bf16::from_f64(random.value()).to_f64()).collect();
    // A is 16 x 16 by rows, B is 8 columns of 16; C begins with ones.
    let body = "
        ld.param.u64 %d0, [p0]; ld.param.u64 %d1, [p1]; ld.param.u64 %d2, [p2]; shr.u32 %r0, %t0, 2; and.b32 %r1, %t0, 3;
        shl.b32 %r2, %r0, 5; shl.b32 %r3, %r1, 2; add.u32 %r2, %r2, %r3; cvt.u64.u32 %d3, %r2; add.s64 %d4, %d0, %d3; add.s64 %d5, %d1, %d3;
        ld.global.u32 %r4, [%d4]; ld.global.u32 %r5, [%d4+256]; ld.global.u32 %r6, [%d4+16]; ld.global.u32 %r7, [%d4+272];
        ld.global.u32 %r8, [%d5]; ld.global.u32 %r9, [%d5+16]; mov.f32 %f4, 0f3F800000;
        mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f0, %f1, %f2, %f3}, {%r4, %r5, %r6, %r7}, {%r8, %r9}, {%f4, %f4, %f4, %f4};
        shl.b32 %r2, %r0, 5; shl.b32 %r3, %r1, 3; add.u32 %r2, %r2, %r3; cvt.u64.u32 %d3, %r2; add.s64 %d4, %d2, %d3;
        st.global.v2.f32 [%d4], {%f0, %f1}; st.global.v2.f32 [%d4+256], {%f2, %f3}; ret;";
    let bytes =
        |v: &[f64]| v.iter().flat_map(|x| bf16::from_f64(*x).to_le_bytes()).collect::<Vec<u8>>();
    let buffers = Buffers::new(&[bytes(&a), bytes(&b), vec![0; 512]]);
    let text = text_with_maps(0, 3, body);
    launch_raw(
        &text,
        ([1; 3], [32, 1, 1]),
        None,
        0,
        &buffers.params(),
        &buffers.memory,
        Policy::Eager,
    )
    .unwrap();
    for (i, &word) in buffers.words(2).iter().enumerate() {
        let exact: f64 = 1.0 + (0..16).map(|k| a[i / 8 * 16 + k] * b[i % 8 * 16 + k]).sum::<f64>();
        assert!((f64::from(f32::from_bits(word)) - exact).abs() < 1e-5);
    }
}
