//! How the library is to compute a product: described once for each shape.

use std::ffi::c_void;
use std::mem::{MaybeUninit, size_of};

use cudarc::cublaslt::sys::{
    cublasComputeType_t, cublasLtHandle_t, cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t,
    cublasLtMatmulDescAttributes_t as Product, cublasLtMatmulHeuristicResult_t,
    cublasLtMatmulPreferenceAttributes_t as Preference, cublasLtMatrixLayout_t,
    cublasLtMatrixLayoutAttribute_t as Layout, cudaDataType,
};

use super::library::{Library, check};
use crate::cuda::Float;
use crate::cuda::error::Result;

/// Bytes that an algorithm may use beside its operands: what NVIDIA recommends for Hopper.
pub const WORKSPACE: usize = 32 << 20;

/// An operand as it lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Side {
    /// 0: memory runs along the contracted dimension; 1: along the other.
    pub major: usize,
    /// Elements between rows.
    pub pitch: usize,
    /// Elements between matrices of the batch; 0 if there is one for all.
    pub stride: usize,
    /// A power of two that the address is a multiple of, at most [`ALIGNMENT`].
    pub alignment: u32,
}

/// The most that the library asks about.
pub const ALIGNMENT: u32 = 256;

/// A product: C [batch, m, n] = or += A B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Sizes.
    pub sizes: [usize; 3],
    /// Matrices.
    pub batch: usize,
    /// A, whose other dimension is m, and B, whose is n.
    pub sides: [Side; 2],
    /// What C holds, dense.
    pub out: Float,
    /// C's, as of [`Side`].
    pub alignment: u32,
    /// Whether the product is added to what is there.
    pub accumulate: bool,
}

/// The library's description of a product, and the algorithm it recommends.
pub struct Plan {
    pub product: cublasLtMatmulDesc_t,
    /// Of B, A and C: the library counts columns first, so that it computes the transpose of C.
    pub layouts: [cublasLtMatrixLayout_t; 3],
    pub algorithm: cublasLtMatmulAlgo_t,
    pub workspace: usize,
}

// SAFETY: descriptions that are only read once they are made, which the library allows from any thread.
unsafe impl Send for Plan {}
// SAFETY: as above.
unsafe impl Sync for Plan {}

impl Plan {
    /// The plan of a shape; `None` if the library has no algorithm for it. It is kept to the end of the
    /// process, as there are few shapes.
    ///
    /// # Errors
    /// The library refuses.
    pub fn new(library: &Library, handle: cublasLtHandle_t, shape: &Shape) -> Result<Option<Self>> {
        let Shape { sizes: [m, n, k], batch, sides: [a, b], out, alignment, accumulate: _ } =
            *shape;
        let out_type =
            if out == Float::Bf16 { cudaDataType::CUDA_R_16BF } else { cudaDataType::CUDA_R_32F };
        let mut product = std::ptr::null_mut();
        // SAFETY: writes one pointer.
        check("cublasLtMatmulDescCreate", unsafe {
            (library.product_create)(
                &mut product,
                cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cudaDataType::CUDA_R_32F,
            )
        })?;
        // Columns first, memory that runs along the contracted dimension is a transposed left side, and a right
        // side as it is.
        let turned = |yes: bool| i32::from(yes); // CUBLAS_OP_T is 1, CUBLAS_OP_N 0
        let operations = [
            (Product::CUBLASLT_MATMUL_DESC_TRANSA, turned(b.major == 0)),
            (Product::CUBLASLT_MATMUL_DESC_TRANSB, turned(a.major == 1)),
        ];
        for (attribute, operation) in operations {
            let (at, bytes) = whole(&operation);
            // SAFETY: the description is alive, and reads so many bytes.
            let set = unsafe { (library.product_set)(product, attribute, at, bytes) };
            check("cublasLtMatmulDescSetAttribute", set)?;
        }
        let matrix = |kind, mn: usize, side: Side| {
            let (rows, columns) = if side.major == 0 { (k, mn) } else { (mn, k) };
            layout(library, kind, [rows, columns, side.pitch], batch, side.stride)
        };
        let bf16 = cudaDataType::CUDA_R_16BF;
        let layouts = [
            matrix(bf16, n, b)?,
            matrix(bf16, m, a)?,
            layout(library, out_type, [n, m, n], batch, m * n)?,
        ];
        let alignments = [b.alignment, a.alignment, alignment];
        let Some((algorithm, workspace)) =
            recommended(library, handle, product, layouts, alignments)?
        else {
            return Ok(None);
        };
        Ok(Some(Self { product, layouts, algorithm, workspace }))
    }
}

