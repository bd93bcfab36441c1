//! Loading and launching.

use slimpipe_kernels::cuda::compile::{Source, Variant};
use slimpipe_kernels::cuda::launch::Grid;
use slimpipe_kernels::cuda::tensor_map::Swizzle;
use slimpipe_kernels::cuda::{CudaError, DevicePtr, Float, Stream, TensorMap};

use crate::{Rig, has_compiler};

static TOY: Source = Source {
    name: "toy.cu",
    text: r#"
extern "C" __global__ void __launch_bounds__(128) scale(float* x, float by, int n) {
  int i = blockIdx.x * 128 + threadIdx.x;
  if (i < n) x[i] = x[i] * by + ADDED;
}
extern "C" __global__ void __launch_bounds__(128) negate(float* x, int n) {
  int i = blockIdx.x * 128 + threadIdx.x;
  if (i < n) x[i] = -x[i];
}
"#,
};

fn scale(added: i32) -> Variant {
    Variant::new(&TOY, "scale").with("ADDED", added)
}

/// x = x * by + added.
fn run(stream: &Stream, added: i32, x: DevicePtr, by: f32, n: i32) -> Result<(), CudaError> {
    let kernel = stream.context().kernel(&scale(added))?;
    let grid = Grid::line((n as u32).div_ceil(128), 128);
    // SAFETY: the parameters are the kernel's; tests give it committed memory of `n` elements.
    unsafe { kernel.launch(stream, grid, &[&x, &by, &n]) }
}

#[test]
fn a_kernel_runs_with_its_constants_and_parameters_in_stream_order() {
    let rig = Rig::new("random:7");
    if !has_compiler() {
        return;
    }
    let range = rig.range(4096);
    let values: Vec<f32> = (0..300).map(|i| i as f32).collect();
    rig.write(range.start(), &values);
    run(&rig.stream, 1, range.start(), 2.0, 300).unwrap();
    run(&rig.stream, 5, range.start(), 10.0, 299).unwrap();
    let found: Vec<f32> = rig.read(range.start(), 300);
    let expected: Vec<f32> = values.iter().map(|x| (x * 2.0 + 1.0) * 10.0 + 5.0).collect();
    assert_eq!(found[..299], expected[..299]);
    assert_eq!(found[299], 599.0);
}

#[test]
fn kernels_of_one_text_with_the_same_constants_are_compiled_and_loaded_once() {
    let rig = Rig::new("eager");
    if !has_compiler() {
        return;
    }
    let before = slimpipe_mock::driver().counters();
    let (variant, other) = (scale(77), Variant::new(&TOY, "negate").with("ADDED", 77));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| rig.context.kernel(&variant).map(|_| ()).unwrap());
            scope.spawn(|| rig.context.kernel(&other).map(|_| ()).unwrap());
        }
    });
    let since = slimpipe_mock::driver().counters().since(&before);
    assert_eq!(since.get("modules"), 1);
}

#[test]
fn a_launch_that_does_not_fit_the_kernel_is_refused_before_the_driver_sees_it() {
    let rig = Rig::new("eager");
    if !has_compiler() {
        return;
    }
    let range = rig.range(4096);
    let (x, by, n) = (range.start(), 1f32, 4i32);
    let kernel = rig.context.kernel(&scale(2)).unwrap();
    let before = slimpipe_mock::driver().counters();
    let refused = |grid: Grid, args: &slimpipe_kernels::cuda::launch::Args<'_>| {
        // SAFETY: refused, or run on nothing.
        unsafe { kernel.launch(&rig.stream, grid, args) }.unwrap_err().to_string()
    };
    let line = Grid::line(1, 128);
    let told = refused(line, &[&x, &by]);
    assert_eq!(told, "scale: parameters of [8, 4] bytes, and it takes [8, 4, 4]");
    assert!(refused(line, &[&x, &by, &u64::MAX]).contains("[8, 4, 8]"));
    let told = refused(Grid::line(1, 256), &[&x, &by, &n]);
    assert_eq!(told, "scale: 256 threads in a block, and it takes at most 128");
    let told = refused(line.shared(1 << 20), &[&x, &by, &n]);
    assert!(told.starts_with("scale: 1048576 bytes of shared memory, and it can have "), "{told}");
    // SAFETY: a grid without blocks runs nothing.
    unsafe { kernel.launch(&rig.stream, Grid::line(0, 128), &[&x, &by, &n]) }.unwrap();
    rig.stream.synchronize().unwrap();
    let since = slimpipe_mock::driver().counters().since(&before);
    assert_eq!(since.get("launches"), 0);
}

#[test]
fn a_kernel_that_strays_fails_the_next_call_that_waits_with_the_drivers_words() {
    let rig = Rig::new("eager");
    if !has_compiler() {
        return;
    }
    let range = rig.range(4096);
    run(&rig.stream, 3, range.start(), 1.0, 1 << 20).unwrap();
    let told = rig.stream.synchronize().unwrap_err().to_string();
    assert!(told.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{told}");
    assert!(!told.contains('\n'), "{told}");
}

#[test]
fn tensor_maps_are_checked_before_the_driver_sees_them() {
    let rig = Rig::new("eager");
    let range = rig.range(1 << 20);
    let map = |address: DevicePtr, extents: &[u64], strides: &[u64], tile: &[u32]| {
        TensorMap::new(Float::Bf16, address, extents, strides, tile, Swizzle::B128)
    };
    let start = range.start();
    assert_ne!(map(start, &[128, 100], &[256], &[64, 64]).unwrap(), TensorMap::NONE);
    for (found, words) in [
        (map(start.offset(8), &[128, 100], &[256], &[64, 64]), "not a multiple of 16 bytes"),
        (map(start, &[128, 100], &[250], &[64, 64]), "a stride of 250 bytes"),
        (map(start, &[128, 0], &[256], &[64, 64]), "an extent of 0"),
        (map(start, &[128, 100], &[256], &[64, 257]), "a box 257 elements long"),
        (map(start, &[128, 100], &[256], &[128, 64]), "rows of 256 bytes"),
        (map(start, &[128, 100], &[], &[64, 64]), "one stride less"),
        (map(start, &[1; 6], &[16; 5], &[1; 6]), "6 extents"),
    ] {
        let told = found.unwrap_err().to_string();
        assert!(told.starts_with("tensor map: ") && told.contains(words), "{told}");
    }
}
