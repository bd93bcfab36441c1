//! Every kind of fault, provoked: what it says, and where it says it was.

use crate::common::{
    Buffers, POLICIES, REGISTERS, block, launch, launch_raw, text, text_with_maps, wait,
};
use slimpipe_emulator::{Fault, FaultKind, Launch, Memory, Module, Policy};

/// The fault of one block of 64 threads that runs `body` with a buffer of 64 words.
fn fault(body: &str) -> Box<Fault> {
    match block(body, 64, 64, Policy::Eager) {
        Err(fault) => fault,
        Ok(_) => panic!("no fault in {body}"),
    }
}

#[test]
fn a_fault_names_kernel_block_thread_and_line() {
    let body = format!(
        "{REGISTERS} mov.u32 %r0, %ctaid.x; setp.ne.u32 %p0, %r0, 2; @%p0 ret; ld.param.u64 %d0, [p0];\n\
         mov.u32 %r1, %tid.y; mad.lo.u32 %r1, %r1, 8, %t0; setp.ne.u32 %p0, %r1, 37; @%p0 ret;\n\
         st.global.u32 [%d0+1024], %r0;\nret;"
    );
    let buffers = Buffers::new(&[vec![0; 1024]]);
    let text = text(1, &body);
    let fault = launch(&text, [4, 1, 1], [8, 8, 1], 0, &buffers, Policy::Eager).unwrap_err();
    assert_eq!(fault.kind, FaultKind::OutOfBounds);
    assert_eq!(fault.kernel, "k");
    assert_eq!(fault.block, Some([2, 0, 0]));
    assert_eq!((fault.warp, fault.thread), (Some(1), Some([5, 4, 0])));
    assert_eq!(fault.text, "st.global.u32 [%d0+1024], %r0;");
    let line = text.lines().position(|l| l == fault.text).unwrap() as u32 + 1;
    assert_eq!(fault.line, line);
    let said = fault.to_string();
    assert!(
        said.contains("outside every allocation") && said.contains("block (2, 0, 0)"),
        "{said}"
    );
}

#[test]
fn accesses_outside_memory() {
    for body in [
        "ld.param.u64 %d0, [p0]; ld.global.u32 %r0, [%d0-4]; ret;",
        "ld.param.u64 %d0, [p0]; st.global.v4.u32 [%d0+256], {%r0, %r0, %r0, %r0}; ret;",
        "mov.u64 %d0, 8; ld.u32 %r0, [%d0]; ret;",
        "mov.u32 %r0, 0; st.shared.u32 [%r0], %r0; ret;",
        ".shared .align 4 .b32 word; mov.u32 %r0, word; ld.shared.u32 %r1, [%r0+4]; ret;",
        ".local .align 4 .b32 word; mov.u64 %d0, word; ld.local.u32 %r1, [%d0+4]; ret;",
        "mov.u64 %d0, 8; ld.param.u32 %r1, [%d0]; ret;",
        "mov.u32 %r0, 0x1000400; ld.shared::cluster.u32 %r1, [%r0]; ret;",
        "ld.param.u64 %d0, [p0]; red.global.add.u32 [%d0+256], 1; ret;",
    ] {
        assert_eq!(fault(body).kind, FaultKind::OutOfBounds, "{body}");
    }
    let one = "ld.param.u64 %d0, [p0]; mul.wide.u32 %d1, %t0, 8; add.s64 %d0, %d0, %d1; ld.global.u32 %r0, [%d0]; ret;";
    assert_eq!(fault(one).thread, Some([32, 0, 0]), "the first lane outside is named");
}

#[test]
fn accesses_to_freed_memory() {
    let module = Module::parse(&text(
        1,
        &format!("{REGISTERS} ld.param.u64 %d0, [p0]; ld.global.u32 %r0, [%d0+8]; ret;"),
    ))
    .unwrap();
    let kernel = module.kernel("k").unwrap();
    let memory = Memory::new();
    let address = memory.allocate(64);
    let params = address.to_le_bytes();
    let launch = Launch::new(&kernel, [1; 3], [1; 3], &params);
    launch.run(&memory).unwrap();
    memory.free(address).unwrap();
    assert!(memory.free(address).is_err());
    assert_eq!(launch.run(&memory).unwrap_err().kind, FaultKind::Freed);
    assert_ne!(memory.allocate(64), address, "addresses are not used again");
}

