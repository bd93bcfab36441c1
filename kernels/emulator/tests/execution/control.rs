//! Branches, divergence, barriers of warps and blocks.

use crate::common::{POLICIES, block, store};
use slimpipe_emulator::{FaultKind, Policy};

#[test]
fn lanes_that_part_come_together_again() {
    // Odd lanes add 10, even ones 20; then all are counted at one place.
    let body = format!(
        "and.b32 %r0, %t0, 1; setp.eq.u32 %p0, %r0, 1;
         @%p0 bra ODD; add.u32 %r1, %t0, 20; bra JOIN;
         ODD: add.u32 %r1, %t0, 10;
         JOIN: activemask.b32 %r2; popc.b32 %r2, %r2; mad.lo.u32 %r1, %r2, 1000, %r1; {} ret;",
        store("%r1")
    );
    let result = block(&body, 64, 64, Policy::Eager).unwrap();
    for (i, &value) in result.iter().enumerate() {
        assert_eq!(value as usize, 32_000 + i + if i % 2 == 1 { 10 } else { 20 });
    }
}

#[test]
fn every_lane_may_loop_for_its_own_number_of_times() {
    let body = format!(
        "mov.u32 %r0, 0; mov.u32 %r1, 0;
         LOOP: setp.ge.u32 %p0, %r0, %t0; @%p0 bra DONE; add.u32 %r1, %r1, %r0; add.u32 %r0, %r0, 1; bra LOOP;
         DONE: {} ret;",
        store("%r1")
    );
    for policy in POLICIES {
        let result = block(&body, 96, 96, policy).unwrap();
        for (i, &value) in result.iter().enumerate() {
            assert_eq!(value as usize, i * i.saturating_sub(1) / 2, "{policy:?}");
        }
    }
}

#[test]
fn a_lane_that_waits_for_another_of_its_warp_does_not_starve_it() {
    // Lane 0 spins on shared memory until lane 31, which comes later in the text, has written it.
    let body = format!(
        ".shared .align 4 .b32 flag; mov.u32 %r0, flag; mov.u32 %r1, 0; st.shared.u32 [%r0], 0; bar.warp.sync -1;
         setp.eq.u32 %p0, %t0, 31; @%p0 bra WRITE; setp.ne.u32 %p1, %t0, 0; @%p1 bra END;
         SPIN: ld.volatile.shared.u32 %r1, [%r0]; setp.eq.u32 %p2, %r1, 0; @%p2 bra SPIN; bra END;
         WRITE: st.shared.u32 [%r0], 7;
         END: {} ret;",
        store("%r1")
    );
    for policy in POLICIES {
        assert_eq!(block(&body, 32, 32, policy).unwrap()[0], 7, "{policy:?}");
    }
}

#[test]
fn a_table_of_branches_takes_every_lane_to_its_label() {
    let body = format!(
        "rem.u32 %r0, %t0, 3; TABLE: .branchtargets A, B, C; brx.idx %r0, TABLE;
         A: mov.u32 %r1, 100; bra END; B: mov.u32 %r1, 200; bra END; C: mov.u32 %r1, 300;
         END: {} ret;",
        store("%r1")
    );
    let result = block(&body, 32, 32, Policy::Eager).unwrap();
    for (i, &value) in result.iter().enumerate() {
        assert_eq!(value as usize, (i % 3 + 1) * 100);
    }
}

#[test]
fn names_in_braces_hide_those_outside() {
    let body = format!(
        "mov.u32 %r1, 1;
         {{ .reg .b32 %r1; .reg .pred p; mov.u32 %r1, 5; L: setp.eq.u32 p, %r1, 5; @p bra E; bra L; E: }}
         {{ .reg .pred p; L: setp.eq.u32 p, %r1, 1; @p bra E; bra L; E: }}
         {} ret;",
        store("%r1")
    );
    assert_eq!(block(&body, 32, 32, Policy::Eager).unwrap(), vec![1; 32]);
}

#[test]
fn a_barrier_makes_all_stores_visible() {
    let body = format!(
        ".shared .align 4 .b32 data[256]; mov.u32 %r0, data; shl.b32 %r1, %t0, 2; add.u32 %r2, %r0, %r1;
         st.shared.u32 [%r2], %t0; bar.sync 0;
         xor.b32 %r3, %t0, 255; shl.b32 %r3, %r3, 2; add.u32 %r3, %r3, %r0; ld.shared.u32 %r4, [%r3]; {} ret;",
        store("%r4")
    );
    for policy in POLICIES {
        let result = block(&body, 256, 256, policy).unwrap();
        assert!(result.iter().enumerate().all(|(i, &v)| v as usize == 255 - i), "{policy:?}");
    }
}

