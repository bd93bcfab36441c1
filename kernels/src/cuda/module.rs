//! Compiled kernels, loaded on a GPU.

use std::collections::HashMap;
use std::ffi::{CString, c_int, c_void};
use std::sync::Arc;

use cudarc::driver::sys::{
    self, CUfunction, CUfunction_attribute as Attribute, CUmodule, CUresult,
};
use parking_lot::{Mutex, RwLock};

use super::compile::{self, Variant};
use super::context::Context;
use super::driver::{self, check};
use super::error::Result;

/// The bytes a block can have of static and dynamic shared memory without being asked for more.
const DEFAULT_SHARED: u32 = 48 << 10;

/// What the driver says about a kernel that was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelFacts {
    /// Registers per thread.
    pub registers: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
    /// Bytes of local memory of a thread.
    pub local: u32,
    /// Most threads of a block.
    pub threads: u32,
}

/// A kernel that was loaded on a GPU.
pub struct Kernel {
    function: CUfunction,
    name: &'static str,
    facts: KernelFacts,
    dynamic_shared: u32,
    /// Bytes of each parameter, where the driver can tell.
    parameters: Option<Vec<usize>>,
    _module: Arc<Module>,
}

// SAFETY: functions may be launched from any thread.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

/// An image that was loaded on a GPU.
struct Module {
    raw: CUmodule,
    context: &'static Context,
}

// SAFETY: modules may be used from any thread.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Module {
    /// Loads an image: a CUBIN, or PTX with a zero at its end.
    fn load(context: &'static Context, image: &[u8]) -> Result<Self> {
        context.bind()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: writes one pointer; the image says itself how long it is.
        let loaded = unsafe { sys::cuModuleLoadData(&mut raw, image.as_ptr().cast::<c_void>()) };
        check("cuModuleLoadData", loaded)?;
        Ok(Self { raw, context })
    }

    fn function(self: &Arc<Self>, name: &'static str) -> Result<Kernel> {
        self.context.bind()?;
        let mut function = std::ptr::null_mut();
        let text = CString::new(name).unwrap_or_default();
        // SAFETY: writes one pointer; the module is loaded.
        let found = unsafe { sys::cuModuleGetFunction(&mut function, self.raw, text.as_ptr()) };
        check("cuModuleGetFunction", found)?;
        let ask = |attribute: Attribute| -> Result<u32> {
            let mut value = 0;
            // SAFETY: writes one integer; the function was just found.
            let asked = unsafe { sys::cuFuncGetAttribute(&mut value, attribute, function) };
            check("cuFuncGetAttribute", asked)?;
            Ok(value.max(0) as u32)
        };
        let facts = KernelFacts {
            registers: ask(Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            shared: ask(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?,
            local: ask(Attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
            threads: ask(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
        };
        let dynamic_shared = self.context.facts().shared.saturating_sub(facts.shared);
        if self.context.facts().shared > DEFAULT_SHARED {
            let most = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function was just found.
            let set = unsafe { sys::cuFuncSetAttribute(function, most, dynamic_shared as c_int) };
            check("cuFuncSetAttribute", set)?;
        }
        let parameters = parameters(function);
        Ok(Kernel { function, name, facts, dynamic_shared, parameters, _module: self.clone() })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let _ = self.context.bind();
        // SAFETY: loaded once, unloaded once; all functions of it are gone, for they keep it.
        let _ = unsafe { sys::cuModuleUnload(self.raw) };
    }
}

/// Bytes of a kernel's parameters, in order; drivers before 12.4 cannot tell.
fn parameters(function: CUfunction) -> Option<Vec<usize>> {
    type Ask = unsafe extern "C" fn(CUfunction, usize, *mut usize, *mut usize) -> CUresult;
    // SAFETY: its type; a function exists, so the driver was loaded.
    let ask = unsafe { driver::function::<Ask>("cuFuncGetParamInfo") }?;
    let size = |index| {
        let (mut offset, mut size) = (0, 0);
        // SAFETY: writes two integers; an index beyond the last parameter is refused.
        let asked = unsafe { ask(function, index, &mut offset, &mut size) };
        (asked == CUresult::CUDA_SUCCESS).then_some(size)
    };
    Some((0..).map_while(size).collect())
}

impl Kernel {
    pub(super) fn function(&self) -> CUfunction {
        self.function
    }

    /// Its name in its source.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What the driver says about it.
    pub fn facts(&self) -> KernelFacts {
        self.facts
    }

    /// Most bytes of dynamic shared memory of a block.
    pub fn dynamic_shared(&self) -> u32 {
        self.dynamic_shared
    }

    pub(super) fn parameters(&self) -> Option<&[usize]> {
        self.parameters.as_deref()
    }
}

/// A module that is loaded once, by whoever needs it first; others wait.
type Slot = Arc<Mutex<Option<Arc<Module>>>>;

/// All that was loaded on a GPU.
#[derive(Default)]
pub(super) struct Modules {
    kernels: RwLock<HashMap<Variant, Arc<Kernel>>>,
    modules: Mutex<Vec<(Variant, Slot)>>,
}

impl Modules {
    pub(super) fn kernel(
        &self,
        context: &'static Context,
        variant: &Variant,
    ) -> Result<Arc<Kernel>> {
        if let Some(kernel) = self.kernels.read().get(variant) {
            return Ok(kernel.clone());
        }
        let module = self.module(context, variant)?;
        let kernel = Arc::new(module.function(variant.entry)?);
        Ok(self.kernels.write().entry(*variant).or_insert(kernel).clone())
    }

    fn module(&self, context: &'static Context, variant: &Variant) -> Result<Arc<Module>> {
        let slot = {
            let mut modules = self.modules.lock();
            match modules.iter().find(|(other, _)| other.shares_image(variant)) {
                Some((_, slot)) => slot.clone(),
                None => {
                    modules.push((*variant, Slot::default()));
                    modules[modules.len() - 1].1.clone()
                }
            }
        };
        // Ranks that are threads need the same kernels at the same time: one compiles, and the others wait
        // for it, but not for other kernels.
        let mut slot = slot.lock();
        if let Some(module) = &*slot {
            return Ok(module.clone());
        }
        let image = compile::image(variant)?;
        let module = Arc::new(Module::load(context, &image.bytes)?);
        Ok(slot.insert(module).clone())
    }
}
