//! NVIDIA's run-time compiler.

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::Library;

use super::Variant;
use super::locate::{self, Wanted};
use crate::cuda::error::{CudaError, Result};
use crate::cuda::{Version, driver};

/// The oldest compiler that the kernels are tested with.
pub const OLDEST: Version = Version(12, 8);

/// Options for every kernel: machine code for Hopper, and registers and spills in the log.
const OPTIONS: [&str; 4] = [
    "--gpu-architecture=sm_90a",
    "--std=c++17",
    "--device-as-default-execution-space",
    "--ptxas-options=-v",
];

/// The compiler's handle on a program.
type Program = *mut std::ffi::c_void;
/// Zero is success.
type Code = c_int;

type Create = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> Code;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Code;
type Size = unsafe extern "C" fn(Program, *mut usize) -> Code;
type Copy = unsafe extern "C" fn(Program, *mut c_char) -> Code;
type Destroy = unsafe extern "C" fn(*mut Program) -> Code;
type ErrorString = unsafe extern "C" fn(Code) -> *const c_char;
type GetVersion = unsafe extern "C" fn(*mut c_int, *mut c_int) -> Code;

/// NVRTC, loaded.
pub struct Compiler {
    version: Version,
    path: PathBuf,
    create: Create,
    compile: Compile,
    cubin: (Size, Copy),
    ptx: (Size, Copy),
    log: (Size, Copy),
    destroy: Destroy,
    error: ErrorString,
    /// NVRTC and what it looks for by name when it compiles.
    _libraries: Vec<Library>,
}

/// What the compiler made of a variant.
pub struct Compiled {
    /// Machine code.
    pub cubin: Vec<u8>,
    /// The assembly text it was made from, without a zero at its end.
    pub ptx: Vec<u8>,
    /// Registers, spills and warnings.
    pub log: String,
}

