//! Bugs planted in whole kernels: each must show as a fault or as a wrong result on one of three
//! schedules.

use crate::kernels::{ATTENTION, Attention, GEMM, Gemm};
use slimpipe_emulator::{Module, Policy};

/// A change to a kernel's text: what is replaced at its first occurrence, and by what.
struct Mutant {
    name: &'static str,
    edits: &'static [(&'static str, &'static str)],
}

const SCHEDULES: [Policy; 3] =
    [Policy::Eager, Policy::Random { seed: 11 }, Policy::Latest { seed: 12 }];

/// Texts of the mutants that no schedule catches; `run` gives the error of a result, or nothing
/// after a fault.
fn missed(
    text: &str,
    mutants: &[Mutant],
    run: impl Fn(&str, Policy) -> Option<f64>,
) -> Vec<String> {
    let caught = |text: &str, policy| run(text, policy).is_none_or(|error| !(error < 3e-3));
    assert!(!SCHEDULES.iter().any(|&policy| caught(text, policy)), "the kernel itself is correct");
    let mut missed = Vec::new();
    for mutant in mutants {
        let mut changed = text.to_string();
        for (from, to) in mutant.edits {
            assert!(changed.contains(from), "{}: '{from}' is not in the text", mutant.name);
            changed = changed.replacen(from, to, 1);
        }
        if !SCHEDULES.iter().any(|&policy| caught(&changed, policy)) {
            missed.push(mutant.name.to_string());
        }
    }
    missed
}

const GEMM_MUTANTS: &[Mutant] = &[
    Mutant {
        name: "consumers do not wait for a stage to be full",
        edits: &[(
            "mbarrier.try_wait.parity.shared::cta.b64 p, [%r72], %r294;",
            "setp.eq.u32 p, 0, 0;",
        )],
    },
    Mutant {
        name: "the producer does not wait for a stage to be empty",
        edits: &[(
            "mbarrier.try_wait.parity.shared::cta.b64 p, [%r217], %r303;",
            "setp.eq.u32 p, 0, 0;",
        )],
    },
    Mutant {
        name: "consumers wait for the other parity",
        edits: &[(
            "mbarrier.try_wait.parity.shared::cta.b64 p, [%r88], %r294;",
            ".reg .b32 q; xor.b32 q, %r294, 1; mbarrier.try_wait.parity.shared::cta.b64 p, [%r88], q;",
        )],
    },
    Mutant {
        name: "fewer bytes are announced than come",
        edits: &[("_, [%r226], %r256;", "_, [%r226], 16384;")],
    },
    Mutant {
        name: "more bytes are announced than come",
        edits: &[("_, [%r226], %r256;", "_, [%r226], 32784;")],
    },
    Mutant {
        name: "nobody waits for the products",
        edits: &[("wgmma.wait_group.sync.aligned 0;", "")],
    },
    Mutant {
        name: "one group of products may still be under way",
        edits: &[("wgmma.wait_group.sync.aligned 0;", "wgmma.wait_group.sync.aligned 1;")],
    },
    Mutant {
        name: "a stage is released before its products are done",
        edits: &[
            ("mbarrier.arrive.shared::cta.b64 _, [%r87];", ""),
            (
                "wgmma.wait_group.sync.aligned 0;",
                "setp.ne.s32 %p6, %r6, 0; mov.u32 %r87, _ZZ12gemm_bf16_tnE5empty;
                 @!%p6 mbarrier.arrive.shared::cta.b64 _, [%r87]; wgmma.wait_group.sync.aligned 0;",
            ),
        ],
    },
    Mutant {
        name: "groups of eight rows are too far apart in a descriptor",
        edits: &[(
            "or.b64 %rd16, %rd26, 4611686293305360384;",
            "or.b64 %rd16, %rd26, 4611686293305360384; add.s64 %rd16, %rd16, 4294967296;",
        )],
    },
    Mutant {
        name: "a descriptor has another swizzle",
        edits: &[(
            "or.b64 %rd16, %rd26, 4611686293305360384;",
            "or.b64 %rd16, %rd26, 9223372311732748288;",
        )],
    },
    Mutant {
        name: "a step along K is taken twice",
        edits: &[("4611686293305360388;", "4611686293305360386;")],
    },
    Mutant {
        name: "an empty barrier waits for one consumer only",
        edits: &[("mov.u32 %r66, 2;", "mov.u32 %r66, 1;")],
    },
    Mutant {
        name: "a full barrier waits for two arrivals",
        edits: &[("[%r51], %r64;", "[%r51], 2;")],
    },
    Mutant {
        name: "mbarriers are not made visible to the async proxy",
        edits: &[("fence.mbarrier_init.release.cluster;", "")],
    },
    Mutant {
        name: "a barrier is for fewer threads than come",
        edits: &[("bar.sync 0;", "bar.sync 0, 352;")],
    },
    Mutant {
        name: "coordinates are swapped",
        edits: &[("[%rd100, {%r227, %r25}]", "[%rd100, {%r25, %r227}]")],
    },
    Mutant {
        name: "both factors go to the same place",
        edits: &[("[%r225], [%rd101", "[%r221], [%rd101")],
    },
    Mutant {
        name: "a load reports to the next stage's barrier",
        edits: &[("[%rd101, {%r227, %r26}], [%r226];", "[%rd101, {%r227, %r26}], [%r226+8];")],
    },
    Mutant {
        name: "consumers ask for registers that are not there",
        edits: &[("setmaxnreg.inc.sync.aligned.u32 232;", "setmaxnreg.inc.sync.aligned.u32 240;")],
    },
    Mutant {
        name: "the first product adds to what the registers held",
        edits: &[("setp.ne.b32 p, %r74, 0;", "setp.eq.b32 p, 0, 0;")],
    },
    Mutant {
        name: "results go past the end",
        edits: &[("st.global.u32 [%rd95],", "st.global.u32 [%rd95+131072],")],
    },
    Mutant {
        name: "results go to odd places",
        edits: &[("st.global.u32 [%rd95],", "st.global.u32 [%rd95+2],")],
    },
    Mutant {
        name: "the producer leaves its loads under way",
        edits: &[(
            "mbarrier.try_wait.parity.shared::cta.b64 p, [%r217], %r303;",
            "add.s32 %r302, %r302, 4; mbarrier.try_wait.parity.shared::cta.b64 p, [%r217], %r303;",
        )],
    },
];

