//! The door to the mock driver for other mocks: its public functions, and those that it has for them.

use std::{
    ffi::{CStr, CString, c_int, c_void},
    sync::OnceLock,
};

use crate::driver::{ENQUEUE, Enqueue, READ, Read, WRITE, Write};

/// Why the driver does not do it.
#[derive(Clone, Debug)]
pub struct Refusal(pub String);

type GetCurrent = unsafe extern "C" fn(*mut *mut c_void) -> c_int;
type SetCurrent = unsafe extern "C" fn(*mut c_void) -> c_int;
type GetDevice = unsafe extern "C" fn(*mut c_int) -> c_int;

/// The mock driver of this process.
#[derive(Debug)]
pub struct Driver {
    enqueue: Enqueue,
    read: Read,
    write: Write,
    get_current: GetCurrent,
    set_current: SetCurrent,
    get_device: GetDevice,
}

/// A context, to be made current on another thread.
#[derive(Clone, Copy, Debug)]
pub struct Context(usize);

/// The driver, found by its soname as the real libraries find it.
///
/// # Errors
/// There is none, or it is not the mock.
pub fn driver() -> Result<&'static Driver, Refusal> {
    static DRIVER: OnceLock<Result<Driver, Refusal>> = OnceLock::new();
    DRIVER.get_or_init(Driver::find).as_ref().map_err(Refusal::clone)
}

impl Driver {
    fn find() -> Result<Driver, Refusal> {
        // SAFETY: the name is NUL-terminated; the mock driver is loaded already, and whatever else
        // has this name is a driver that any program may load.
        let library = unsafe { libc::dlopen(c"libcuda.so".as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            return Err(Refusal("mocks work on the mock driver; there is none".into()));
        }
        let symbol = |name: &str| {
            let name = CString::new(name).unwrap_or_default();
            // SAFETY: the name is NUL-terminated and the library is open for good.
            let symbol = unsafe { libc::dlsym(library, name.as_ptr()) };
            let missing = || Refusal(format!("the driver is not the mock: no {name:?}"));
            if symbol.is_null() { Err(missing()) } else { Ok(symbol) }
        };
        // SAFETY: the functions have the types of the protocol, and those of the driver.
        unsafe {
            Ok(Driver {
                enqueue: std::mem::transmute::<*mut c_void, Enqueue>(symbol(ENQUEUE)?),
                read: std::mem::transmute::<*mut c_void, Read>(symbol(READ)?),
                write: std::mem::transmute::<*mut c_void, Write>(symbol(WRITE)?),
                get_current: std::mem::transmute::<*mut c_void, GetCurrent>(symbol(
                    "cuCtxGetCurrent",
                )?),
                set_current: std::mem::transmute::<*mut c_void, SetCurrent>(symbol(
                    "cuCtxSetCurrent",
                )?),
                get_device: std::mem::transmute::<*mut c_void, GetDevice>(symbol(
                    "cuCtxGetDevice",
                )?),
            })
        }
    }

    /// The device of the current context.
    ///
    /// # Errors
    /// No context is current.
    pub fn device(&self) -> Result<usize, Refusal> {
        let mut device = 0;
        // SAFETY: the place is good for writing.
        match unsafe { (self.get_device)(&mut device) } {
            0 => Ok(device as usize),
            code => Err(Refusal(format!("no CUDA context is current (error {code})"))),
        }
    }

    /// The current context.
    pub fn context(&self) -> Context {
        let mut context = std::ptr::null_mut();
        // SAFETY: the place is good for writing.
        unsafe { (self.get_current)(&mut context) };
        Context(context as usize)
    }

    /// Makes a context current on this thread.
    pub fn enter(&self, context: Context) {
        // SAFETY: the driver checks the handle.
        unsafe { (self.set_current)(context.0 as *mut c_void) };
    }

    /// Puts an operation on a stream. It is called once; its argument is false if the context has
    /// failed before its turn came.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn enqueue(
        &self,
        stream: usize,
        name: &CStr,
        body: impl FnOnce(bool) + Send + 'static,
    ) -> Result<(), Refusal> {
        type Boxed = Box<dyn FnOnce(bool) + Send>;
        unsafe extern "C" fn call(data: *mut c_void, runs: c_int) {
            // SAFETY: the data is the box below, given back once.
            let body = unsafe { Box::from_raw(data.cast::<Boxed>()) };
            body(runs != 0);
        }
        let data = Box::into_raw(Box::<Boxed>::new(Box::new(body)));
        // SAFETY: as the protocol asks.
        let refused =
            unsafe { (self.enqueue)(stream as *mut c_void, name.as_ptr(), call, data.cast()) };
        if refused == 0 {
            return Ok(());
        }
        // SAFETY: a body that was refused is never called.
        drop(unsafe { Box::from_raw(data) });
        Err(Refusal(format!("{name:?}: the driver refuses with error {refused}")))
    }

    /// Bytes of device memory.
    ///
    /// # Errors
    /// An illegal address; its context has failed then.
    pub fn read(&self, address: u64, bytes: usize) -> Result<Vec<u8>, Refusal> {
        let mut out = vec![0u8; bytes];
        // SAFETY: there is room for them.
        let failed = unsafe { (self.read)(address, out.as_mut_ptr().cast(), bytes) };
        if failed == 0 { Ok(out) } else { Err(illegal(address, bytes)) }
    }

    /// Writes bytes to device memory.
    ///
    /// # Errors
    /// An illegal address; its context has failed then.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Refusal> {
        // SAFETY: they are readable.
        let failed = unsafe { (self.write)(address, bytes.as_ptr().cast(), bytes.len()) };
        if failed == 0 { Ok(()) } else { Err(illegal(address, bytes.len())) }
    }
}

fn illegal(address: u64, bytes: usize) -> Refusal {
    Refusal(format!("{bytes} bytes at {address:#x} are no memory of a device"))
}
