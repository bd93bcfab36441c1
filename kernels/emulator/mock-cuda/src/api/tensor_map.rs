//! Tensor maps.

use std::ffi::c_void;

use cudarc::driver::sys::{
    CUresult, CUtensorMap, CUtensorMapDataType, CUtensorMapFloatOOBfill, CUtensorMapInterleave,
    CUtensorMapL2promotion, CUtensorMapSwizzle, cuuint32_t, cuuint64_t,
};
use slimpipe_emulator::{Element, Fill, Swizzle, TensorMap};

use crate::{abi::driver_functions, context};

const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;

/// Most dimensions of a tensor.
const DIMENSIONS: u32 = 5;

/// What the map's place must be a multiple of.
const ALIGNMENT: usize = 64;

/// Tells why there will be no map.
fn refuse(code: CUresult, why: impl std::fmt::Display) -> CUresult {
    eprintln!("mock CUDA driver: no tensor map: {why}");
    code
}

/// Something that the driver takes and the mock does not imitate.
fn not_imitated(what: impl std::fmt::Debug) -> CUresult {
    refuse(CUresult::CUDA_ERROR_NOT_SUPPORTED, format!("{what:?} is not imitated"))
}

fn element(data: CUtensorMapDataType) -> Result<Element, CUresult> {
    use CUtensorMapDataType::*;
    match data {
        CU_TENSOR_MAP_DATA_TYPE_UINT8 => Ok(Element::U8),
        CU_TENSOR_MAP_DATA_TYPE_UINT16 => Ok(Element::U16),
        CU_TENSOR_MAP_DATA_TYPE_UINT32 => Ok(Element::U32),
        CU_TENSOR_MAP_DATA_TYPE_INT32 => Ok(Element::S32),
        CU_TENSOR_MAP_DATA_TYPE_UINT64 => Ok(Element::U64),
        CU_TENSOR_MAP_DATA_TYPE_INT64 => Ok(Element::S64),
        CU_TENSOR_MAP_DATA_TYPE_FLOAT16 => Ok(Element::F16),
        CU_TENSOR_MAP_DATA_TYPE_FLOAT32 => Ok(Element::F32),
        CU_TENSOR_MAP_DATA_TYPE_FLOAT64 => Ok(Element::F64),
        CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 => Ok(Element::Bf16),
        other => Err(not_imitated(other)),
    }
}

fn swizzle(mode: CUtensorMapSwizzle) -> Result<Swizzle, CUresult> {
    use CUtensorMapSwizzle::*;
    match mode {
        CU_TENSOR_MAP_SWIZZLE_NONE => Ok(Swizzle::None),
        CU_TENSOR_MAP_SWIZZLE_32B => Ok(Swizzle::B32),
        CU_TENSOR_MAP_SWIZZLE_64B => Ok(Swizzle::B64),
        CU_TENSOR_MAP_SWIZZLE_128B => Ok(Swizzle::B128),
        other => Err(not_imitated(other)),
    }
}

driver_functions! {
    /// The rules that the driver checks are those of the emulator's `TensorMap::encode`; here are
    /// those that it does not see.
    fn cuTensorMapEncodeTiled(
        map: *mut CUtensorMap,
        data: CUtensorMapDataType,
        rank: cuuint32_t,
        address: *mut c_void,
        sizes: *const cuuint64_t,
        strides: *const cuuint64_t,
        box_sizes: *const cuuint32_t,
        element_strides: *const cuuint32_t,
        interleave: CUtensorMapInterleave,
        mode: CUtensorMapSwizzle,
        _promotion: CUtensorMapL2promotion,
        fill: CUtensorMapFloatOOBfill,
    ) {
        context::current()?;
        let missing = map.is_null()
            || address.is_null()
            || sizes.is_null()
            || (rank > 1 && strides.is_null())
            || box_sizes.is_null()
            || element_strides.is_null();
        if missing || !(1..=DIMENSIONS).contains(&rank) {
            return Err(refuse(INVALID, format!("{rank} dimensions, or a null pointer")));
        }
        if !(map as usize).is_multiple_of(ALIGNMENT) {
            return Err(refuse(INVALID, format!("its place is no multiple of {ALIGNMENT}")));
        }
        let rank = rank as usize;
        let steps = std::slice::from_raw_parts(element_strides, rank);
        if let Some(step) = steps.iter().find(|step| !(1..=8).contains(*step)) {
            return Err(refuse(INVALID, format!("an element stride of {step}; 1 to 8 can be")));
        }
        if interleave != CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE {
            return Err(not_imitated(interleave));
        }
        if steps.iter().any(|step| *step != 1) {
            return Err(not_imitated(("element strides", steps)));
        }
        let strides = match rank {
            1 => Vec::new(),
            _ => std::slice::from_raw_parts(strides, rank - 1).to_vec(),
        };
        if strides.contains(&0) {
            return Err(refuse(INVALID, "a stride of 0 bytes"));
        }
        let encoded = TensorMap {
            element: element(data)?,
            address: address as u64,
            sizes: std::slice::from_raw_parts(sizes, rank).to_vec(),
            strides,
            box_sizes: std::slice::from_raw_parts(box_sizes, rank).to_vec(),
            swizzle: swizzle(mode)?,
            fill: match fill {
                CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE => Fill::Zero,
                _ => Fill::Nan,
            },
        }
        .encode()
        .map_err(|broken| refuse(INVALID, broken))?;
        map.cast::<[u8; 128]>().write(encoded);
        Ok(())
    }
}
