//! What the static gates hold tensor-core kernels to.

use slimpipe_kernels::cuda::variants;

/// Kernels of theirs that multiply nothing.
const PLAIN: [&str; 1] = ["attention_bwd_prepare"];

#[test]
fn every_kernel_on_tensor_cores_must_have_products_tensor_copies_and_a_budget_of_registers() {
    let on_tensor_cores = |source: &str| source.starts_with("sm90_bf16_");
    let all = variants();
    let held: Vec<_> = all.iter().filter(|v| on_tensor_cores(v.source.name)).collect();
    assert!(!held.is_empty());
    for variant in held {
        let expects = variant.expects;
        let all = expects.wgmma && expects.tma && (1..=168).contains(&expects.registers);
        assert!(all || PLAIN.contains(&variant.entry), "{variant}: {expects:?}");
    }
}
