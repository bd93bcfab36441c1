//! cuBLASLt's functions.

use std::ffi::{c_int, c_void};
use std::mem::size_of;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use cudarc::cublaslt::sys::{
    cublasComputeType_t, cublasLtHandle_t, cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t,
    cublasLtMatmulDescAttributes_t as ProductAttribute, cublasLtMatmulHeuristicResult_t,
    cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t as Wish,
    cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t as MatrixAttribute, cublasStatus_t,
    cudaDataType, cudaStream_t,
};
use slimpipe_mock_protocol::door::driver;
use slimpipe_mock_protocol::guard::guarded;
use slimpipe_mock_protocol::handles::Handles;

use crate::control;
use crate::describe::{
    MATRICES, Matrix, PRODUCTS, Product, Refused, WISHES, Wishes, behind, change, value,
};
use crate::product::Call;

/// Bytes beside the operands that the only algorithm uses.
const WORKSPACE: usize = 1 << 20;

/// Libraries begun.
static LIBRARIES: Handles<()> = Handles::new();

/// The status of a function. What is refused is told, and is an impossible value.
fn answer(name: &str, body: impl FnOnce() -> Result<(), Refused>) -> cublasStatus_t {
    match guarded(body).unwrap_or_else(|panic| Err(format!("the mock failed inside: {panic}"))) {
        Ok(()) => cublasStatus_t::CUBLAS_STATUS_SUCCESS,
        Err(what) => {
            control::note(&format!("{name}: {what}"));
            cublasStatus_t::CUBLAS_STATUS_INVALID_VALUE
        }
    }
}

/// Writes a result where the caller wants it.
///
/// # Safety
/// A pointer that is not null must be good for writing a `T`.
unsafe fn put<T>(place: *mut T, value: T) -> Result<(), Refused> {
    if place.is_null() {
        return Err("a null pointer for a result".to_owned());
    }
    // SAFETY: promised by the caller.
    unsafe { place.write(value) };
    Ok(())
}

/// Exports functions of cuBLASLt; each signature is checked against the bindings'.
macro_rules! functions {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> cublasStatus_t {
            answer(stringify!($name), || {
                // SAFETY: a caller of cuBLASLt vouches for the pointers that it passes.
                #[allow(unused_unsafe)]
                unsafe { $body }
            })
        }
        const _: unsafe fn($($type),*) -> cublasStatus_t = cudarc::cublaslt::sys::$name;
    )*};
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtGetVersion() -> usize {
    130_000
}