#[test]
fn named_barriers_order_producers_and_consumers() {
    // Warp 0 writes and arrives; warp 1 waits and reads. Warp 2 has nothing to do with it.
    let body = format!(
        ".shared .align 4 .b32 data[32]; mov.u32 %r0, data; and.b32 %r1, %t0, 31; shl.b32 %r1, %r1, 2; add.u32 %r0, %r0, %r1;
         mov.u32 %r4, 0; setp.ge.u32 %p0, %t0, 64; @%p0 bra END; setp.ge.u32 %p1, %t0, 32; @%p1 bra READ;
         st.shared.u32 [%r0], %t0; bar.arrive 3, 64; bra END;
         READ: bar.sync 3, 64; ld.shared.u32 %r4, [%r0]; add.u32 %r4, %r4, 1;
         END: {} ret;",
        store("%r4")
    );
    for policy in POLICIES {
        let result = block(&body, 96, 96, policy).unwrap();
        assert!((32..64).all(|i| result[i] as usize == i - 32 + 1), "{policy:?}");
    }
}

#[test]
fn barriers_count_predicates() {
    let body = format!(
        "setp.lt.u32 %p0, %t0, 40; bar.red.popc.u32 %r1, 0, %p0; setp.lt.u32 %p1, %t0, 64;
         bar.red.and.pred %p2, 0, %p1; bar.red.or.pred %p3, 0, %p0; @%p2 add.u32 %r1, %r1, 1000; @%p3 add.u32 %r1, %r1, 2000; {} ret;",
        store("%r1")
    );
    for policy in POLICIES {
        assert_eq!(block(&body, 64, 64, policy).unwrap(), vec![3040; 64], "{policy:?}");
    }
}

#[test]
fn threads_that_exit_do_not_keep_others_waiting() {
    let body = format!("setp.ge.u32 %p0, %t0, 64; @%p0 ret; bar.sync 0; {} ret;", store("%t0"));
    for policy in POLICIES {
        assert_eq!(block(&body, 128, 128, policy).unwrap()[63], 63);
    }
}

#[test]
fn blocks_of_any_size_have_their_own_numbers() {
    let text = crate::common::text(1, &format!(
        "{} mov.u32 %r0, %ctaid.x; mov.u32 %r1, %ntid.x; mov.u32 %r2, %tid.y; mad.lo.u32 %r3, %r2, %r1, %t0;
         mov.u32 %r4, %ntid.y; mul.lo.u32 %r4, %r4, %r1; mad.lo.u32 %t0, %r0, %r4, %r3; {} ret;",
        crate::common::REGISTERS, store("%t0")
    ));
    for policy in POLICIES {
        let buffers = crate::common::Buffers::new(&[vec![0; 5 * 21 * 4]]);
        crate::common::launch(&text, [5, 1, 1], [7, 3, 1], 0, &buffers, policy).unwrap();
        assert_eq!(buffers.words(0), (0..105).collect::<Vec<_>>());
    }
}

#[test]
fn blocks_may_wait_for_blocks_that_come_later() {
    // Block 0 spins until the last block has written.
    let text = crate::common::text(1, &format!(
        "{} mov.u32 %r0, %ctaid.x; ld.param.u64 %d0, [p0]; setp.eq.u32 %p0, %r0, 3; @%p0 bra LAST; setp.ne.u32 %p1, %r0, 0; @%p1 bra END;
         SPIN: ld.acquire.gpu.global.u32 %r1, [%d0]; setp.ne.u32 %p2, %r1, 9; @%p2 bra SPIN; st.global.u32 [%d0+4], %r1; bra END;
         LAST: st.release.gpu.global.u32 [%d0], 9; END: ret;",
        crate::common::REGISTERS
    ));
    for policy in POLICIES {
        let buffers = crate::common::Buffers::new(&[vec![0; 8]]);
        crate::common::launch(&text, [4, 1, 1], [1, 1, 1], 0, &buffers, policy).unwrap();
        assert_eq!(buffers.words(0), [9, 9]);
    }
}

#[test]
fn a_barrier_that_not_all_reach_is_a_deadlock_with_every_warp_named() {
    let body = "setp.ge.u32 %p0, %t0, 32; @%p0 bra B; bar.sync 1, 64; ret; B: bar.sync 2, 64; ret;";
    for policy in POLICIES {
        let fault = block(body, 64, 1, policy).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Deadlock);
        assert!(fault.what.contains("warp 0") && fault.what.contains("warp 1"), "{fault}");
        assert!(fault.what.contains("bar.sync 2, 64"), "{fault}");
    }
}
