use cudarc::driver::{CudaContext, DevicePtr, sys};
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
        let mut map = Aligned(sys::CUtensorMap { opaque: [0; 16] });
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
    assert_ne!(sound.encode(), sys::CUresult::CUDA_ERROR_INVALID_VALUE);
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
    refused("interleaving of two dimensions", &|r| {
        r.interleave = Interleave::CU_TENSOR_MAP_INTERLEAVE_16B;
    });
    refused("a NaN among integers", &|r| {
        r.data = Data::CU_TENSOR_MAP_DATA_TYPE_UINT16;
        r.fill = Fill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA;
    });
}