#[test]
fn misaligned_accesses() {
    for body in [
        "ld.param.u64 %d0, [p0]; ld.global.u32 %r0, [%d0+2]; ret;",
        "ld.param.u64 %d0, [p0]; ld.global.v2.u32 {%r0, %r1}, [%d0+4]; ret;",
        ".shared .align 8 .b64 word; mov.u32 %r0, word; st.shared.u64 [%r0+4], %d0; ret;",
        "ld.param.u64 %d0, [p0]; atom.global.add.u64 %d1, [%d0+4], 1; ret;",
        ".shared .align 8 .b64 bar; mov.u32 %r0, bar; mbarrier.init.shared::cta.b64 [%r0+4], 1; ret;",
    ] {
        assert_eq!(fault(body).kind, FaultKind::Misaligned, "{body}");
    }
}

#[test]
fn misused_barriers() {
    for body in [
        "bar.sync 16; ret;",
        "bar.sync 1, 48; ret;",
        "setp.lt.u32 %p0, %t0, 32; selp.u32 %r0, 64, 96, %p0; bar.sync 1, %r0; ret;",
        "bar.arrive 1, 96; ret;",
        "bar.arrive 1, 32; bar.arrive 1, 96; ret;",
        "barrier.cluster.wait.aligned; ret;",
        "barrier.cluster.arrive.aligned; barrier.cluster.arrive.aligned; ret;",
    ] {
        assert_eq!(fault(body).kind, FaultKind::Barrier, "{body}");
    }
}

#[test]
fn endless_loops_and_traps() {
    assert_eq!(fault("L: add.u32 %r0, %r0, 1; bra L;").kind, FaultKind::Livelock);
    let fault = fault("setp.eq.u32 %p0, %t0, 40; @%p0 trap; ret;");
    assert_eq!((fault.kind, fault.thread), (FaultKind::Trap, Some([40, 0, 0])));
}

#[test]
fn wrong_operands() {
    for body in [
        "TABLE: .branchtargets A; mov.u32 %r0, 1; brx.idx %r0, TABLE; A: ret;",
        "ld.param.u64 %d0, [p0]; .shared .align 16 .b8 data[64]; mov.u32 %r0, data; mov.u32 %r1, 20; cp.async.cg.shared.global [%r0], [%d0], 16, %r1; ret;",
    ] {
        assert_eq!(fault(body).kind, FaultKind::Operand, "{body}");
    }
}

#[test]
fn launches_that_do_not_fit_the_kernel() {
    let text = format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u32 a, .param .u64 b)\n.maxntid 128, 1, 1\n{{ {REGISTERS} ret; }}"
    );
    let module = Module::parse(&text).unwrap();
    let kernel = module.kernel("k").unwrap();
    assert_eq!(kernel.param_bytes(), 16);
    assert_eq!((kernel.params()[1].offset, kernel.max_threads()), (8, 128));
    let memory = Memory::new();
    let good = Launch::new(&kernel, [4, 1, 1], [128, 1, 1], &[0; 16]);
    good.run(&memory).unwrap();
    let bad = [
        Launch { block: [129, 1, 1], ..good },
        Launch { block: [0, 1, 1], ..good },
        Launch { grid: [0, 1, 1], ..good },
        Launch { grid: [1, 65_536, 1], ..good },
        Launch { params: &[0; 12], ..good },
        Launch { shared: 233_000, ..good },
        Launch { cluster: Some([3, 1, 1]), ..good },
        Launch { cluster: Some([4, 5, 1]), ..good },
    ];
    for launch in bad {
        assert_eq!(launch.run(&memory).unwrap_err().kind, FaultKind::Launch, "{launch:?}");
    }
    assert!(module.kernel("other").unwrap_err().to_string().contains("it has: k"));
}

/// A load of 512 bytes to `%r1`, reported to the mbarrier `%r0`; `%d0` and `%d1` are buffers.
const LOAD: &str = "
    .shared .align 8 .b64 bar; mov.u32 %r0, bar; mov.u32 %r1, smem; ld.param.u64 %d0, [p0]; ld.param.u64 %d1, [p1];
    setp.ne.u32 %p0, %t0, 0; @%p0 bra READY; mbarrier.init.shared::cta.b64 [%r0], 1; INITFENCE
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r0], 512;
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%d0], 512, [%r0];
    READY: bar.sync 0; shl.b32 %r2, %t0, 2; add.u32 %r2, %r2, %r1;
