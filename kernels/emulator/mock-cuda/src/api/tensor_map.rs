//! Tensor maps, with the rules that the driver checks.

use std::ffi::c_void;

use cudarc::driver::sys::{
    CUresult, CUtensorMap, CUtensorMapDataType, CUtensorMapFloatOOBfill, CUtensorMapInterleave,
    CUtensorMapL2promotion, CUtensorMapSwizzle, cuuint32_t, cuuint64_t,
};

use crate::abi::driver_functions;

/// What a tensor map is to describe.
struct Request<'a> {
    data: CUtensorMapDataType,
    address: u64,
    /// Elements along each dimension, the innermost first.
    extents: &'a [u64],
    /// Bytes from one element to the next along each dimension but the innermost.
    strides: &'a [u64],
    /// Elements of a box along each dimension.
    box_extents: &'a [u32],
    /// Every how many elements one is taken, along each dimension.
    element_strides: &'a [u32],
    interleave: CUtensorMapInterleave,
    swizzle: CUtensorMapSwizzle,
    fill: CUtensorMapFloatOOBfill,
}

impl Request<'_> {
    /// The rules of the driver, in words.
    ///
    /// # Errors
    /// The first rule that is broken.
    fn check(&self, place: *mut CUtensorMap) -> Result<(), String> {
        let rule = |kept: bool, text: String| if kept { Ok(()) } else { Err(text) };
        let (element, interleave) = (element_bytes(self.data)?, self.interleave);
        let plain = interleave == CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE;
        let wide = interleave == CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_32B;
        let unit = if wide { 32 } else { 16 };
        let rank = self.extents.len();
        rule(
            (place as usize).is_multiple_of(64),
            format!("the map at {place:?} is not aligned to 64"),
        )?;
        rule(plain || rank >= 3, format!("interleaving needs 3 dimensions, and there are {rank}"))?;
        let address = self.address;
        rule(
            address != 0 && address.is_multiple_of(unit),
            format!("the tensor at {address:#x} is not aligned to {unit} bytes"),
        )?;
        for (i, &extent) in self.extents.iter().enumerate() {
            rule((1..=1 << 32).contains(&extent), format!("dimension {i} has {extent} elements"))?;
        }
        for (i, &stride) in self.strides.iter().enumerate() {
            rule(
                stride.is_multiple_of(unit) && (1..1 << 40).contains(&stride),
                format!(
                    "the stride of dimension {} is {stride} bytes, no multiple of {unit}",
                    i + 1
                ),
            )?;
        }
        for (i, &extent) in self.box_extents.iter().enumerate() {
            let text = format!("a box has {extent} elements along dimension {i}; 1 to 256 can be");
            rule((1..=256).contains(&extent), text)?;
        }
        for (i, &stride) in self.element_strides.iter().enumerate() {
            let text = format!("the element stride of dimension {i} is {stride}; 1 to 8 can be");
            rule((1..=8).contains(&stride), text)?;
        }
        let inner = u64::from(self.box_extents[0]) * element;
        let text = format!("a row of a box has {inner} bytes, no multiple of 16");
        rule(!plain || inner.is_multiple_of(16), text)?;
        let most = swizzle_bytes(self.swizzle)?;
        let text = format!("a row of a box has {inner} bytes, and the swizzle goes over {most}");
        rule(!plain || inner <= most, text)?;
        let text = format!("interleaving by 32 bytes with {:?}", self.swizzle);
        rule(!wide || self.swizzle == CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_32B, text)?;
        let nan = self.fill != CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;
        rule(!nan || is_float(self.data), format!("{:?} has no NaN to fill with", self.data))
    }
}

/// Bytes of an element.
fn element_bytes(data: CUtensorMapDataType) -> Result<u64, String> {
    use CUtensorMapDataType::*;
    match data {
        CU_TENSOR_MAP_DATA_TYPE_UINT8 => Ok(1),
        CU_TENSOR_MAP_DATA_TYPE_UINT16
        | CU_TENSOR_MAP_DATA_TYPE_FLOAT16
        | CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 => Ok(2),
        CU_TENSOR_MAP_DATA_TYPE_UINT32
        | CU_TENSOR_MAP_DATA_TYPE_INT32
        | CU_TENSOR_MAP_DATA_TYPE_FLOAT32
        | CU_TENSOR_MAP_DATA_TYPE_FLOAT32_FTZ
        | CU_TENSOR_MAP_DATA_TYPE_TFLOAT32
        | CU_TENSOR_MAP_DATA_TYPE_TFLOAT32_FTZ => Ok(4),
        CU_TENSOR_MAP_DATA_TYPE_UINT64
        | CU_TENSOR_MAP_DATA_TYPE_INT64
        | CU_TENSOR_MAP_DATA_TYPE_FLOAT64 => Ok(8),
        packed => Err(format!("{packed:?} is of a later device")),
    }
}

fn is_float(data: CUtensorMapDataType) -> bool {
    use CUtensorMapDataType::*;
    !matches!(
        data,
        CU_TENSOR_MAP_DATA_TYPE_UINT8
            | CU_TENSOR_MAP_DATA_TYPE_UINT16
            | CU_TENSOR_MAP_DATA_TYPE_UINT32
            | CU_TENSOR_MAP_DATA_TYPE_INT32
            | CU_TENSOR_MAP_DATA_TYPE_UINT64
            | CU_TENSOR_MAP_DATA_TYPE_INT64
    )
}

/// Bytes that a row of a box can have at most.
fn swizzle_bytes(swizzle: CUtensorMapSwizzle) -> Result<u64, String> {
    use CUtensorMapSwizzle::*;
    match swizzle {
        CU_TENSOR_MAP_SWIZZLE_NONE => Ok(u64::MAX),
        CU_TENSOR_MAP_SWIZZLE_32B => Ok(32),
        CU_TENSOR_MAP_SWIZZLE_64B => Ok(64),
        CU_TENSOR_MAP_SWIZZLE_128B => Ok(128),
        atom => Err(format!("{atom:?} is of a later device")),
    }
}

driver_functions! {
    fn cuTensorMapEncodeTiled(
        map: *mut CUtensorMap,
        data: CUtensorMapDataType,
        rank: cuuint32_t,
        address: *mut c_void,
        extents: *const cuuint64_t,
        strides: *const cuuint64_t,
        box_extents: *const cuuint32_t,
        element_strides: *const cuuint32_t,
        interleave: CUtensorMapInterleave,
        swizzle: CUtensorMapSwizzle,
        _promotion: CUtensorMapL2promotion,
        fill: CUtensorMapFloatOOBfill,
    ) {
        let missing = map.is_null()
            || extents.is_null()
            || (rank > 1 && strides.is_null())
            || box_extents.is_null()
            || element_strides.is_null();
        if missing || !(1..=5).contains(&rank) {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        let rank = rank as usize;
        let request = Request {
            data,
            address: address as u64,
            extents: std::slice::from_raw_parts(extents, rank),
            strides: match rank {
                1 => &[],
                _ => std::slice::from_raw_parts(strides, rank - 1),
            },
            box_extents: std::slice::from_raw_parts(box_extents, rank),
            element_strides: std::slice::from_raw_parts(element_strides, rank),
            interleave,
            swizzle,
            fill,
        };
        request.check(map).map_err(|broken| {
            eprintln!("mock CUDA driver: no tensor map: {broken}");
            CUresult::CUDA_ERROR_INVALID_VALUE
        })?;
        Err(CUresult::CUDA_ERROR_NOT_SUPPORTED)
    }
}
