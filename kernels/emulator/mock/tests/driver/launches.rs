use std::{
    ffi::{CString, c_void},
    sync::Arc,
};

use cudarc::driver::{CudaContext, CudaStream, DevicePtr, result, sys};
use sys::{CUfunction, CUfunction_attribute as Attribute, CUresult};

/// `scale(x, y, factor, n)`: y = factor * x, and `shared(y)`: y[thread] = the last thread's number,
/// by way of dynamic shared memory.
const PTX: &str = r"
.version 9.0
.target sm_90a
.address_size 64

.extern .shared .align 16 .b8 dynamic[];

.visible .entry scale(
    .param .u64 x, .param .u64 y, .param .f32 factor, .param .u32 n)
.maxntid 128
{
    .reg .pred %p<2>;
    .reg .b32 %r<6>;
    .reg .f32 %f<4>;
    .reg .b64 %rd<8>;
    ld.param.u64 %rd1, [x];
    ld.param.u64 %rd2, [y];
    ld.param.f32 %f1, [factor];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.s32 %p1, %r5, %r1;
    @%p1 bra DONE;
    mul.wide.s32 %rd3, %r5, 4;
    add.s64 %rd4, %rd1, %rd3;
    add.s64 %rd5, %rd2, %rd3;
    ld.global.f32 %f2, [%rd4];
    mul.f32 %f3, %f2, %f1;
    st.global.f32 [%rd5], %f3;
DONE:
    ret;
}

.visible .entry shared(.param .u64 y)
{
    .reg .b32 %r<8>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [y];
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, dynamic;
    shl.b32 %r4, %r1, 2;
    add.u32 %r5, %r3, %r4;
    st.shared.u32 [%r5], %r1;
    bar.sync 0;
    sub.u32 %r6, %r2, 1;
    shl.b32 %r6, %r6, 2;
    add.u32 %r6, %r3, %r6;
    ld.shared.u32 %r7, [%r6];
    mul.wide.u32 %rd2, %r1, 4;
    add.s64 %rd3, %rd1, %rd2;
    st.global.u32 [%rd3], %r7;
    ret;
}
";

/// Loads an image that ends in NUL.
fn load_image(image: &[u8]) -> Result<sys::CUmodule, CUresult> {
    let mut module = std::ptr::null_mut();
    // SAFETY: the image is as the driver wants it.
    let loaded = unsafe { sys::cuModuleLoadData(&mut module, image.as_ptr().cast()) };
    if loaded == CUresult::CUDA_SUCCESS { Ok(module) } else { Err(loaded) }
}

fn load_ptx(text: &str) -> Result<sys::CUmodule, CUresult> {
    load_image(CString::new(text).unwrap().as_bytes_with_nul())
}

/// A stream, and the function of that name.
fn load(name: &str) -> (Arc<CudaStream>, CUfunction) {
    let context = CudaContext::new(0).unwrap();
    let module = load_ptx(PTX).unwrap();
    // SAFETY: the module is loaded.
    let function = unsafe { result::module::get_function(module, CString::new(name).unwrap()) };
    (context.new_stream().unwrap(), function.unwrap())
}

/// Sizes of a launch: blocks, threads of a block, bytes of dynamic shared memory.
type Sizes = ((u32, u32, u32), (u32, u32, u32), u32);

fn line(blocks: u32, threads: u32, shared: u32) -> Sizes {
    ((blocks, 1, 1), (threads, 1, 1), shared)
}

fn launch(
    stream: &CudaStream,
    function: CUfunction,
    (grid, block, shared): Sizes,
    parameters: &[*const c_void],
) -> Result<(), CUresult> {
    let mut parameters: Vec<*mut c_void> = parameters.iter().map(|p| p.cast_mut()).collect();
    let stream = stream.cu_stream();
    // SAFETY: the parameters are the kernel's; what they point to outlives the launch.
    unsafe { result::launch_kernel(function, grid, block, shared, stream, &mut parameters) }
        .map_err(|e| e.0)
}

/// Launches `scale` on `n` numbers of `x` and `y`.
fn scale(stream: &CudaStream, function: CUfunction, x: u64, y: u64, factor: f32, n: u32) {
    let parameters = [
        (&raw const x).cast(),
        (&raw const y).cast(),
        (&raw const factor).cast(),
        (&raw const n).cast(),
    ];
    launch(stream, function, line(n.div_ceil(128), 128, 0), &parameters).unwrap();
}

fn set(function: CUfunction, attribute: Attribute, value: i32) -> Result<(), CUresult> {
    // SAFETY: the function was loaded.
    unsafe { result::function::set_function_attribute(function, attribute, value) }.map_err(|e| e.0)
}