";

/// A store of the same 512 bytes to `%d1`.
const STORE: &str = "
    bar.sync 0; @%p0 bra END; cp.async.bulk.global.shared::cta.bulk_group [%d1], [%r1], 512; cp.async.bulk.commit_group;
    cp.async.bulk.wait_group.read 0; END: ret;
";

fn copies(body: &str, policy: Policy) -> Option<FaultKind> {
    let body = body.replace("INITFENCE", "fence.mbarrier_init.release.cluster;");
    let buffers = Buffers::new(&[vec![1; 512], vec![2; 512]]);
    let sizes = ([1; 3], [128, 1, 1]);
    let text = text_with_maps(0, 2, &body);
    launch_raw(&text, sizes, None, 4096, &buffers.params(), &buffers.memory, policy)
        .err()
        .map(|f| f.kind)
}

#[test]
fn memory_that_a_copy_still_uses() {
    let waited = wait("%r0", "0", "SPIN");
    let read = "ld.shared.u32 %r3, [%r2];";
    let write = "st.shared.u32 [%r2], %r3;";
    let fence = "fence.proxy.async.shared::cta;";
    for policy in POLICIES {
        assert_eq!(copies(&format!("{LOAD}{waited}{read}{write}{fence}{STORE}"), policy), None);
    }
    // Only work that is late shows that nobody waits for it.
    let late = Policy::Latest { seed: 1 };
    for body in [
        format!("{LOAD}{read} ret;"),
        format!("{LOAD}{write} ret;"),
        format!("{LOAD} ret;"),
        format!(
            "{LOAD} @%p0 ret; mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r0], 512; \
                 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%d0], 512, [%r0]; ret;"
        ),
    ] {
        assert_eq!(copies(&body, late), Some(FaultKind::Race), "{body}");
    }
    // What a store reads is in use until its thread has waited, whatever the schedule.
    for policy in POLICIES {
        let early = STORE.replace(
            "cp.async.bulk.wait_group.read 0;",
            &format!("{write} cp.async.bulk.wait_group.read 0;"),
        );
        assert_eq!(copies(&format!("{LOAD}{waited}{early}"), policy), Some(FaultKind::Race));
        let never = STORE.replace("cp.async.bulk.wait_group.read 0;", "");
        assert_eq!(copies(&format!("{LOAD}{waited}{never}"), policy), Some(FaultKind::Race));
        let open = STORE.replace("cp.async.bulk.commit_group;", "");
        assert_eq!(copies(&format!("{LOAD}{waited}{open}"), policy), Some(FaultKind::Race));
    }
}

#[test]
fn writes_the_async_proxy_does_not_see() {
    let waited = wait("%r0", "0", "SPIN");
    let write = "st.shared.u32 [%r2], %r3;";
    for policy in POLICIES {
        let missing = Some(FaultKind::MissingFence);
        assert_eq!(copies(&format!("{LOAD}{waited}{write}{STORE}"), policy), missing);
        let before = format!("{LOAD}{waited} fence.proxy.async; {write}{STORE}");
        assert_eq!(copies(&before, policy), missing);
        // A fence of the thread that copies, behind the barrier, is as good.
        let after = STORE.replace("bar.sync 0;", "bar.sync 0; fence.proxy.async;");
        assert_eq!(copies(&format!("{LOAD}{waited}{write}{after}"), policy), None);
        // The mbarrier itself.
        let body = format!("{LOAD}{waited} ret;").replace("INITFENCE", "");
        let text = text_with_maps(0, 2, &body);
        let buffers = Buffers::new(&[vec![1; 512], vec![2; 512]]);
        let fault = launch_raw(
            &text,
            ([1; 3], [128, 1, 1]),
            None,
            4096,
            &buffers.params(),
            &buffers.memory,
            policy,
        );
        assert_eq!(fault.unwrap_err().kind, FaultKind::MissingFence);
        // Global memory that the same block wrote.
        let global = LOAD.replace(
            "mbarrier.arrive.expect_tx",
            "st.global.u32 [%d0+8], %r0; GLOBAL mbarrier.arrive.expect_tx",
        );
        let body = format!("{global}{waited} ret;");
        assert_eq!(copies(&body.replace("GLOBAL", ""), policy), missing);
        assert_eq!(
            copies(&body.replace("GLOBAL", "fence.proxy.async.shared::cta;"), policy),
            missing
        );
        assert_eq!(copies(&body.replace("GLOBAL", "fence.proxy.async.global;"), policy), None);
    }
}

