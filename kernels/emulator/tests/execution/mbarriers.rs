//! Barriers in shared memory.

use crate::common::{POLICIES, block, store, wait};
use slimpipe_emulator::{FaultKind, Policy};

#[test]
fn a_ring_of_two_stages_hands_values_over_in_order() {
    // Thread 0 produces 1..=20 into two slots, thread 32 adds them up.
    let body = format!(
        ".shared .align 8 .b64 bars[4]; .shared .align 4 .b32 slots[2]; mov.u32 %r0, bars; mov.u32 %r1, slots;
         setp.ne.u32 %p0, %t0, 0; @%p0 bra READY;
         mbarrier.init.shared::cta.b64 [%r0], 1; mbarrier.init.shared::cta.b64 [%r0+8], 1;
         mbarrier.init.shared::cta.b64 [%r0+16], 1; mbarrier.init.shared::cta.b64 [%r0+24], 1;
         READY: bar.sync 0; mov.u32 %r2, 0; mov.u32 %r10, 0; mov.u32 %r4, 0;
         setp.eq.u32 %p0, %t0, 0; @%p0 bra PRODUCE; setp.ne.u32 %p1, %t0, 32; @%p1 bra END;
         CONSUME: and.b32 %r3, %r2, 1; shl.b32 %r5, %r3, 3; add.u32 %r6, %r0, %r5; shr.u32 %r7, %r2, 1; and.b32 %r7, %r7, 1;
         {} shl.b32 %r8, %r3, 2; add.u32 %r8, %r8, %r1; ld.shared.u32 %r9, [%r8]; add.u32 %r10, %r10, %r9;
         mbarrier.arrive.shared::cta.b64 _, [%r6+16];
         add.u32 %r2, %r2, 1; setp.lt.u32 %p2, %r2, 20; @%p2 bra CONSUME; bra END;
         PRODUCE: and.b32 %r3, %r2, 1; shl.b32 %r5, %r3, 3; add.u32 %r6, %r0, %r5; shr.u32 %r7, %r2, 1; and.b32 %r7, %r7, 1; xor.b32 %r7, %r7, 1;
         add.u32 %r11, %r6, 16; {} shl.b32 %r8, %r3, 2; add.u32 %r8, %r8, %r1; add.u32 %r9, %r2, 1; st.shared.u32 [%r8], %r9;
         mbarrier.arrive.shared::cta.b64 %d0, [%r6];
         add.u32 %r2, %r2, 1; setp.lt.u32 %p2, %r2, 20; @%p2 bra PRODUCE;
         END: {} ret;",
        wait("%r6", "%r7", "FULL"), wait("%r11", "%r7", "EMPTY"), store("%r10")
    );
    for policy in POLICIES {
        assert_eq!(block(&body, 64, 64, policy).unwrap()[32], 210, "{policy:?}");
    }
}

#[test]
fn states_name_phases() {
    // All threads arrive and wait for the phase they arrived in, three times.
    let body = format!(
        ".shared .align 8 .b64 bar; .shared .align 4 .b32 sum; mov.u32 %r0, bar; mov.u32 %r1, sum; setp.ne.u32 %p0, %t0, 0; @%p0 bra READY;
         mbarrier.init.shared::cta.b64 [%r0], 64; st.shared.u32 [%r1], 0; READY: bar.sync 0; mov.u32 %r2, 0;
         LOOP: red.shared.add.u32 [%r1], 1; mbarrier.arrive.shared::cta.b64 %d0, [%r0];
         SPIN: mbarrier.test_wait.shared::cta.b64 %p1, [%r0], %d0; @!%p1 bra SPIN;
         ld.shared.u32 %r3, [%r1]; add.u32 %r2, %r2, 1; bar.sync 1; setp.lt.u32 %p2, %r2, 3; @%p2 bra LOOP; {} ret;",
        store("%r3")
    );
    for policy in POLICIES {
        assert_eq!(block(&body, 64, 64, policy).unwrap(), vec![192; 64], "{policy:?}");
    }
}

