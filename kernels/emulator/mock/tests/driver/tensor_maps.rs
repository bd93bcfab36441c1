use cudarc::driver::{CudaContext, DevicePtr, result, sys};

use super::range::Range;
use sys::{
    CUtensorMapDataType as Data, CUtensorMapFloatOOBfill as Fill,
    CUtensorMapInterleave as Interleave, CUtensorMapL2promotion as Promotion,
    CUtensorMapSwizzle as Swizzle,
};

/// A request of two dimensions, each part of which a test can change.
#[derive(Clone)]
struct Request {
    data: Data,
    rank: u32,
    address: u64,
    extents: Vec<u64>,
    strides: Vec<u64>,
    box_extents: Vec<u32>,
    element_strides: Vec<u32>,
    interleave: Interleave,
    swizzle: Swizzle,
    fill: Fill,
}

#[repr(align(64))]
struct Aligned(sys::CUtensorMap);

impl Request {
    /// 100 rows of 128 bf16, in boxes of 32 rows of 64.
    fn sound(address: u64) -> Request {
        Request {
            data: Data::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            rank: 2,
            address,
            extents: vec![128, 100],
            strides: vec![256],
            box_extents: vec![64, 32],
            element_strides: vec![1, 1],
            interleave: Interleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            swizzle: Swizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            fill: Fill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        }
    }

    fn encode(&self) -> sys::CUresult {
        self.encode_to(&mut Aligned(sys::CUtensorMap { opaque: [0; 16] }))
    }

    fn encode_to(&self, map: &mut Aligned) -> sys::CUresult {
        // SAFETY: the lists are as long as the rank says.
        unsafe {
            sys::cuTensorMapEncodeTiled(
                &mut map.0,
                self.data,
                self.rank,
                self.address as *mut _,
                self.extents.as_ptr(),
                self.strides.as_ptr(),
                self.box_extents.as_ptr(),
                self.element_strides.as_ptr(),
                self.interleave,
                self.swizzle,
                Promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                self.fill,
            )
        }
    }
}

#[test]
fn each_rule_of_tensor_maps_is_checked() {
    let _alone = slimpipe_mock::driver().alone();
    let stream = CudaContext::new(0).unwrap().default_stream();
    let memory = stream.alloc_zeros::<u8>(25600).unwrap();
    let sound = Request::sound(memory.device_ptr(&stream).0);
    assert_eq!(sound.encode(), sys::CUresult::CUDA_SUCCESS);
    let refused = |what: &str, change: &dyn Fn(&mut Request)| {
        let mut request = sound.clone();
        change(&mut request);
        assert_eq!(request.encode(), sys::CUresult::CUDA_ERROR_INVALID_VALUE, "{what}");
    };
    refused("no dimensions", &|r| r.rank = 0);
    refused("no tensor", &|r| r.address = 0);
    refused("a tensor off 16 bytes", &|r| r.address += 8);
    refused("an empty dimension", &|r| r.extents[1] = 0);
    refused("a dimension beyond 2^32", &|r| r.extents[1] = (1 << 32) + 1);
    refused("a stride off 16 bytes", &|r| r.strides[0] = 264);
    refused("a stride of 2^40", &|r| r.strides[0] = 1 << 40);
    refused("an empty box", &|r| r.box_extents[1] = 0);
    refused("a box of more than 256", &|r| r.box_extents[1] = 257);
    refused("a row of a box off 16 bytes", &|r| r.box_extents[0] = 12);
    refused("a row of a box beyond the swizzle", &|r| r.box_extents[0] = 128);
    refused("an element stride of 0", &|r| r.element_strides[0] = 0);
    refused("an element stride of 9", &|r| r.element_strides[1] = 9);
    refused("a NaN among integers", &|r| {
        r.data = Data::CU_TENSOR_MAP_DATA_TYPE_UINT16;
        r.fill = Fill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA;
    });
    let mut interleaved = sound.clone();
    interleaved.interleave = Interleave::CU_TENSOR_MAP_INTERLEAVE_16B;
    assert_eq!(interleaved.encode(), sys::CUresult::CUDA_ERROR_NOT_SUPPORTED);
}

