//! A GPU as this process uses it.

use std::ffi::c_int;
use std::sync::Arc;

use cudarc::driver::sys::{self, CUcontext, CUdevice, CUdevice_attribute as Attribute};
use parking_lot::Mutex;

use super::compile::Variant;
use super::driver::{self, check};
use super::error::{CudaError, Result};
use super::event::Event;
use super::module::{Kernel, Modules};
use super::version::Version;

/// The compute capability the kernels are compiled for. Code for `sm_90a` runs on no other.
pub(super) const CAPABILITY: Version = Version(9, 0);

/// What a GPU is.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its number, from 0.
    pub ordinal: u32,
    /// Its name.
    pub name: String,
    /// Its compute capability.
    pub capability: Version,
    /// Its multiprocessors.
    pub multiprocessors: u32,
    /// Its memory, in bytes.
    pub memory: u64,
    /// Bytes of shared memory that one block can have.
    pub shared: u32,
    /// The newest CUDA that the driver supports.
    pub driver: Version,
}

/// The primary context of a GPU: one per GPU and process, shared by all ranks that are threads, kept to
/// the end of the process.
pub struct Context {
    raw: CUcontext,
    device: CUdevice,
    facts: Facts,
    modules: Modules,
    /// Events that nobody uses.
    events: Mutex<Vec<Event>>,
}

// SAFETY: a context may be used from any thread; that is what the driver's documentation promises.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Facts {
    /// Why the kernels cannot run on it, if so.
    pub fn refusal(&self) -> Option<CudaError> {
        let Self { ordinal, ref name, capability, .. } = *self;
        let refusal = || CudaError::UnsupportedGpu { ordinal, name: name.clone(), capability };
        (capability != CAPABILITY).then(refusal)
    }
}

impl Context {
    /// The context of GPU `ordinal`, made on first use.
    ///
    /// # Errors
    /// No driver, no such GPU, one that the kernels cannot run on, or one that refuses.
    pub fn of(ordinal: u32) -> Result<&'static Self> {
        static CONTEXTS: Mutex<Vec<(u32, &Context)>> = Mutex::new(Vec::new());
        let mut contexts = CONTEXTS.lock();
        if let Some((_, context)) = contexts.iter().find(|(number, _)| *number == ordinal) {
            return Ok(context);
        }
        let (device, facts) = facts_of(ordinal)?;
        if let Some(refusal) = facts.refusal() {
            return Err(refusal);
        }
        let mut raw = std::ptr::null_mut();
        // SAFETY: the device is one that the driver just named.
        let retained = unsafe { sys::cuDevicePrimaryCtxRetain(&mut raw, device) };
        check("cuDevicePrimaryCtxRetain", retained)?;
        let context =
            Self { raw, device, facts, modules: Modules::default(), events: Mutex::default() };
        let context: &'static Self = Box::leak(Box::new(context));
        contexts.push((ordinal, context));
        Ok(context)
    }

    /// What the GPU is.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The GPU's number.
    pub fn ordinal(&self) -> u32 {
        self.facts.ordinal
    }

    pub(super) fn events(&self) -> &Mutex<Vec<Event>> {
        &self.events
    }

    pub(super) fn device(&self) -> CUdevice {
        self.device
    }

    /// Makes the context current on this thread, as functions that take no stream want it.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn bind(&self) -> Result<()> {
        // SAFETY: the context is never destroyed.
        check("cuCtxSetCurrent", unsafe { sys::cuCtxSetCurrent(self.raw) })
    }

    /// The GPU's memory: bytes free, bytes in all.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn memory(&self) -> Result<(u64, u64)> {
        self.bind()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: writes two integers.
        check("cuMemGetInfo", unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) })?;
        Ok((free as u64, total as u64))
    }

    /// Waits until all streams of the GPU have done what they were given.
    ///
    /// # Errors
    /// Something that was running failed.
    pub fn synchronize(&self) -> Result<()> {
        self.bind()?;
        // SAFETY: no requirements beyond a current context.
        check("cuCtxSynchronize", unsafe { sys::cuCtxSynchronize() })
    }

    /// The kernel of a variant, compiled and loaded on first use.
    ///
    /// # Errors
    /// It cannot be compiled or loaded.
    pub fn kernel(&'static self, variant: &Variant) -> Result<Arc<Kernel>> {
        self.modules.kernel(self, variant)
    }
}

/// What GPU `ordinal` is, whether the kernels can run on it or not.
///
/// # Errors
/// No driver, or no such GPU.
pub fn facts(ordinal: u32) -> Result<Facts> {
    Ok(facts_of(ordinal)?.1)
}

fn facts_of(ordinal: u32) -> Result<(CUdevice, Facts)> {
    let driver = driver::load()?;
    if ordinal >= driver.gpus {
        return Err(CudaError::NoSuchGpu { ordinal, count: driver.gpus });
    }
    let mut device = 0;
    // SAFETY: writes one integer; the driver was initialised.
    check("cuDeviceGet", unsafe { sys::cuDeviceGet(&mut device, ordinal as c_int) })?;
    let mut name = [0 as std::ffi::c_char; 256];
    // SAFETY: writes a string of at most that length, terminator included.
    let named = unsafe { sys::cuDeviceGetName(name.as_mut_ptr(), name.len() as c_int, device) };
    check("cuDeviceGetName", named)?;
    // SAFETY: just written, and zero at the end.
    let name = unsafe { std::ffi::CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
    let mut memory = 0;
    // SAFETY: writes one integer.
    check("cuDeviceTotalMem", unsafe { sys::cuDeviceTotalMem_v2(&mut memory, device) })?;
    let attribute = |attribute: Attribute| -> Result<u32> {
        let mut value = 0;
        // SAFETY: writes one integer.
        let asked = unsafe { sys::cuDeviceGetAttribute(&mut value, attribute, device) };
        check("cuDeviceGetAttribute", asked)?;
        Ok(value.max(0) as u32)
    };
    let capability = Version(
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    let facts = Facts {
        ordinal,
        name,
        capability,
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        memory: memory as u64,
        shared: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        driver: driver.version,
    };
    Ok((device, facts))
}