#[test]
fn bytes_that_are_announced_are_waited_for() {
    let body = format!(
        ".shared .align 8 .b64 bar; .shared .align 4 .b32 value; mov.u32 %r0, bar; mov.u32 %r1, value; setp.ne.u32 %p0, %t0, 0; @%p0 bra READY;
         mbarrier.init.shared::cta.b64 [%r0], 1; mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r0], 48; READY: bar.sync 0; mov.u32 %r2, 0;
         setp.ne.u32 %p1, %t0, 32; @%p1 bra WAIT; st.shared.u32 [%r1], 5;
         mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%r0], 16; mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%r0], 32;
         WAIT: {} ld.shared.u32 %r2, [%r1]; {} ret;",
        wait("%r0", "0", "SPIN"), store("%r2")
    );
    for policy in POLICIES {
        assert_eq!(block(&body, 64, 64, policy).unwrap(), vec![5; 64], "{policy:?}");
    }
}

#[test]
fn an_arrival_too_many_is_a_fault() {
    let body = ".shared .align 8 .b64 bar; mov.u32 %r0, bar; mbarrier.init.shared::cta.b64 [%r0], 2;
                mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r0], 16;
                mbarrier.arrive.shared::cta.b64 _, [%r0], 2; mbarrier.arrive.shared::cta.b64 _, [%r0]; ret;";
    let fault = block(body, 1, 1, Policy::Eager).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Mbarrier);
    assert!(fault.what.contains("waits for 0 of 2"), "{fault}");
}

#[test]
fn an_mbarrier_nobody_made_is_a_fault() {
    for body in [
        ".shared .align 8 .b64 bar; mov.u32 %r0, bar; mbarrier.arrive.shared::cta.b64 _, [%r0]; ret;",
        ".shared .align 8 .b64 bar; mov.u32 %r0, bar; mbarrier.try_wait.parity.shared::cta.b64 %p0, [%r0], 0; ret;",
        ".shared .align 8 .b64 bar; mov.u32 %r0, bar; mbarrier.init.shared::cta.b64 [%r0], 1; mbarrier.inval.shared::cta.b64 [%r0];
         mbarrier.arrive.shared::cta.b64 _, [%r0]; ret;",
    ] {
        assert_eq!(block(body, 1, 1, Policy::Eager).unwrap_err().kind, FaultKind::Mbarrier);
    }
}

#[test]
fn a_store_over_an_mbarrier_is_a_fault() {
    let body = ".shared .align 8 .b64 bar; mov.u32 %r0, bar; mbarrier.init.shared::cta.b64 [%r0], 1; st.shared.u32 [%r0+4], 0; ret;";
    let fault = block(body, 1, 1, Policy::Eager).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Mbarrier);
    assert!(fault.text.contains("st.shared.u32"), "{fault}");
}

#[test]
fn a_wait_for_a_phase_that_never_ends_is_a_deadlock() {
    let body = format!(
        ".shared .align 8 .b64 bar; mov.u32 %r0, bar; mbarrier.init.shared::cta.b64 [%r0], 3; mbarrier.arrive.shared::cta.b64 _, [%r0];
         {} ret;",
        wait("%r0", "0", "SPIN")
    );
    for policy in POLICIES {
        let fault = block(&body, 1, 1, policy).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Deadlock);
        assert!(fault.what.contains("for 2 arrivals and 0 bytes"), "{fault}");
    }
}

#[test]
fn a_bounded_wait_may_give_up() {
    let body = format!(
        ".shared .align 8 .b64 bar; mov.u32 %r0, bar; mbarrier.init.shared::cta.b64 [%r0], 1; mov.u32 %r1, 0;
         SPIN: mbarrier.try_wait.parity.shared::cta.b64 %p0, [%r0], 0; @%p0 bra END; add.u32 %r1, %r1, 1; setp.lt.u32 %p1, %r1, 5; @%p1 bra SPIN;
         END: {} ret;",
        store("%r1")
    );
    for policy in POLICIES {
        assert_eq!(block(&body, 1, 1, policy).unwrap(), [5], "{policy:?}");
    }
}
