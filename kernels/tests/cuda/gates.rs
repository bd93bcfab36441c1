//! The static gates: what they say of all kernels, and what they catch.

use slimpipe_kernels::cuda::compile::gates::{log_violations, ptx_violations, resources};
use slimpipe_kernels::cuda::compile::{Cache, Image, ImageKind, Source, Variant, compile_all};
use slimpipe_kernels::cuda::variants;

use crate::compile::{compiler, toy};
use crate::stored::stored;

/// What the gates say about a variant.
fn violations(variant: &Variant) -> Option<Vec<String>> {
    let made = compiler()?.compile(variant).unwrap_or_else(|error| panic!("{error}"));
    let ptx = String::from_utf8(made.ptx).unwrap();
    let mut found = log_violations(variant, &made.log);
    found.extend(ptx_violations(variant, &ptx));
    Some(found)
}

#[test]
fn every_variant_passes_the_static_gates() {
    let variants = variants();
    // That what is stored is what the compiler makes is another test's.
    let kept: Option<Vec<Image>> = variants.iter().map(stored).collect();
    let images = kept.unwrap_or_else(|| {
        let compiler = compiler().expect("not all assembly is stored, and there is no compiler");
        compile_all(&variants, ImageKind::Ptx, compiler, Cache::of_user().as_ref()).unwrap()
    });
    assert!(!images.is_empty());
    let mut wrong = Vec::new();
    for (variant, image) in variants.iter().zip(&images) {
        let ptx = std::str::from_utf8(&image.bytes).unwrap();
        let found = [log_violations(variant, &image.log), ptx_violations(variant, ptx)].concat();
        wrong.extend(found.into_iter().map(|what| format!("{variant}: {what}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_kernel_that_keeps_to_its_registers_has_no_violations() {
    let Some(found) = violations(&toy().registers(32)) else { return };
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn more_registers_than_expected_are_caught() {
    let Some(found) = violations(&toy().registers(4)) else { return };
    assert!(found.len() == 1 && found[0].ends_with("and 4 are expected at most"), "{found:?}");
}

#[test]
fn fewer_registers_than_warpgroups_share_out_are_caught() {
    let Some(found) = violations(&toy().registers(168).wgmma()) else { return };
    assert!(found[0].ends_with("registers, and its warpgroups share out 168"), "{found:?}");
}

#[test]
fn missing_matrix_products_and_copies_are_caught() {
    let Some(found) = violations(&toy().wgmma().tma()) else { return };
    assert_eq!(found, ["it has no wgmma.mma_async", "it has no cp.async.bulk.tensor"]);
}

#[test]
fn a_stack_in_local_memory_and_spilled_registers_are_caught() {
    static INDEXED: Source = Source {
        name: "indexed.cu",
        text: r#"
extern "C" __global__ void indexed(float* x, const int* at) {
  float kept[8];
  for (int i = 0; i < 8; ++i) kept[i] = x[i];
  for (int i = 0; i < 8; ++i) kept[at[i]] += 1.0f;
  for (int i = 0; i < 8; ++i) x[i] = kept[i];
}
"#,
    };
    let Some(found) = violations(&Variant::new(&INDEXED, "indexed")) else { return };
    assert!(found.iter().any(|what| what.contains("stack")), "{found:?}");
    assert!(found.iter().any(|what| what.contains("local memory (st.local)")), "{found:?}");

    static CROWDED: Source = Source {
        name: "crowded.cu",
        text: r#"
extern "C" __global__ void __maxnreg__(24) crowded(float* x) {
  float kept[64];
#pragma unroll
  for (int i = 0; i < 64; ++i) kept[i] = x[i * 1024 + threadIdx.x];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 64; ++i) x[i * 1024 + threadIdx.x] = kept[63 - i] * kept[i ^ 5];
}
"#,
    };
    let Some(found) = violations(&Variant::new(&CROWDED, "crowded")) else { return };
    assert!(found.iter().any(|what| what.contains("registers are spilled")), "{found:?}");
}

#[test]
fn a_matrix_product_that_is_read_before_it_was_waited_for_is_caught() {
    static HASTY: Source = Source {
        name: "hasty.cu",
        text: r#"
typedef unsigned long long u64;
extern "C" __global__ void __launch_bounds__(128) hasty(float* x, u64 a, u64 b) {
  float d[4] = {};
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0,%1,%2,%3}, %4, %5, 1, 1, 1, 0, 0;"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "l"(a), "l"(b));
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#ifdef WAITS
  asm volatile("wgmma.wait_group.sync.aligned 0;" : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) :: "memory");
#endif
  for (int i = 0; i < 4; ++i) x[threadIdx.x * 4 + i] = d[i];
}
"#,
    };
    let hasty = Variant::new(&HASTY, "hasty").wgmma();
    let Some(found) = violations(&hasty) else { return };
    assert!(found.iter().any(|what| what.contains("(C75")), "{found:?}");
    assert_eq!(violations(&hasty.with("WAITS", 1)).unwrap(), Vec::<String>::new());
}

#[test]
fn a_log_of_two_kernels_is_read_kernel_by_kernel() {
    let log = "\
ptxas info    : 20 bytes gmem
ptxas info    : Compiling entry function 'a' for 'sm_90a'
ptxas info    : Function properties for a
ptxas         .     16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers, 16 bytes cumulative stack size, 1024 bytes smem
ptxas info    : Compiling entry function 'b' for 'sm_90a'
ptxas info    : Function properties for b
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers
";
    let found = resources(log);
    let figures = |i: usize| (found[i].registers, found[i].stack, found[i].spills, found[i].shared);
    assert_eq!(found.iter().map(|kernel| kernel.entry.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((figures(0), figures(1)), ((168, 16, 20, 1024), (8, 0, 0, 0)));
}