impl Compiler {
    /// The first NVRTC of this machine that will do for its driver, if it has one. It is loaded once.
    ///
    /// # Errors
    /// None was found, or none that will do; the text says what was found instead.
    pub fn find() -> Result<&'static Self, String> {
        static FOUND: OnceLock<Result<Compiler, String>> = OnceLock::new();
        let search = || {
            let newest = driver::load().ok().map(|driver| driver.version);
            locate::first(Wanted::Nvrtc, |path| {
                let found = Self::load(path)?;
                match found.refusal(newest) {
                    Some(why) => Err(why),
                    None => Ok(found),
                }
            })
        };
        FOUND.get_or_init(search).as_ref().map_err(String::clone)
    }

    /// Why it will not do.
    fn refusal(&self, newest: Option<Version>) -> Option<String> {
        let version = self.version;
        if version < OLDEST {
            return Some(format!("version {version} is older than {OLDEST}"));
        }
        let newest = newest.filter(|newest| version.0 > newest.0)?;
        Some(format!(
            "version {version} makes code that a driver for CUDA {newest} does not load; install a newer driver, or NVRTC {}",
            newest.0
        ))
    }

    /// Loads the library at `path`.
    fn load(path: &Path) -> Result<Self, String> {
        let mut libraries = Vec::new();
        // NVRTC opens this library by its bare name; one that is loaded already is found by it.
        for builtins in locate::beside(path, "libnvrtc-builtins.so") {
            // SAFETY: NVIDIA's library; its initialisation has no requirements.
            if let Ok(library) = unsafe { Library::new(builtins) } {
                libraries.push(library);
            }
        }
        // SAFETY: as above.
        let library = unsafe { Library::new(path) }.map_err(|error| error.to_string())?;
        libraries.push(library);
        let library = &libraries[libraries.len() - 1];
        // SAFETY: the types are those of NVRTC's header, unchanged since CUDA 11.1; the library is kept.
        let found = unsafe {
            let version: GetVersion = function(library, "nvrtcVersion")?;
            let (mut major, mut minor) = (0, 0);
            version(&mut major, &mut minor);
            Self {
                version: Version(major as u32, minor as u32),
                path: locate::loaded_from(version as *const ()).unwrap_or_else(|| path.to_owned()),
                create: function(library, "nvrtcCreateProgram")?,
                compile: function(library, "nvrtcCompileProgram")?,
                cubin: (
                    function(library, "nvrtcGetCUBINSize")?,
                    function(library, "nvrtcGetCUBIN")?,
                ),
                ptx: (function(library, "nvrtcGetPTXSize")?, function(library, "nvrtcGetPTX")?),
                log: (
                    function(library, "nvrtcGetProgramLogSize")?,
                    function(library, "nvrtcGetProgramLog")?,
                ),
                destroy: function(library, "nvrtcDestroyProgram")?,
                error: function(library, "nvrtcGetErrorString")?,
                _libraries: libraries,
            }
        };
        Ok(found)
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Compiles a variant.
    ///
    /// # Errors
    /// The text is wrong, or includes what is not embedded.
    pub fn compile(&self, variant: &Variant) -> Result<Compiled> {
        let (name, text) = (variant.source.name, variant.source.text());
        let headers = variant.source.headers()?;
        let (text, name) = (c_string(text), c_string(name));
        let header_texts: Vec<CString> =
            headers.iter().map(|header| c_string(header.text())).collect();
        let header_names: Vec<CString> =
            headers.iter().map(|header| c_string(header.name)).collect();
        let (texts, names) = (pointers(&header_texts), pointers(&header_names));
        let options: Vec<CString> =
            options(variant).iter().map(|option| c_string(option)).collect();
        let options = pointers(&options);
        let mut program = std::ptr::null_mut();
        let headers = headers.len() as c_int;
        // SAFETY: strings end with zeros, and outlive the call, as the lists of `headers` strings do.
        let created = unsafe {
            let (texts, names) = (texts.as_ptr(), names.as_ptr());
            (self.create)(&mut program, text.as_ptr(), name.as_ptr(), headers, texts, names)
        };
        let fail = |code: Code, log: String| {
            // SAFETY: gives a constant string for any code.
            let what = unsafe { CStr::from_ptr((self.error)(code)) }.to_string_lossy();
            let (kernel, what) = (variant.to_string(), what.into_owned());
            CudaError::Compile { kernel, what, log }
        };
        if created != 0 {
            return Err(fail(created, String::new()));
        }
        let program = Guard { compiler: self, program };
        // SAFETY: the program was just created; the options outlive the call.
        let code =
            unsafe { (self.compile)(program.program, options.len() as c_int, options.as_ptr()) };
        let log = without_times(&program.read(self.log).unwrap_or_default());
        if code != 0 {
            return Err(fail(code, log));
        }
        let cubin = program.read(self.cubin).map_err(|code| fail(code, log.clone()))?;
        let mut ptx = program.read(self.ptx).map_err(|code| fail(code, log.clone()))?;
        ptx.truncate(ptx.iter().position(|&byte| byte == 0).unwrap_or(ptx.len()));
        Ok(Compiled { cubin, ptx, log })
    }
}

/// A log without what differs from run to run.
fn without_times(log: &[u8]) -> String {
    let log = String::from_utf8_lossy(log);
    let lines = log.trim_end_matches('\0').lines();
    lines.filter(|line| !line.contains("Compile time")).map(|line| format!("{line}\n")).collect()
}

/// All options for a variant.
pub(super) fn options(variant: &Variant) -> Vec<String> {
    let fixed = OPTIONS.iter().map(|&option| option.to_owned());
    fixed.chain(variant.options()).collect()
}

/// A program that is destroyed when this goes.
struct Guard<'a> {
    compiler: &'a Compiler,
    program: Program,
}

impl Guard<'_> {
    /// Reads one of the program's results.
    fn read(&self, (size, copy): (Size, Copy)) -> Result<Vec<u8>, Code> {
        let mut bytes = 0;
        // SAFETY: the program is alive; writes one integer.
        let code = unsafe { size(self.program, &mut bytes) };
        if code != 0 {
            return Err(code);
        }
        let mut result = vec![0u8; bytes];
        // SAFETY: writes as many bytes as it just said.
        match unsafe { copy(self.program, result.as_mut_ptr().cast()) } {
            0 => Ok(result),
            code => Err(code),
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once.
        unsafe { (self.compiler.destroy)(&mut self.program) };
    }
}

/// A function of the library.
///
/// # Safety
/// `F` is its type.
unsafe fn function<F: std::marker::Copy>(
    library: &Library,
    name: &'static str,
) -> Result<F, String> {
    // SAFETY: as the caller promises.
    let found = unsafe { library.get::<F>(name.as_bytes()) };
    found.map(|found| *found).map_err(|_| format!("it has no function {name}"))
}

/// A text for C; none of ours has a zero byte in it.
fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).collect()
}
