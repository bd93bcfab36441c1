//! Texts and launches that make no sense: errors and faults, never panics.

use crate::common::{REGISTERS, text};
use crate::kernels::{ATTENTION, GEMM};
use proptest::prelude::*;
use slimpipe_emulator::{Launch, Memory, Module, Policy};

/// Pieces that PTX is made of, sensible or not.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            "(",
            ")",
            ",",
            ";",
            ":",
            "!",
            "@",
            "|",
            "+",
            "-",
            "<",
            ">",
            "=",
            "_",
            "\"",
            "//",
            "/*",
            "%r0",
            "%r99",
            "%p0",
            "%d1",
            "%f2",
            "%tid.x",
            "%nothing",
            "p0",
            "L",
            "0f3F800000",
            "0x",
            "0d",
            "1e9",
            "-5",
            "18446744073709551616",
            ".reg",
            ".b32",
            ".shared",
            ".align",
            ".param",
            ".entry",
            ".func",
            ".section",
            "add.u32",
            "ld.global.v4.u32",
            "st.shared.u8",
            "bra",
            "brx.idx",
            "mbarrier.init.shared.b64",
            "wgmma.fence.sync.aligned",
            "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes",
            "mov.b64",
            "setp.lt.and.s32",
            "bar.sync",
        ])
        .prop_map(str::to_string),
        "[ -~]{0,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_is_parsed_or_refused(pieces in prop::collection::vec(piece(), 0..40)) {
        let body = pieces.join(" ");
        let _ = Module::parse(&body);
        let _ = Module::parse(&text(1, &format!("{REGISTERS} {body}")));
        let _ = Module::parse(&format!(".version 8.5 .target sm_90a .address_size 64 .global {body}"));
    }

    #[test]
    fn damaged_kernels_are_parsed_or_refused(
        which in any::<bool>(), line in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>(), piece in piece(),
    ) {
        let whole = if which { GEMM } else { ATTENTION };
        let mut lines: Vec<String> = whole.lines().map(str::to_string).collect();
        let (i, j) = (line.index(lines.len()), other.index(lines.len()));
        lines.swap(i, j);
        let at = cut.index(lines[i].len() + 1);
        lines[i].insert_str(at, &piece);
        let _ = Module::parse(&lines.join("\n"));
        let _ = Module::parse(&whole[..cut.index(whole.len())]);
    }

    #[test]
    fn any_instructions_end_in_a_result_or_a_fault(
        lines in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..12),
        seed in any::<u64>(),
    ) {
        let instructions = [
            "ld.global.u32 A, [D];", "st.global.u32 [D], A;", "ld.shared.u32 A, [B];", "st.shared.v2.u32 [B], {A, B};", "ld.u8 A, [D];",
            "mbarrier.init.shared::cta.b64 [A], B;", "mbarrier.arrive.shared::cta.b64 D, [A];", "mbarrier.try_wait.parity.shared::cta.b64 P, [A], B;",
            "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [A], B;", "bar.sync A, B;", "bar.arrive A, B;", "bar.sync 0;", "bar.warp.sync A;",
            "shfl.sync.idx.b32 A, B, 3, 31, -1;", "shfl.sync.down.b32 A|P, A, B, C, -1;", "vote.sync.ballot.b32 A, P, C;", "elect.sync A|P, B;",
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [A], [D], B, [C];", "cp.async.bulk.global.shared::cta.bulk_group [D], [A], B;",
            "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [A], [D, {B, C}], [C];", "cp.async.bulk.commit_group;",
            "cp.async.bulk.wait_group.read 0;", "cp.async.ca.shared.global [A], [D], 16, B;", "cp.async.mbarrier.arrive.noinc.shared.b64 [A];", "cp.async.wait_all;",
            "wgmma.fence.sync.aligned;", "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3}, D, E, P, 1, 1, 0, 1;",
            "wgmma.commit_group.sync.aligned;", "wgmma.wait_group.sync.aligned 0;", "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r1, %r2, %r3, %r4}, [A];",
            "atom.global.add.u32 A, [D], B;", "red.shared.max.s32 [A], B;", "mapa.shared::cluster.u32 A, B, C;", "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [A], B, [C];",
            "barrier.cluster.arrive.aligned;", "barrier.cluster.wait.aligned;", "add.s64 D, D, E;", "add.u32 A, B, C;", "shl.b32 A, A, B;", "setp.lt.u32 P, A, B;",
            "mov.b32 A, 0x400;", "mov.b32 A, %tid.x;", "mov.b64 D, E;", "div.s32 A, B, C;", "rem.s64 D, D, E;", "bfi.b32 A, B, C, A, B;", "@P ret;", "fence.proxy.async;",
            "setmaxnreg.inc.sync.aligned.u32 240;", "redux.sync.add.s32 A, B, -1;", "match.any.sync.b32 A, B, -1;", "cvta.shared.u64 D, D;",
        ];
        let mut body = String::from(
            ".shared .align 1024 .b8 data[8192]; ld.param.u64 %d0, [p0]; mov.u64 %d1, data; mov.u32 %r0, data; mov.u32 %r1, %tid.x; shl.b32 %r1, %r1, 4; add.u32 %r1, %r1, %r0; mov.u32 %r2, 64; mov.u32 %r3, 1; mov.u32 %r4, 16;\n",
        );
        for (instruction, a, b, d) in lines {
            let pick = |index: &prop::sample::Index, names: &[&str]| names[index.index(names.len())].to_string();
            let words = ["%r0", "%r1", "%r2", "%r3", "%r4"];
            // Capital letters stand for registers.
            body += &instructions[instruction.index(instructions.len())]
                .replace('A', &pick(&a, &words))
                .replace('B', &pick(&b, &words))
                .replace('C', &pick(&d, &words))
                .replace('D', &pick(&d, &["%d0", "%d1", "%d2"]))
                .replace('E', &pick(&b, &["%d0", "%d1", "%d2"]))
                .replace('P', &pick(&a, &["%p0", "%p1"]));
            body.push('\n');
        }
        let module = Module::parse(&text(1, &format!("{REGISTERS} {body} ret;")));
        let module = module.map_err(|e| TestCaseError::fail(format!("{e}: {body}")))?;
            let kernel = module.kernel("k").unwrap();
        for policy in [Policy::Eager, Policy::Random { seed }, Policy::Latest { seed }] {
            let memory = Memory::new();
            let params = memory.allocate(4096).to_le_bytes();
            let launch = Launch::new(&kernel, [2, 1, 1], [160, 1, 1], &params);
            let _ = Launch { policy, cluster: Some([2, 1, 1]), ..launch }.run(&memory);
        }
    }
}