#[test]
fn copies_of_wrong_sizes_and_places() {
    for (from, to) in [
        ("[%r1], [%d0], 512", "[%r1], [%d0], 504"),
        ("[%r1], [%d0], 512", "[%r1+8], [%d0], 512"),
        ("[%r1], [%d0], 512", "[%r1], [%d0+8], 512"),
    ] {
        let body = format!("{LOAD}{} ret;", wait("%r0", "0", "SPIN")).replace(from, to);
        assert_eq!(copies(&body, Policy::Eager), Some(FaultKind::Misaligned), "{to}");
    }
    let body = format!("{LOAD}{} ret;", wait("%r0", "0", "SPIN"));
    let outside = body.replace("[%r1], [%d0], 512", "[%r1], [%d0+256], 512");
    assert_eq!(copies(&outside, Policy::Eager), Some(FaultKind::OutOfBounds));
    let short = body.replace("_, [%r0], 512", "_, [%r0], 256");
    assert_eq!(copies(&short, Policy::Eager), Some(FaultKind::Deadlock));
    let long = body.replace("_, [%r0], 512", "_, [%r0], 1024");
    assert_eq!(copies(&long, Policy::Eager), Some(FaultKind::Deadlock));
    let tensor = body.replace(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%d0], 512, [%r0];",
        "cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%d0, {0}], [%r0];",
    );
    assert_eq!(copies(&tensor, Policy::Eager), Some(FaultKind::Descriptor));
}

#[test]
fn registers_that_are_not_there_are_waited_for_in_vain() {
    // Two of three warpgroups ask for more than the third gives.
    let kernel = |first: u32, others: u32| {
        let body = format!(
            "{REGISTERS} shr.u32 %r0, %t0, 7; setp.eq.u32 %p0, %r0, 0; @%p0 bra A; setmaxnreg.inc.sync.aligned.u32 {others}; ret;
             A: setmaxnreg.dec.sync.aligned.u32 {first}; ret;"
        );
        text(0, &body).replace("k()\n", "k()\n.maxntid 384, 1, 1\n")
    };
    for policy in POLICIES {
        let buffers = Buffers::new(&[]);
        launch(&kernel(40, 232), [1; 3], [384, 1, 1], 0, &buffers, policy).unwrap();
        let fault = launch(&kernel(64, 232), [1; 3], [384, 1, 1], 0, &buffers, policy).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Deadlock);
        assert!(fault.what.contains("registers"), "{fault}");
        let fault =
            launch(&kernel(200, 232), [1; 3], [384, 1, 1], 0, &buffers, policy).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Operand);
    }
}

#[test]
fn text_that_is_not_executed_is_refused_with_its_line() {
    let refused = |body: &str| match Module::parse(&text(1, &format!("{REGISTERS}\n{body}\nret;")))
    {
        Err(error) => error,
        Ok(_) => panic!("{body} was taken"),
    };
    for (body, says) in [
        ("frobnicate.u32 %r0, %r1;", "not supported"),
        ("add.rz.f32 %f0, %f1, %f2;", "'.rz' is not supported"),
        ("add.u32 %r0, %r1;", "expected 3 operands"),
        ("add.u32 %r0, %r1, %d0;", "wrong size"),
        ("add.u32 %r0, %r1, %nothing;", "neither declared nor a special register"),
        ("bra NOWHERE;", "'NOWHERE' is unknown"),
        ("L: L: ret;", "there twice"),
        ("call foo;", "functions are not supported"),
        ("ld.global.u64 %r0, [%d0];", "too narrow"),
        ("shfl.idx.b32 %r0, %r1, 0, 31;", ".sync"),
        (
            "wgmma.mma_async.sync.aligned.m64n12k16.f32.bf16.bf16 {%r0}, %d0, %d1, 1, 1, 1, 0, 0;",
            "multiple of 8",
        ),
        ("tex.2d.v4.f32.f32 {%f0, %f1, %f2, %f3}, [t, {%f4, %f5}];", "not supported"),
    ] {
        let error = refused(body);
        assert!(error.what.contains(says), "{body}: {error}");
        assert!(error.line > 10, "{error}");
    }
    assert!(Module::parse("").is_err());
    assert!(Module::parse("hello, world").is_err());
}
