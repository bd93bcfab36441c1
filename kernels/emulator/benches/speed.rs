//! How fast kernels are executed: `cargo bench -p slimpipe-emulator -- gemm`.

use slimpipe_emulator::{
    Element, Fill, Launch, Memory, Module, Policy, Report, Swizzle, TensorMap,
};

fn report(name: &str, seconds: f64, report: Report) {
    let rate = report.instructions as f64 / seconds / 1e6;
    println!(
        "{name:<28} {:>8.1} ms {:>10} warp instructions {rate:>7.1} M/s {:>6} products",
        seconds * 1e3,
        report.instructions,
        report.products
    );
}

/// Seconds the processor has spent on this thread: other processes do not count.
fn processor_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of this frame.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// The best of five runs.
fn measure(name: &str, mut run: impl FnMut() -> Report) {
    // An argument chooses benchmarks whose name has it.
    let chosen = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    if chosen.is_some_and(|chosen| !name.contains(&chosen)) {
        return;
    }
    let mut best = f64::INFINITY;
    let mut last = Report::default();
    for _ in 0..5 {
        let start = processor_seconds();
        last = run();
        best = best.min(processor_seconds() - start);
    }
    report(name, best, last);
}

/// A loop of `body`, executed by eight warps of four blocks.
fn arithmetic(name: &str, body: &str) {
    let text = format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 p)\n{{\n\
         .reg .pred %p<4>; .reg .b32 %r<16>; .reg .f32 %f<16>; .reg .b64 %d<8>;\n\
         .shared .align 16 .b8 tile[16384];\n\
         mov.u32 %r0, 0; mov.u32 %r1, %tid.x; mov.u32 %r9, tile; shl.b32 %r8, %r1, 2; add.u32 %r9, %r9, %r8;\n\
         ld.param.u64 %d0, [p]; mul.wide.u32 %d1, %r1, 4; add.s64 %d0, %d0, %d1;\n\
         mov.f32 %f0, 0f3F800000; mov.f32 %f1, 0f3F000000; mov.f32 %f2, 0f3E800000; mov.u32 %r2, 1; mov.u32 %r3, 2;\n\
         L: {body}\n add.u32 %r0, %r0, 1; setp.lt.u32 %p0, %r0, 2000; @%p0 bra L;\n\
         st.global.f32 [%d0], %f0; st.global.u32 [%d0+1024], %r2; ret;\n}}\n"
    );
    let module = Module::parse(&text).expect("the kernel is correct");
    let kernel = module.kernel("k").expect("the kernel is there");
    let memory = Memory::new();
    let params = memory.allocate(65536).to_le_bytes();
    measure(name, || {
        let launch = Launch::new(&kernel, [4, 1, 1], [256, 1, 1], &params);
        launch.run(&memory).expect("the kernel runs")
    });
}

fn gemm(size: usize, policy: Policy) {
    let module = Module::parse(include_str!("../tests/fixtures/gemm.ptx")).expect("PTX");
    let kernel = &module.kernels()[0];
    let memory = Memory::new();
    let bytes = size * size * 2;
    let [a, b, c] = [(); 3].map(|()| memory.allocate(bytes));
    let random: Vec<u8> = (0..bytes).map(|i| ((i * 2654435761) >> 7) as u8 & 0x3F).collect();
    memory.write(a, &random).expect("allocated");
    memory.write(b, &random).expect("allocated");
    let map = |address| TensorMap {
        element: Element::Bf16,
        address,
        sizes: vec![size as u64; 2],
        strides: vec![2 * size as u64],
        box_sizes: vec![64, 128],
        swizzle: Swizzle::B128,
        fill: Fill::Zero,
    };
    let mut params = map(a).encode().expect("a map").to_vec();
    params.extend(map(b).encode().expect("a map"));
    params.extend(c.to_le_bytes());
    for _ in 0..3 {
        params.extend((size as u32).to_le_bytes());
    }
    let grid = [size as u32 / 128, size as u32 / 128, 1];
    measure(&format!("gemm {size} {policy:?}"), || {
        let launch = Launch::new(kernel, grid, [384, 1, 1], &params);
        Launch { shared: 4 * 32768 + 1024, policy, ..launch }.run(&memory).expect("the kernel runs")
    });
}

fn main() {
    arithmetic("add.f32 x8", &"add.f32 %f0, %f0, %f1; ".repeat(8));
    arithmetic("fma.f32 x8", &"fma.rn.f32 %f0, %f0, %f1, %f2; ".repeat(8));
    arithmetic("add.u32 x8", &"add.u32 %r2, %r2, %r3; ".repeat(8));
    arithmetic("ex2 x8", &"ex2.approx.ftz.f32 %f3, %f1; ".repeat(8));
    arithmetic("bf16x2 pack x8", &"cvt.rn.bf16x2.f32 %r4, %f0, %f1; ".repeat(8));
    arithmetic("shfl x8", &"shfl.sync.bfly.b32 %r4, %r1, 1, 31, -1; ".repeat(8));
    arithmetic("ld.global x8", &"ld.global.f32 %f3, [%d0]; ".repeat(8));
    arithmetic("st.shared x8", &"st.shared.f32 [%r9], %f0; ".repeat(8));
    arithmetic("ld.shared x8", &"ld.shared.f32 %f3, [%r9]; ".repeat(8));
    for policy in [Policy::Eager, Policy::Random { seed: 1 }, Policy::Latest { seed: 1 }] {
        gemm(512, policy);
    }
}
