//! Launching kernels.

use std::ffi::c_void;

use cudarc::driver::sys;

use super::DevicePtr;
use super::driver::check;
use super::error::{CudaError, Result};
use super::module::Kernel;
use super::stream::Stream;
use super::tensor_map::TensorMap;

/// Most parameters of a kernel here. Longer lists go in one struct.
const PARAMETERS: usize = 32;

/// How many threads run a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Blocks along x, y, z.
    pub blocks: [u32; 3],
    /// Threads of a block along x, y, z.
    pub threads: [u32; 3],
    /// Bytes of dynamic shared memory of a block.
    pub shared: u32,
}

impl Grid {
    /// `blocks` blocks of `threads` threads in a row.
    pub const fn line(blocks: u32, threads: u32) -> Self {
        Self { blocks: [blocks, 1, 1], threads: [threads, 1, 1], shared: 0 }
    }

    /// With `bytes` bytes of dynamic shared memory for each block.
    #[must_use]
    pub const fn shared(mut self, bytes: u32) -> Self {
        self.shared = bytes;
        self
    }
}

/// A value that a kernel takes as a parameter.
///
/// # Safety
/// The type's bytes are what the kernel's parameter of that place is declared as.
pub unsafe trait Parameter {}

macro_rules! parameters {
    ($($t:ty),*) => {
        $(
            // SAFETY: the same type in the kernel's language.
            unsafe impl Parameter for $t {}
        )*
    };
}
parameters!(bool, u8, i32, u32, i64, u64, f32, f64, DevicePtr, TensorMap);

/// A kernel's parameters in order: `&[&x, &y, &rows]`.
pub type Args<'a> = [&'a dyn Parameter];

impl Kernel {
    /// Enqueues the kernel. A grid without blocks is no launch.
    ///
    /// # Errors
    /// Other parameters than the kernel has, more threads or shared memory than it can, or the driver
    /// refuses.
    ///
    /// # Safety
    /// The parameters are what the kernel's text declares, and the memory they point to is there and used
    /// by nobody else, as the kernel's contract says, until the stream has run it.
    pub unsafe fn launch(&self, stream: &Stream, grid: Grid, args: &Args<'_>) -> Result<()> {
        if grid.blocks.contains(&0) {
            return Ok(());
        }
        self.check(grid, args)?;
        let mut pointers = [std::ptr::null_mut::<c_void>(); PARAMETERS];
        for (pointer, value) in pointers.iter_mut().zip(args) {
            *pointer = (*value as *const dyn Parameter).cast_mut().cast();
        }
        stream.context().bind()?;
        let ([bx, by, bz], [tx, ty, tz]) = (grid.blocks, grid.threads);
        let (shared, raw, none) = (grid.shared, stream.raw(), std::ptr::null_mut());
        let parameters = pointers.as_mut_ptr();
        // SAFETY: the function is loaded as long as this value; the driver copies the parameters before it
        // returns, as many and as long as the kernel has, which was checked. The rest is the caller's promise.
        let launched = unsafe {
            sys::cuLaunchKernel(
                self.function(),
                bx,
                by,
                bz,
                tx,
                ty,
                tz,
                shared,
                raw,
                parameters,
                none,
            )
        };
        check("cuLaunchKernel", launched).map_err(|error| match error {
            CudaError::Driver { name, text, .. } => {
                let what = format!("cannot be launched as {grid:?}: {text} ({name})");
                CudaError::Launch { kernel: self.name(), what }
            }
            other => other,
        })
    }

    fn check(&self, grid: Grid, args: &Args<'_>) -> Result<()> {
        let fail = |what: String| Err(CudaError::Launch { kernel: self.name(), what });
        if args.len() > PARAMETERS {
            return fail(format!("{} parameters, and at most {PARAMETERS} can be", args.len()));
        }
        if let Some(sizes) = self.parameters() {
            let given = args.iter().map(|value| size_of_val(*value));
            if !given.clone().eq(sizes.iter().copied()) {
                let given: Vec<usize> = given.collect();
                return fail(format!("parameters of {given:?} bytes, and it takes {sizes:?}"));
            }
        }
        let threads: u64 = grid.threads.iter().map(|&n| u64::from(n)).product();
        if threads > u64::from(self.facts().threads) {
            let most = self.facts().threads;
            return fail(format!("{threads} threads in a block, and it takes at most {most}"));
        }
        if grid.shared > self.dynamic_shared() {
            let most = self.dynamic_shared();
            return fail(format!("{} bytes of shared memory, and it can have {most}", grid.shared));
        }
        Ok(())
    }
}