functions! {
    fn cublasLtCreate(handle: *mut cublasLtHandle_t) {
        driver().and_then(|driver| driver.device()).map_err(|refusal| refusal.0)?;
        put(handle, LIBRARIES.add(Arc::new(())))
    }

    fn cublasLtMatmulDescCreate(
        made: *mut cublasLtMatmulDesc_t,
        compute: cublasComputeType_t,
        scale: cudaDataType,
    ) {
        if compute != cublasComputeType_t::CUBLAS_COMPUTE_32F || scale != cudaDataType::CUDA_R_32F {
            return Err("sums and scales are to be f32 here".to_owned());
        }
        put(made, PRODUCTS.add(Arc::new(Mutex::new(Product::default()))))
    }

    fn cublasLtMatmulDescSetAttribute(
        of: cublasLtMatmulDesc_t,
        attribute: ProductAttribute,
        from: *const c_void,
        bytes: usize,
    ) {
        let side = match attribute {
            ProductAttribute::CUBLASLT_MATMUL_DESC_TRANSA => 0,
            ProductAttribute::CUBLASLT_MATMUL_DESC_TRANSB => 1,
            other => return Err(format!("attribute {other:?}")),
        };
        let operation: i32 = value(from, bytes)?;
        if !(0..=1).contains(&operation) {
            return Err(format!("operation {operation}"));
        }
        change(&PRODUCTS, of, |product| {
            product.turned[side] = operation;
            Ok(())
        })
    }

    fn cublasLtMatrixLayoutCreate(
        made: *mut cublasLtMatrixLayout_t,
        kind: cudaDataType,
        rows: u64,
        columns: u64,
        pitch: i64,
    ) {
        let matrix = Matrix { kind: kind as u32, rows, columns, pitch, batch: 1, stride: 0 };
        put(made, MATRICES.add(Arc::new(Mutex::new(matrix))))
    }

    fn cublasLtMatrixLayoutSetAttribute(
        of: cublasLtMatrixLayout_t,
        attribute: MatrixAttribute,
        from: *const c_void,
        bytes: usize,
    ) {
        change(&MATRICES, of, |matrix| {
            match attribute {
                MatrixAttribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT => matrix.batch = value(from, bytes)?,
                MatrixAttribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET => {
                    matrix.stride = value(from, bytes)?;
                }
                other => return Err(format!("attribute {other:?}")),
            }
            Ok(())
        })
    }

    fn cublasLtMatmulPreferenceCreate(made: *mut cublasLtMatmulPreference_t) {
        // What the library takes for granted.
        let wishes = Wishes { workspace: 0, alignments: [256; 4] };
        put(made, WISHES.add(Arc::new(Mutex::new(wishes))))
    }

    fn cublasLtMatmulPreferenceSetAttribute(
        of: cublasLtMatmulPreference_t,
        attribute: Wish,
        from: *const c_void,
        bytes: usize,
    ) {
        change(&WISHES, of, |wishes| {
            let side = match attribute {
                Wish::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES => {
                    wishes.workspace = value(from, bytes)?;
                    return Ok(());
                }
                Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES => 0,
                Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES => 1,
                Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES => 2,
                Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES => 3,
                other => return Err(format!("attribute {other:?}")),
            };
            wishes.alignments[side] = value(from, bytes)?;
            Ok(())
        })
    }

    fn cublasLtMatmulPreferenceDestroy(of: cublasLtMatmulPreference_t) {
        WISHES.remove(of).map(drop).ok_or_else(|| "destroyed already".to_owned())
    }

    fn cublasLtMatmulAlgoGetHeuristic(
        library: cublasLtHandle_t,
        product: cublasLtMatmulDesc_t,
        a: cublasLtMatrixLayout_t,
        b: cublasLtMatrixLayout_t,
        c: cublasLtMatrixLayout_t,
        d: cublasLtMatrixLayout_t,
        wishes: cublasLtMatmulPreference_t,
        wanted: c_int,
        results: *mut cublasLtMatmulHeuristicResult_t,
        found: *mut c_int,
    ) {
        LIBRARIES.get(library).ok_or("no library")?;
        let (product, wishes) = (behind(&PRODUCTS, product)?, behind(&WISHES, wishes)?);
        behind(&MATRICES, d)?;
        let matrices = [behind(&MATRICES, a)?, behind(&MATRICES, b)?, behind(&MATRICES, c)?];
        call(product, matrices, [0; 4], [1.0, 0.0]).check()?;
        let count = control::ALGORITHMS.load(Ordering::Relaxed).min(wanted.max(0) as usize);
        if count == 0 || wishes.workspace < WORKSPACE {
            return put(found, 0);
        }
        // What it counts on is checked when it runs.
        let mut data = [0u64; 8];
        data.iter_mut().zip(wishes.alignments).for_each(|(of, alignment)| *of = alignment.into());
        put(results, cublasLtMatmulHeuristicResult_t {
            algo: cublasLtMatmulAlgo_t { data },
            workspaceSize: WORKSPACE,
            state: cublasStatus_t::CUBLAS_STATUS_SUCCESS,
            wavesCount: 1.0,
            reserved: [0; 4],
        })?;
        put(found, 1)
    }

    fn cublasLtMatmul(
        library: cublasLtHandle_t,
        product: cublasLtMatmulDesc_t,
        alpha: *const c_void,
        a: *const c_void,
        a_layout: cublasLtMatrixLayout_t,
        b: *const c_void,
        b_layout: cublasLtMatrixLayout_t,
        beta: *const c_void,
        c: *const c_void,
        c_layout: cublasLtMatrixLayout_t,
        d: *mut c_void,
        d_layout: cublasLtMatrixLayout_t,
        algorithm: *const cublasLtMatmulAlgo_t,
        workspace: *mut c_void,
        workspace_bytes: usize,
        stream: cudaStream_t,
    ) {
        LIBRARIES.get(library).ok_or("no library")?;
        let layouts = [a_layout, b_layout, c_layout];
        let [left, right, out] = layouts.map(|layout| behind(&MATRICES, layout));
        behind(&MATRICES, d_layout)?;
        let addresses = [a as u64, b as u64, c as u64, d as u64];
        let scales = [value(alpha, size_of::<f32>())?, value(beta, size_of::<f32>())?];
        let call = call(behind(&PRODUCTS, product)?, [left?, right?, out?], addresses, scales);
        call.check()?;
        let algorithm = algorithm.as_ref().ok_or("no algorithm")?;
        for (address, alignment) in addresses.iter().zip(algorithm.data) {
            if alignment == 0 || !address.is_multiple_of(alignment) {
                return Err(format!("{address:#x} is not aligned to {alignment} bytes"));
            }
        }
        let driver = driver().map_err(|refusal| refusal.0)?;
        if workspace_bytes < WORKSPACE || driver.read(workspace as u64, WORKSPACE).is_err() {
            return Err(format!("no workspace of {WORKSPACE} bytes"));
        }
        control::PRODUCTS.fetch_add(1, Ordering::Relaxed);
        let run = move |runs: bool| {
            if runs && let Err(refusal) = call.run(driver) {
                control::note(&refusal.0);
            }
        };
        driver.enqueue(stream as usize, c"cublasLtMatmul", run).map_err(|refusal| refusal.0)
    }
}

fn call(product: Product, matrices: [Matrix; 3], addresses: [u64; 4], scales: [f32; 2]) -> Call {
    Call { matrices, addresses, turned: product.turned.map(|operation| operation == 1), scales }
}
