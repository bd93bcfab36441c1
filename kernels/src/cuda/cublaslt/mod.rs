//! Products by NVIDIA's cuBLASLt, where it is installed.
//!
//! It is looked for where toolkits and Python environments put it, and nothing depends on it: without it, and
//! for what it has no algorithm for, the kernels of this crate compute.

mod library;
mod plan;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use cudarc::cublaslt::sys::cublasLtHandle_t;
use parking_lot::Mutex;

use super::compile::ImageKind;
use super::context::Context;
use super::error::{CudaError, Result};
use super::{DevicePtr, Stream};
use library::{Library, check};
pub(super) use plan::{ALIGNMENT, Shape, Side};
use plan::{Plan, WORKSPACE};

/// Who computes products on tensor cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Products {
    /// The kernel of this crate.
    Own,
    /// cuBLASLt; this crate's kernel where it has no algorithm.
    CublasLt,
}

/// What was chosen with [`Products::choose`]: 0 is nothing.
static CHOSEN: AtomicU8 = AtomicU8::new(0);

impl Products {
    /// Who does in this process: the one [chosen](Products::choose), or the one named in `SLIMPIPE_GEMM` (`own`
    /// or `cublaslt`), or cuBLASLt if there is one. Where kernels are loaded as assembly it is this crate's: that
    /// is asked for to see them run.
    ///
    /// # Errors
    /// cuBLASLt was named, and there is none; or something else was.
    pub fn current() -> Result<Self> {
        let missing = |looked| CudaError::NoCublasLt { looked };
        match CHOSEN.load(Ordering::Relaxed) {
            1 => return Ok(Self::Own),
            2 => return Library::load().map(|_| Self::CublasLt).map_err(missing),
            _ => {}
        }
        let named = std::env::var("SLIMPIPE_GEMM").unwrap_or_default();
        let found = match &*named {
            "own" => Self::Own,
            "cublaslt" => Library::load().map(|_| Self::CublasLt).map_err(missing)?,
            "" if ImageKind::current() == ImageKind::Ptx || Library::load().is_err() => Self::Own,
            "" => Self::CublasLt,
            _ => return Err(CudaError::NoSuchProducts { named }),
        };
        found.choose();
        Ok(found)
    }

    /// Has this process use that, whatever the environment says.
    pub fn choose(self) {
        CHOSEN.store(if self == Self::Own { 1 } else { 2 }, Ordering::Relaxed);
    }
}

/// The library on one GPU, and what it is asked to compute there.
struct Gpu {
    handle: cublasLtHandle_t,
    /// `None` where it has no algorithm.
    plans: Mutex<HashMap<Shape, Option<Arc<Plan>>>>,
}

// SAFETY: the handle may be used from any thread, as the library's documentation says.
unsafe impl Send for Gpu {}
// SAFETY: as above.
unsafe impl Sync for Gpu {}

impl Gpu {
    /// The library on the GPU of a context, which is current, begun on first use and kept to the end of the process.
    fn of(library: &Library, context: &'static Context) -> Result<&'static Self> {
        static GPUS: Mutex<Vec<(u32, &Gpu)>> = Mutex::new(Vec::new());
        let mut gpus = GPUS.lock();
        if let Some((_, gpu)) = gpus.iter().find(|(ordinal, _)| *ordinal == context.ordinal()) {
            return Ok(gpu);
        }
        let mut handle = std::ptr::null_mut();
        // SAFETY: writes one pointer; the GPU's context is current.
        check("cublasLtCreate", unsafe { (library.create)(&mut handle) })?;
        let gpu: &'static Self = Box::leak(Box::new(Self { handle, plans: Mutex::default() }));
        gpus.push((context.ordinal(), gpu));
        Ok(gpu)
    }

    fn plan(&self, library: &Library, shape: &Shape) -> Result<Option<Arc<Plan>>> {
        let mut plans = self.plans.lock();
        if let Some(plan) = plans.get(shape) {
            return Ok(plan.clone());
        }
        let plan = Plan::new(library, self.handle, shape)?.map(Arc::new);
        plans.insert(*shape, plan.clone());
        Ok(plan)
    }
}

/// Computes a product; false if the library cannot, and nothing was done.
///
/// # Errors
/// The library is missing or refuses.
///
/// # Safety
/// A, B and C are what `shape` says, in memory that the stream may use; C overlaps neither.
pub(super) unsafe fn product(
    stream: &Stream,
    shape: &Shape,
    [a, b, c]: [DevicePtr; 3],
) -> Result<bool> {
    let library = Library::load().map_err(|looked| CudaError::NoCublasLt { looked })?;
    stream.context().bind()?;
    let gpu = Gpu::of(library, stream.context())?;
    let Some(plan) = gpu.plan(library, shape)? else { return Ok(false) };
    let workspace = match plan.workspace {
        0 => DevicePtr(0),
        // The same for all plans, so that it is taken from the driver once.
        _ => stream.scratch(WORKSPACE as u64)?,
    };
    let (one, kept) = (1f32, f32::from(u8::from(shape.accumulate)));
    let [left, right, out] = plan.layouts;
    let (c, stream) = (c.0 as *mut _, stream.raw().cast());
    // SAFETY: the plan describes the operands, which are as the caller promises; scales are f32, as it says.
    let code = unsafe {
        (library.matmul)(
            gpu.handle,
            plan.product,
            (&raw const one).cast(),
            b.0 as *const _,
            left,
            a.0 as *const _,
            right,
            (&raw const kept).cast(),
            c,
            out,
            c,
            out,
            &plan.algorithm,
            workspace.0 as *mut _,
            if plan.workspace == 0 { 0 } else { WORKSPACE },
            stream,
        )
    };
    check("cublasLtMatmul", code).map(|()| true)
}
