//! How the GPU's copy engine sees a tensor.

use std::ffi::c_void;

use cudarc::driver::sys::{
    self, CUtensorMapDataType as DataType, CUtensorMapFloatOOBfill as Fill,
    CUtensorMapInterleave as Interleave, CUtensorMapL2promotion as Promotion,
    CUtensorMapSwizzle as SwizzleMode,
};

use super::driver::check;
use super::error::{CudaError, Result};
use super::{DevicePtr, Float};

/// Most dimensions of a tensor map.
const RANK: usize = 5;

/// A tensor in GPU memory and the box that one copy moves: the 128 opaque bytes that TMA instructions take.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorMap([u64; 16]);

/// How rows of a box are spread over shared memory's banks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swizzle {
    /// Not at all.
    None,
    /// Rows of 32 bytes.
    B32,
    /// Rows of 64 bytes.
    B64,
    /// Rows of 128 bytes.
    B128,
}

impl Swizzle {
    /// The longest row of a box.
    fn row(self) -> u64 {
        match self {
            Self::None => u64::MAX,
            Self::B32 => 32,
            Self::B64 => 64,
            Self::B128 => 128,
        }
    }
}

impl TensorMap {
    /// No tensor: for places in a kernel's list that it does not look at.
    pub const NONE: Self = Self([0; 16]);

    /// Its bytes as words, for tables in GPU memory.
    pub(super) fn words(&self) -> [u64; 16] {
        self.0
    }

    /// A tensor of `extents` elements, innermost first, at `address`; `strides` are the bytes between
    /// neighbours along all dimensions but the innermost, `tile` the elements that one copy moves. What lies
    /// outside is read as zero and not written. The thread's [context](super::Context::bind) is that of the GPU.
    ///
    /// # Errors
    /// An address or a stride that is no multiple of 16 bytes, more than 5 dimensions, a box with a side
    /// over 256 or rows longer than the swizzle's; or no context is current.
    pub fn new(
        element: Float,
        address: DevicePtr,
        extents: &[u64],
        strides: &[u64],
        tile: &[u32],
        swizzle: Swizzle,
    ) -> Result<Self> {
        let fail = |what: String| Err(CudaError::TensorMap(what));
        let rank = extents.len();
        if rank == 0 || rank > RANK || strides.len() + 1 != rank || tile.len() != rank {
            return fail(format!(
                "{rank} extents, {} strides and a box of {} sides; 1 to {RANK} extents and sides, and one stride less, are needed",
                strides.len(),
                tile.len()
            ));
        }
        if !address.0.is_multiple_of(16) {
            return fail(format!("address {:#x} is not a multiple of 16 bytes", address.0));
        }
        if let Some(stride) =
            strides.iter().find(|&&stride| !stride.is_multiple_of(16) || stride >= 1 << 40)
        {
            return fail(format!("a stride of {stride} bytes is not a multiple of 16 below 2^40"));
        }
        if let Some(extent) = extents.iter().find(|&&extent| extent == 0 || extent > 1 << 32) {
            return fail(format!("an extent of {extent}; 1 to 2^32 are possible"));
        }
        if let Some(side) = tile.iter().find(|&&side| side == 0 || side > 256) {
            return fail(format!("a box {side} elements long; 1 to 256 are possible"));
        }
        let row = u64::from(tile[0]) * element.size() as u64;
        if row > swizzle.row() || !row.is_multiple_of(16) {
            return fail(format!(
                "rows of {row} bytes in a box with swizzle {swizzle:?}; they must be a multiple of 16 bytes, and no longer than the swizzle's rows"
            ));
        }
        let data_type = match element {
            Float::F32 => DataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
            Float::Bf16 => DataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        };
        let swizzle = match swizzle {
            Swizzle::None => SwizzleMode::CU_TENSOR_MAP_SWIZZLE_NONE,
            Swizzle::B32 => SwizzleMode::CU_TENSOR_MAP_SWIZZLE_32B,
            Swizzle::B64 => SwizzleMode::CU_TENSOR_MAP_SWIZZLE_64B,
            Swizzle::B128 => SwizzleMode::CU_TENSOR_MAP_SWIZZLE_128B,
        };
        let mut map = Self::NONE;
        let (place, steps) = ((&raw mut map).cast(), [1u32; RANK]);
        super::driver::load()?;
        // SAFETY: `place` is 128 bytes aligned to 64, as the driver wants them; the arrays have `rank`
        // elements, `strides` one less.
        let encoded = unsafe {
            sys::cuTensorMapEncodeTiled(
                place,
                data_type,
                rank as u32,
                address.0 as *mut c_void,
                extents.as_ptr(),
                strides.as_ptr(),
                tile.as_ptr(),
                steps.as_ptr(),
                Interleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                swizzle,
                Promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                Fill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        check("cuTensorMapEncodeTiled", encoded)?;
        Ok(map)
    }
}
