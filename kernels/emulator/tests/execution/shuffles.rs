//! Exchanges between the lanes of a warp.

use crate::common::{POLICIES, block, store};
use slimpipe_emulator::{FaultKind, Policy};

fn run(body: &str) -> Vec<u32> {
    block(body, 32, 32, Policy::Eager).unwrap_or_else(|fault| panic!("{fault}"))
}

#[test]
fn values_come_from_the_lane_that_is_named() {
    let cases: [(&str, fn(usize) -> usize); 5] = [
        ("shfl.sync.bfly.b32 %r0|%p0, %t0, 5, 31, -1;", |l| l ^ 5),
        ("shfl.sync.down.b32 %r0|%p0, %t0, 3, 31, -1;", |l| if l + 3 < 32 { l + 3 } else { l }),
        ("shfl.sync.up.b32 %r0|%p0, %t0, 3, 0, -1;", |l| if l >= 3 { l - 3 } else { l }),
        ("shfl.sync.idx.b32 %r0|%p0, %t0, 9, 31, -1;", |_| 9),
        // Segments of eight lanes.
        ("shfl.sync.idx.b32 %r0|%p0, %t0, 2, 0x181f, -1;", |l| l / 8 * 8 + 2),
    ];
    for (text, from) in cases {
        let result = run(&format!("{text} {} ret;", store("%r0")));
        for (lane, &value) in result.iter().enumerate() {
            assert_eq!(value as usize, from(lane), "{text} in lane {lane}");
        }
    }
}

#[test]
fn the_predicate_tells_whether_there_is_such_a_lane() {
    let body = format!(
        "shfl.sync.down.b32 %r0|%p0, %t0, 4, 0x181f, -1; selp.u32 %r1, 1, 0, %p0; {} ret;",
        store("%r1")
    );
    for (lane, &there) in run(&body).iter().enumerate() {
        assert_eq!(there, u32::from(lane % 8 < 4));
    }
}

#[test]
fn lanes_that_come_later_are_waited_for() {
    // Half the warp takes a longer way to the shuffle.
    let body = format!(
        "mov.u32 %r1, %t0; setp.lt.u32 %p0, %t0, 16; @%p0 bra JOIN; add.u32 %r1, %r1, 100;
         JOIN: shfl.sync.bfly.b32 %r2, %r1, 16, 31, -1; {} ret;",
        store("%r2")
    );
    for policy in POLICIES {
        let result = block(&body, 32, 32, policy).unwrap();
        for (lane, &value) in result.iter().enumerate() {
            let other = lane ^ 16;
            assert_eq!(value as usize, other + if other >= 16 { 100 } else { 0 });
        }
    }
}

#[test]
fn votes_matches_and_sums() {
    let body = format!(
        "setp.lt.u32 %p0, %t0, 5; vote.sync.ballot.b32 %r0, %p0, -1; vote.sync.any.pred %p1, %p0, -1;
         vote.sync.all.pred %p2, %p0, -1; selp.u32 %r1, 64, 0, %p1; add.u32 %r0, %r0, %r1; selp.u32 %r1, 128, 0, %p2; add.u32 %r0, %r0, %r1;
         {} ret;",
        store("%r0")
    );
    assert_eq!(run(&body), vec![31 + 64; 32]);
    let body = format!(
        "redux.sync.add.s32 %r0, %t0, -1; redux.sync.max.u32 %r1, %t0, -1; mad.lo.u32 %r0, %r1, 1000, %r0; {} ret;",
        store("%r0")
    );
    assert_eq!(run(&body), vec![31_000 + 496; 32]);
    let body =
        format!("and.b32 %r1, %t0, 3; match.any.sync.b32 %r0, %r1, -1; {} ret;", store("%r0"));
    assert!(run(&body).iter().enumerate().all(|(l, &m)| m == 0x1111_1111 << (l % 4)));
    let body = format!("elect.sync %r0|%p0, -1; selp.u32 %r1, 1, 0, %p0; {} ret;", store("%r1"));
    assert_eq!(run(&body).iter().sum::<u32>(), 1);
}

#[test]
fn a_value_from_a_lane_outside_the_mask_is_a_fault() {
    let body =
        "setp.ge.u32 %p0, %t0, 16; @%p0 ret; shfl.sync.idx.b32 %r0, %t0, 20, 31, 0xffff; ret;";
    let fault = block(body, 32, 1, Policy::Eager).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Divergence);
    assert!(fault.text.contains("shfl.sync.idx"), "{fault}");
    assert_eq!(fault.thread, Some([0, 0, 0]));
}

#[test]
fn lanes_that_never_come_are_a_deadlock() {
    let body =
        "setp.ge.u32 %p0, %t0, 16; @%p0 bra OTHER; shfl.sync.idx.b32 %r0, %t0, 0, 31, -1; ret;
                OTHER: bar.sync 0; ret;";
    let fault = block(body, 32, 1, Policy::Eager).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Deadlock);
}

#[test]
fn a_mask_that_leaves_out_an_executing_lane_is_a_fault() {
    let fault =
        block("shfl.sync.idx.b32 %r0, %t0, 0, 31, 0xff; ret;", 32, 1, Policy::Eager).unwrap_err();
    assert_eq!((fault.kind, fault.thread), (FaultKind::Divergence, Some([8, 0, 0])));
}
