//! Clusters: remote shared memory, multicast, barriers.

use crate::common::{Buffers, POLICIES, launch_raw, store, text_with_maps, wait};
use slimpipe_emulator::{Element, FaultKind, Fill, Policy, Swizzle, TensorMap};

#[test]
fn blocks_read_each_others_shared_memory() {
    let body = format!(
        "mov.u32 %r1, smem; shl.b32 %r2, %t0, 2; add.u32 %r2, %r2, %r1; mov.u32 %r3, %cluster_ctarank; mad.lo.u32 %r4, %r3, 1000, %t0;
         st.shared.u32 [%r2], %r4; barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;
         xor.b32 %r5, %r3, 1; mapa.shared::cluster.u32 %r6, %r2, %r5; ld.shared::cluster.u32 %r7, [%r6];
         cvt.u64.u32 %d3, %r2; cvta.shared.u64 %d3, %d3; mapa.u64 %d4, %d3, %r5; ld.u32 %r8, [%d4]; add.u32 %r7, %r7, %r8;
         barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;
         mov.u32 %r9, %ctaid.x; shl.b32 %r9, %r9, 5; add.u32 %t0, %t0, %r9; {} ret;",
        store("%r7")
    );
    let text = text_with_maps(0, 1, &body);
    for policy in POLICIES {
        let buffers = Buffers::new(&[vec![0; 4 * 128]]);
        let sizes = ([4, 1, 1], [32, 1, 1]);
        launch_raw(&text, sizes, Some([2, 1, 1]), 1024, &buffers.params(), &buffers.memory, policy)
            .unwrap();
        for (i, &value) in buffers.words(0).iter().enumerate() {
            let other = (i / 32 % 2) ^ 1;
            assert_eq!(value as usize, 2 * (other * 1000 + i % 32), "{policy:?}");
        }
    }
}

#[test]
fn a_load_reaches_all_blocks_of_its_mask() {
    // Each of two blocks loads half a tile to both.
    let body = format!(
        ".shared .align 8 .b64 bar; mov.u32 %r0, bar; mov.u32 %r1, smem; add.u32 %r1, %r1, 1023; and.b32 %r1, %r1, -1024; mov.u32 %r3, %cluster_ctarank;
         setp.ne.u32 %p0, %t0, 0; @%p0 bra READY; mbarrier.init.shared::cta.b64 [%r0], 1; fence.mbarrier_init.release.cluster;
         mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r0], 1024;
         READY: barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned; @%p0 bra WAIT;
         shl.b32 %r4, %r3, 9; add.u32 %r5, %r1, %r4; shl.b32 %r6, %r3, 3; mov.b64 %d2, m0; cvta.param.u64 %d2, %d2; mov.u16 %h0, 3;
         cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%r5], [%d2, {{0, %r6}}], [%r0], %h0;
         WAIT: {} shl.b32 %r2, %t0, 2; add.u32 %r2, %r2, %r1; ld.shared.u32 %r7, [%r2];
         barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;
         mov.u32 %r9, %ctaid.x; shl.b32 %r9, %r9, 8; add.u32 %t0, %t0, %r9; {} ret;",
        wait("%r0", "0", "SPIN"), store("%r7")
    );
    let text = text_with_maps(1, 1, &body);
    let tensor: Vec<u8> = (0..256u32).flat_map(|i| i.to_le_bytes()).collect();
    for policy in POLICIES {
        let buffers = Buffers::new(&[vec![0; 2048], tensor.clone()]);
        let map = TensorMap {
            element: Element::F32,
            address: buffers.addresses[1],
            sizes: vec![16, 16],
            strides: vec![64],
            box_sizes: vec![16, 8],
            swizzle: Swizzle::None,
            fill: Fill::Zero,
        };
        let mut params = map.encode().unwrap().to_vec();
        params.extend(buffers.addresses[0].to_le_bytes());
        let sizes = ([2, 1, 1], [256, 1, 1]);
        launch_raw(&text, sizes, Some([2, 1, 1]), 3072, &params, &buffers.memory, policy).unwrap();
        let expected: Vec<u32> = (0..512).map(|i| i % 256).collect();
        assert_eq!(buffers.words(0), expected, "{policy:?}");
    }
}

#[test]
fn values_are_sent_to_another_block_and_counted_there() {
    let body = format!(
        ".shared .align 8 .b64 bar; mov.u32 %r0, bar; mov.u32 %r1, smem; setp.ne.u32 %p0, %t0, 0; @%p0 bra READY;
         mbarrier.init.shared::cta.b64 [%r0], 1; fence.mbarrier_init.release.cluster; mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r0], 128;
         READY: barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;
         mov.u32 %r3, %cluster_ctarank; xor.b32 %r3, %r3, 1; shl.b32 %r2, %t0, 2; add.u32 %r2, %r2, %r1; mapa.shared::cluster.u32 %r4, %r2, %r3;
         mapa.shared::cluster.u32 %r5, %r0, %r3; mad.lo.u32 %r6, %r3, 100, %t0;
         st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r4], %r6, [%r5];
         {} ld.shared.u32 %r7, [%r2]; barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;
         mov.u32 %r9, %ctaid.x; shl.b32 %r9, %r9, 5; add.u32 %t0, %t0, %r9; {} ret;",
        wait("%r0", "0", "SPIN"), store("%r7")
    );
    let text = text_with_maps(0, 1, &body);
    for policy in POLICIES {
        let buffers = Buffers::new(&[vec![0; 256]]);
        let sizes = ([2, 1, 1], [32, 1, 1]);
        launch_raw(&text, sizes, Some([2, 1, 1]), 1024, &buffers.params(), &buffers.memory, policy)
            .unwrap();
        for (i, &value) in buffers.words(0).iter().enumerate() {
            assert_eq!(value as usize, i / 32 * 100 + i % 32, "{policy:?}");
        }
    }
}

#[test]
fn a_block_that_has_exited_cannot_be_reached() {
    let body = "mov.u32 %r3, %cluster_ctarank; setp.eq.u32 %p0, %r3, 1; @%p0 ret; barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;
                mov.u32 %r1, smem; mov.u32 %r2, 1; mapa.shared::cluster.u32 %r4, %r1, %r2; ld.shared::cluster.u32 %r5, [%r4]; ret;";
    let text = text_with_maps(0, 0, body);
    let buffers = Buffers::new(&[]);
    let sizes = ([2, 1, 1], [32, 1, 1]);
    let fault =
        launch_raw(&text, sizes, Some([2, 1, 1]), 1024, &[], &buffers.memory, Policy::Eager)
            .unwrap_err();
    assert_eq!(fault.kind, FaultKind::Freed);
}