#[test]
fn a_kernel_computes_under_every_schedule_and_is_counted() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    let (stream, function) = load("scale");
    let n = 1000;
    let numbers: Vec<f32> = (0..n).map(|i| i as f32).collect();
    for policy in ["eager", "random:3", "latest:4"] {
        mock.set("policy", policy);
        let x = stream.clone_htod(&numbers).unwrap();
        let y = stream.alloc_zeros::<f32>(n).unwrap();
        scale(&stream, function, x.device_ptr(&stream).0, y.device_ptr(&stream).0, 0.25, n as u32);
        let expected: Vec<f32> = numbers.iter().map(|x| x * 0.25).collect();
        assert_eq!(stream.clone_dtoh(&y).unwrap(), expected, "policy {policy}");
    }
    let counters = mock.counters();
    assert_eq!((counters.launches("scale"), counters.get("launches")), (3, 3));
    assert_eq!(counters.get("modules"), 1);
}

#[test]
fn a_kernel_reads_pinned_memory() {
    let _alone = slimpipe_mock::driver().alone();
    let (stream, function) = load("scale");
    let mut own = [1f32, 2.0, 3.0, 4.0];
    let pinned = own.as_mut_ptr().cast();
    // SAFETY: the memory outlives its registration, and the kernel.
    unsafe { sys::cuMemHostRegister_v2(pinned, 16, 0) }.result().unwrap();
    let y = stream.alloc_zeros::<f32>(4).unwrap();
    scale(&stream, function, pinned as u64, y.device_ptr(&stream).0, 3.0, 4);
    assert_eq!(stream.clone_dtoh(&y).unwrap(), [3.0, 6.0, 9.0, 12.0]);
    // SAFETY: as above.
    unsafe { sys::cuMemHostUnregister(pinned) }.result().unwrap();
}

#[test]
fn a_kernel_that_leaves_its_memory_fails_the_context_and_the_mock_says_where() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    let (stream, function) = load("scale");
    let x = stream.alloc_zeros::<f32>(8).unwrap();
    let y = stream.alloc_zeros::<f32>(8).unwrap();
    scale(&stream, function, x.device_ptr(&stream).0, y.device_ptr(&stream).0, 1.0, 9);
    assert_eq!(stream.synchronize().unwrap_err().0, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    let fault = mock.fault().unwrap();
    assert!(fault.contains("scale") && fault.contains("ld.global.f32"), "{fault}");
    assert_eq!(stream.clone_dtoh(&x).unwrap_err().0, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
}

#[test]
fn a_kernel_of_one_device_cannot_reach_the_memory_of_another() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    let other = CudaContext::new(1).unwrap().default_stream();
    let far = other.alloc_zeros::<f32>(4).unwrap();
    other.synchronize().unwrap();
    let (stream, function) = load("scale");
    let y = stream.alloc_zeros::<f32>(4).unwrap();
    scale(&stream, function, far.device_ptr(&other).0, y.device_ptr(&stream).0, 1.0, 4);
    assert_eq!(stream.synchronize().unwrap_err().0, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
}

#[test]
fn the_nth_launch_of_a_kernel_can_be_made_to_fail() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    let (stream, function) = load("shared");
    let y = stream.alloc_zeros::<u32>(32).unwrap().leak();
    mock.set("fail_launch", "shared:2");
    for _ in 0..2 {
        launch(&stream, function, line(1, 32, 128), &[(&raw const y).cast()]).unwrap();
    }
    assert_eq!(stream.synchronize().unwrap_err().0, CUresult::CUDA_ERROR_LAUNCH_FAILED);
    assert!(mock.fault().unwrap().contains("planted"));
}

#[test]
fn shared_memory_beyond_48_kib_has_to_be_asked_for() {
    let _alone = slimpipe_mock::driver().alone();
    let (stream, function) = load("shared");
    let y = stream.alloc_zeros::<u32>(32).unwrap();
    let address = y.device_ptr(&stream).0;
    let with =
        |bytes| launch(&stream, function, line(1, 32, bytes), &[(&raw const address).cast()]);
    assert_eq!(with(48 << 10), Ok(()));
    assert_eq!(with((48 << 10) + 16), Err(CUresult::CUDA_ERROR_INVALID_VALUE));
    let most = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    set(function, most, 227 << 10).unwrap();
    assert_eq!(with(227 << 10), Ok(()));
    assert!(set(function, most, (227 << 10) + 1).is_err());
    assert_eq!(stream.clone_dtoh(&y).unwrap(), [31; 32]);
}

#[test]
fn sizes_that_the_driver_refuses_are_refused() {
    let _alone = slimpipe_mock::driver().alone();
    let (stream, scale) = load("scale");
    let (_, shared) = load("shared");
    let nothing = [0u64; 4];
    let parameters = nothing.each_ref().map(|p| std::ptr::from_ref(p).cast());
    let invalid = Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    let launch = |function, sizes| launch(&stream, function, sizes, &parameters);
    assert_eq!(launch(scale, line(1, 129, 0)), invalid, "more than .maxntid");
    assert_eq!(launch(shared, line(1, 1025, 0)), invalid);
    assert_eq!(launch(shared, line(0, 32, 0)), invalid);
    assert_eq!(launch(shared, ((1, 65536, 1), (32, 1, 1), 0)), invalid);
}