#[test]
fn bugs_planted_in_a_gemm_are_caught() {
    let gemm = Gemm { m: 256, n: 128, k: 512 };
    let run = |text: &str, policy| {
        let module = Module::parse(text).unwrap_or_else(|e| panic!("{e}"));
        gemm.run(&module.kernels()[0], policy, 1).ok().map(|(_, error, _)| error)
    };
    assert_eq!(missed(GEMM, GEMM_MUTANTS, run), Vec::<String>::new());
}

const ATTENTION_MUTANTS: &[Mutant] = &[
    Mutant {
        name: "nobody waits for the queries",
        edits: &[(
            "mbarrier.try_wait.parity.shared::cta.b64 p, [%r69], %r514;",
            "setp.eq.u32 p, 0, 0;",
        )],
    },
    Mutant {
        name: "nobody waits for the keys",
        edits: &[(
            "mbarrier.try_wait.parity.shared::cta.b64 p, [%r84], %r523;",
            "setp.eq.u32 p, 0, 0;",
        )],
    },
    Mutant {
        name: "nobody waits for the values",
        edits: &[(
            "mbarrier.try_wait.parity.shared::cta.b64 p, [%r208], %r523;",
            "setp.eq.u32 p, 0, 0;",
        )],
    },
    Mutant {
        name: "the diagonal is masked as well",
        edits: &[(
            "sub.s32 %r18, %r170, %r518;",
            "sub.s32 %r18, %r170, %r518; add.s32 %r18, %r18, -1;",
        )],
    },
    Mutant {
        name: "what is behind a ragged chunk is not masked",
        edits: &[("setp.ge.s32 %p13, %r175, %r155;", "setp.ge.s32 %p13, %r175, 1000;")],
    },
    Mutant {
        name: "the maximum is taken over two lanes of four",
        edits: &[("mov.u32 %r282, 2;", "mov.u32 %r282, 0;")],
    },
    Mutant {
        name: "a mask of lanes leaves half the warp out",
        edits: &[("mov.u32 %r279, -1;", "mov.u32 %r279, 65535;")],
    },
    Mutant {
        name: "halves of the values are too near in a descriptor",
        edits: &[("4611686293372403712;", "4611686293338849280;")],
    },
    Mutant {
        name: "values are taken as if their tokens were innermost",
        edits: &[("%rd70, 1, 1, 1, 1;", "%rd70, 1, 1, 1, 0;")],
    },
    Mutant {
        name: "probabilities are swapped in their pairs",
        edits: &[(
            "cvt.rn.bf16x2.f32 %r210, %f3759, %f3760;",
            "cvt.rn.bf16x2.f32 %r210, %f3760, %f3759;",
        )],
    },
    Mutant {
        name: "products read registers that are written behind the fence",
        edits: &[(
            "or.b64 %rd63, %rd77, 4611686293372403712;",
            "or.b64 %rd63, %rd77, 4611686293372403712; cvt.rn.bf16x2.f32 %r210, %f3759, %f3760;",
        )],
    },
];

#[test]
fn bugs_planted_in_attention_are_caught() {
    let case = Attention { chunks: &[130, 70, 100], queries: 140, heads: 1, kv_heads: 1 };
    let run = |text: &str, policy| {
        let module = Module::parse(text).unwrap_or_else(|e| panic!("{e}"));
        let (out, lse) = case.run(&module.kernels()[0], policy).ok()?;
        Some(if out < 3e-3 && lse < 1e-5 { 0.0 } else { 1.0 })
    };
    assert_eq!(missed(ATTENTION, ATTENTION_MUTANTS, run), Vec::<String>::new());
}