#[test]
fn tensor_maps_want_a_current_context() {
    let _alone = slimpipe_mock::driver().alone();
    let stream = CudaContext::new(0).unwrap().default_stream();
    let memory = stream.alloc_zeros::<u8>(25600).unwrap();
    let sound = Request::sound(memory.device_ptr(&stream).0);
    let elsewhere = std::thread::spawn(move || sound.encode());
    assert_eq!(elsewhere.join().unwrap(), sys::CUresult::CUDA_ERROR_INVALID_CONTEXT);
}

/// `load(map, y)`: y = the 4 rows of 16 words at column 16, row 2 of the tensor.
const PTX: &std::ffi::CStr = cr"
.version 9.0
.target sm_90a
.address_size 64

.visible .entry load(.param .align 64 .b8 map[128], .param .u64 y)
{
    .reg .pred %p<3>;
    .reg .b32 %r<8>;
    .reg .b64 %rd<6>;
    .shared .align 128 .b8 tile[256];
    .shared .align 8 .b64 full;
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, tile;
    mov.u32 %r3, full;
    setp.ne.u32 %p1, %r1, 0;
    @%p1 bra READY;
    mbarrier.init.shared::cta.b64 [%r3], 1;
    fence.proxy.async.shared::cta;
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], 256;
    mov.b64 %rd1, map;
    cvta.param.u64 %rd2, %rd1;
    mov.u32 %r4, 16;
    mov.u32 %r5, 2;
    cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes
        [%r2], [%rd2, {%r4, %r5}], [%r3];
READY:
    bar.sync 0;
SPIN:
    mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r3], 0;
    @!%p2 bra SPIN;
    shl.b32 %r6, %r1, 2;
    add.u32 %r6, %r2, %r6;
    ld.shared.u32 %r7, [%r6];
    ld.param.u64 %rd3, [y];
    mul.wide.u32 %rd4, %r1, 4;
    add.s64 %rd5, %rd3, %rd4;
    st.global.u32 [%rd5], %r7;
    ret;
}
";

#[test]
fn a_kernel_loads_a_box_that_crosses_the_pieces_of_a_range() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
    let range = Range::reserve(2);
    range.commit(0);
    range.commit(1);
    // 8 rows of 32 words, four of them in each piece.
    let tensor = range.piece(1) - 4 * 128;
    let words: Vec<u32> = (0..256).collect();
    let mut map = Aligned(sys::CUtensorMap { opaque: [0; 16] });
    let request = Request {
        data: Data::CU_TENSOR_MAP_DATA_TYPE_UINT32,
        extents: vec![32, 8],
        strides: vec![128],
        box_extents: vec![16, 4],
        swizzle: Swizzle::CU_TENSOR_MAP_SWIZZLE_NONE,
        ..Request::sound(tensor)
    };
    assert_eq!(request.encode_to(&mut map), sys::CUresult::CUDA_SUCCESS);
    let expected: Vec<u32> = (2..6).flat_map(|row| (16..32).map(move |i| 32 * row + i)).collect();
    for policy in ["eager", "random:1", "latest:2"] {
        mock.set("policy", policy);
        let y = stream.alloc_zeros::<u32>(64).unwrap();
        let address = y.device_ptr(&stream).0;
        let cu = stream.cu_stream();
        // SAFETY: the words are staged; the parameters are the kernel's and outlive the launch.
        unsafe {
            let source = words.as_ptr().cast();
            sys::cuMemcpyHtoDAsync_v2(tensor, source, 1024, cu).result().unwrap();
            let mut module = std::ptr::null_mut();
            sys::cuModuleLoadData(&mut module, PTX.as_ptr().cast()).result().unwrap();
            let load = result::module::get_function(module, c"load".into()).unwrap();
            let mut parameters = [(&raw mut map).cast(), (&raw const address).cast_mut().cast()];
            let (one, threads) = ((1, 1, 1), (64, 1, 1));
            result::launch_kernel(load, one, threads, 0, cu, &mut parameters).unwrap();
        }
        assert_eq!(stream.clone_dtoh(&y).unwrap(), expected, "policy {policy}");
    }
    range.decommit(0);
    range.decommit(1);
    range.release();
}