#[test]
fn clusters_must_divide_the_grid_and_fit_the_device() {
    let _alone = slimpipe_mock::driver().alone();
    let (stream, function) = load("shared");
    let y = stream.alloc_zeros::<u32>(32).unwrap();
    let mut address = y.device_ptr(&stream).0;
    let mut launch = |blocks: u32, cluster: u32| {
        // SAFETY: structures of plain numbers and pointers, of which zeros are valid; the parameter
        // is the kernel's.
        unsafe {
            let mut attribute: sys::CUlaunchAttribute = std::mem::zeroed();
            attribute.id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
            attribute.value.clusterDim.x = cluster;
            attribute.value.clusterDim.y = 1;
            attribute.value.clusterDim.z = 1;
            let mut config: sys::CUlaunchConfig = std::mem::zeroed();
            (config.gridDimX, config.gridDimY, config.gridDimZ) = (blocks, 1, 1);
            (config.blockDimX, config.blockDimY, config.blockDimZ) = (32, 1, 1);
            config.sharedMemBytes = 128;
            config.hStream = stream.cu_stream();
            (config.attrs, config.numAttrs) = (&mut attribute, 1);
            let mut parameters = [(&raw mut address).cast()];
            let none = std::ptr::null_mut();
            sys::cuLaunchKernelEx(&config, function, parameters.as_mut_ptr(), none)
        }
    };
    assert_eq!(launch(4, 2), CUresult::CUDA_SUCCESS);
    assert_eq!(launch(5, 2), CUresult::CUDA_ERROR_INVALID_CLUSTER_SIZE);
    assert_eq!(launch(16, 16), CUresult::CUDA_ERROR_INVALID_CLUSTER_SIZE, "not portable");
    stream.synchronize().unwrap();
}

#[test]
fn functions_tell_their_limits_and_how_many_blocks_run_at_once() {
    let _alone = slimpipe_mock::driver().alone();
    let (_stream, scale) = load("scale");
    let (_, shared) = load("shared");
    // SAFETY: the functions were loaded.
    unsafe {
        let threads = Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK;
        assert_eq!(result::function::get_function_attribute(scale, threads).unwrap(), 128);
        let blocks = |threads, bytes| {
            let ask = result::occupancy::max_active_block_per_multiprocessor;
            ask(shared, threads, bytes).unwrap()
        };
        // By registers, 64 of a thread; by shared memory, 228 KiB / (100 + 1) KiB.
        assert_eq!((blocks(512, 0), blocks(32, 100 << 10)), (2, 2));
        let (mut offset, mut bytes) = (0, 0);
        sys::cuFuncGetParamInfo(scale, 3, &mut offset, &mut bytes).result().unwrap();
        assert_eq!((offset, bytes), (20, 4));
        let beyond = sys::cuFuncGetParamInfo(scale, 4, &mut offset, &mut bytes);
        assert_eq!(beyond, CUresult::CUDA_ERROR_INVALID_VALUE);
    }
}

#[test]
fn functions_go_with_their_module() {
    let _alone = slimpipe_mock::driver().alone();
    let context = CudaContext::new(0).unwrap();
    let module = load_ptx(PTX).unwrap();
    // SAFETY: the mock is asked on purpose for what is gone.
    unsafe {
        let function = result::module::get_function(module, c"scale".into()).unwrap();
        result::module::unload(module).unwrap();
        let stream = context.default_stream();
        let gone = launch(&stream, function, line(1, 32, 0), &[]);
        assert_eq!(gone, Err(CUresult::CUDA_ERROR_INVALID_HANDLE));
        assert!(result::module::unload(module).is_err());
    }
}

#[test]
fn images_that_cannot_run_are_refused_with_a_reason() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    let _context = CudaContext::new(0).unwrap();
    let changed = |from, to| load_ptx(&PTX.replace(from, to)).unwrap_err();
    let newer = changed(".version 9.0", ".version 9.4");
    assert_eq!(newer, CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
    assert!(mock.text("log").contains("94"), "{}", mock.text("log"));
    assert_eq!(changed("mul.f32", "mull.f32"), CUresult::CUDA_ERROR_INVALID_PTX);
    assert!(mock.text("log").contains("mull.f32"), "{}", mock.text("log"));
    let cubin = load_image(b"\x7fELF\x02\x01\x01\x00");
    assert_eq!(cubin.unwrap_err(), CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
    assert!(mock.text("log").contains("machine code"), "{}", mock.text("log"));
    mock.set("capability", "8.0");
    assert_eq!(load_ptx(PTX).unwrap_err(), CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
    mock.set("capability", "9.0");
    let module = load_ptx(PTX).unwrap();
    // SAFETY: the module is loaded.
    let absent = unsafe { result::module::get_function(module, c"absent".into()) };
    assert_eq!(absent.unwrap_err().0, CUresult::CUDA_ERROR_NOT_FOUND);
}