/// A value as the library takes it.
fn whole<T>(value: &T) -> (*const c_void, usize) {
    (std::ptr::from_ref(value).cast(), size_of::<T>())
}

fn layout(
    library: &Library,
    kind: cudaDataType,
    [rows, columns, pitch]: [usize; 3],
    batch: usize,
    stride: usize,
) -> Result<cublasLtMatrixLayout_t> {
    let mut made = std::ptr::null_mut();
    // SAFETY: writes one pointer.
    check("cublasLtMatrixLayoutCreate", unsafe {
        (library.layout_create)(&mut made, kind, rows as u64, columns as u64, pitch as i64)
    })?;
    let (count, stride) = (batch as i32, stride as i64);
    let attributes = [
        (Layout::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, whole(&count)),
        (Layout::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, whole(&stride)),
    ];
    for (attribute, (at, bytes)) in attributes {
        // SAFETY: the description is alive, and reads so many bytes.
        let set = unsafe { (library.layout_set)(made, attribute, at, bytes) };
        check("cublasLtMatrixLayoutSetAttribute", set)?;
    }
    Ok(made)
}

/// The library's first choice for these operands, and the workspace it uses.
fn recommended(
    library: &Library,
    handle: cublasLtHandle_t,
    product: cublasLtMatmulDesc_t,
    [left, right, out]: [cublasLtMatrixLayout_t; 3],
    [left_aligned, right_aligned, out_aligned]: [u32; 3],
) -> Result<Option<(cublasLtMatmulAlgo_t, usize)>> {
    let mut wishes = std::ptr::null_mut();
    // SAFETY: writes one pointer.
    check("cublasLtMatmulPreferenceCreate", unsafe { (library.preference_create)(&mut wishes) })?;
    let attributes = [
        (Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, whole(&WORKSPACE)),
        (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, whole(&left_aligned)),
        (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, whole(&right_aligned)),
        (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, whole(&out_aligned)),
        (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, whole(&out_aligned)),
    ];
    let mut set = Ok(());
    for (attribute, (at, bytes)) in attributes {
        // SAFETY: the wishes are alive, and read so many bytes.
        let code = unsafe { (library.preference_set)(wishes, attribute, at, bytes) };
        set = set.and_then(|()| check("cublasLtMatmulPreferenceSetAttribute", code));
    }
    let mut result = MaybeUninit::<cublasLtMatmulHeuristicResult_t>::zeroed();
    let mut found = 0;
    // SAFETY: all handles are alive; there is room for one result, and one is asked for.
    let code = unsafe {
        (library.heuristic)(
            handle,
            product,
            left,
            right,
            out,
            out,
            wishes,
            1,
            result.as_mut_ptr(),
            &mut found,
        )
    };
    // SAFETY: alive, and not used any more.
    unsafe { (library.preference_destroy)(wishes) };
    set?;
    const NOT_SUPPORTED: u32 = 15;
    if code == NOT_SUPPORTED || (code == 0 && found == 0) {
        return Ok(None);
    }
    check("cublasLtMatmulAlgoGetHeuristic", code)?;
    let result = result.as_ptr();
    // SAFETY: written, as the count says; only these fields are read, whose types have no impossible values.
    Ok(Some(unsafe { ((*result).algo, (*result).workspaceSize) }))
}
