//! Where NVIDIA's libraries may lie: toolkits, pip wheels, conda, the loader's path.

use std::ffi::{OsStr, c_int};
use std::path::{Path, PathBuf};

use libloading::Library;

/// A library that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The run-time compiler.
    Nvrtc,
    /// Collectives.
    Nccl,
    /// Matrix products.
    CublasLt,
}

impl Wanted {
    /// Its names, newest first.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Nvrtc => &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"],
            Self::Nccl => &["libnccl.so.2", "libnccl.so"],
            Self::CublasLt => &["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"],
        }
    }

    /// The environment variable that names it, or its folder.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Nvrtc => "SLIMPIPE_NVRTC",
            Self::Nccl => "SLIMPIPE_NCCL",
            Self::CublasLt => "SLIMPIPE_CUBLASLT",
        }
    }
}

/// What may be loaded, most wanted first: only what the variable names if it is set; otherwise bare names,
/// for the loader to find, then files that exist.
///
/// # Errors
/// The variable is set, and there is no such library.
pub fn candidates(wanted: Wanted) -> Result<Vec<PathBuf>, String> {
    if let Some(named) = std::env::var_os(wanted.variable()).filter(|named| !named.is_empty()) {
        let path = PathBuf::from(named);
        let found = if path.is_dir() { in_folder(&path, wanted) } else { vec![path.clone()] };
        return match found.iter().any(|path| path.is_file()) {
            true => Ok(found),
            false => {
                Err(format!("{} names {}, where it is not", wanted.variable(), path.display()))
            }
        };
    }
    let bare = wanted.names().iter().map(PathBuf::from);
    let files = folders().into_iter().flat_map(|folder| in_folder(&folder, wanted));
    Ok(bare.chain(files).collect())
}

/// The first candidate that `load` makes something of.
///
/// # Errors
/// There is none; the text says what was there, and why it will not do.
pub fn first<T>(wanted: Wanted, load: impl Fn(&Path) -> Result<T, String>) -> Result<T, String> {
    let mut refused = Vec::new();
    for path in candidates(wanted)? {
        match load(&path) {
            Ok(found) => return Ok(found),
            // A bare name that the loader does not know is no news.
            Err(_) if is_bare(&path) && !is_known(&path) => {}
            Err(why) => refused.push(format!("{}: {why}", path.display())),
        }
    }
    if refused.is_empty() {
        let name = wanted.names()[0];
        return Err(format!(
            "no {name} on the loader's path, in a toolkit, or in a Python environment"
        ));
    }
    Err(refused.join("; "))
}

/// A library that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// Its version: major, minor, patch.
    pub version: [u32; 3],
}

/// The first NCCL or cuBLASLt, asked for its version.
///
/// # Errors
/// As [`first`].
pub fn find(wanted: Wanted) -> Result<Found, String> {
    type GetNccl = unsafe extern "C" fn(*mut c_int) -> c_int;
    type GetCublasLt = unsafe extern "C" fn() -> usize;
    first(wanted, |path| {
        // SAFETY: NVIDIA's library; its initialisation has no requirements.
        let library = unsafe { Library::new(path) }.map_err(|error| error.to_string())?;
        let missing = |name| format!("it has no function {name}");
        // SAFETY: the functions' types; the library is loaded while they are used.
        let (number, address) = unsafe {
            match wanted {
                Wanted::Nccl => {
                    let name = "ncclGetVersion";
                    let get = library.get::<GetNccl>(name).map_err(|_| missing(name))?;
                    let mut number = 0;
                    get(&mut number);
                    (number as u32, *get as *const ())
                }
                Wanted::CublasLt => {
                    let name = "cublasLtGetVersion";
                    let get = library.get::<GetCublasLt>(name).map_err(|_| missing(name))?;
                    (get() as u32, *get as *const ())
                }
                Wanted::Nvrtc => return Err("ask Compiler::find for it".to_owned()),
            }
        };
        let path = loaded_from(address).unwrap_or_else(|| path.to_owned());
        Ok(Found { path, version: [number / 10_000, number / 100 % 100, number % 100] })
    })
}

/// Whether the loader is asked to find it.
fn is_bare(path: &Path) -> bool {
    path.parent().is_none_or(|folder| folder.as_os_str().is_empty())
}

/// Whether the loader finds it.
fn is_known(path: &Path) -> bool {
    // SAFETY: as in `find`.
    unsafe { Library::new(path) }.is_ok()
}

fn in_folder(folder: &Path, wanted: Wanted) -> Vec<PathBuf> {
    wanted.names().iter().map(|name| folder.join(name)).filter(|path| path.is_file()).collect()
}

/// Folders that have libraries where one of the usual installations is present.
fn folders() -> Vec<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let mut found = Vec::new();
    let toolkits = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"].into_iter().filter_map(variable);
    toolkits.for_each(|root| found.extend(toolkit(&root)));
    // Environments of Python: conda's and pip's, active ones first, then those of commands on the path.
    let mut prefixes: Vec<PathBuf> =
        ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(variable).collect();
    if let Some(path) = variable("PATH") {
        let commands = std::env::split_paths(&path).filter(|bin| bin.join("python3").exists());
        prefixes.extend(commands.filter_map(|bin| Some(bin.parent()?.to_owned())));
    }
    prefixes.extend(variable("HOME").map(|home| home.join(".local")));
    prefixes.push(PathBuf::from("/usr/local"));
    for prefix in prefixes {
        found.push(prefix.join("lib"));
        found.extend(toolkit(&prefix).into_iter().skip(2));
        found.extend(wheels(&prefix));
    }
    let local = children(Path::new("/usr/local"), |name| name.starts_with("cuda"));
    local.iter().rev().for_each(|root| found.extend(toolkit(root)));
    found.extend(toolkit(Path::new("/opt/cuda")));
    found.extend(fetched());
    found.retain(|folder| folder.is_dir());
    let mut seen = std::collections::HashSet::new();
    found.retain(|folder| seen.insert(folder.canonicalize().unwrap_or_else(|_| folder.clone())));
    found
}

/// The folders of a toolkit's libraries.
fn toolkit(root: &Path) -> Vec<PathBuf> {
    let target = format!("targets/{}-linux/lib", std::env::consts::ARCH);
    vec![root.join("lib64"), root.join("lib"), root.join(target)]
}

/// The folders of NVIDIA's wheels below a Python environment.
fn wheels(prefix: &Path) -> Vec<PathBuf> {
    let versions = children(&prefix.join("lib"), |name| name.starts_with("python3"));
    let packages = versions.iter().flat_map(|version| {
        ["site-packages", "dist-packages"].map(|packages| version.join(packages).join("nvidia"))
    });
    packages.flat_map(|nvidia| children(&nvidia, |_| true)).map(|wheel| wheel.join("lib")).collect()
}

/// What `scripts/nvrtc.sh` fetched, for a program that runs from where cargo built it.
fn fetched() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let target =
        program.ancestors().find(|folder| folder.file_name() == Some(OsStr::new("target")))?;
    Some(target.join("nvrtc/nvidia/cu13/lib"))
}

/// The folders in `folder` whose names will do, sorted.
fn children(folder: &Path, will_do: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let entries = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let named = |path: &PathBuf| path.file_name().and_then(OsStr::to_str).is_some_and(&will_do);
    let mut found: Vec<PathBuf> = entries.filter(|path| named(path) && path.is_dir()).collect();
    found.sort();
    found
}

/// Files beside `library` whose names begin with `name`; none where the loader finds it.
pub(super) fn beside(library: &Path, name: &str) -> Vec<PathBuf> {
    if is_bare(library) {
        return Vec::new();
    }
    let entries = library.parent().map(std::fs::read_dir);
    let Some(Ok(entries)) = entries else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let named = |path: &PathBuf| {
        path.file_name().and_then(OsStr::to_str).is_some_and(|file| file.starts_with(name))
    };
    let mut found: Vec<PathBuf> = paths.filter(named).collect();
    found.sort();
    found
}

/// The file from which the code at `address` was loaded.
#[cfg(unix)]
pub fn loaded_from(address: *const ()) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: writes the struct if it knows the address, and then says so.
    let known = unsafe { libc::dladdr(address.cast(), info.as_mut_ptr()) } != 0;
    if !known {
        return None;
    }
    // SAFETY: written, as it said; the name is a string that lives as long as the library.
    let name = unsafe {
        let name = info.assume_init().dli_fname;
        (!name.is_null()).then(|| std::ffi::CStr::from_ptr(name))
    }?;
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}

/// The file from which the code at `address` was loaded, which this system does not tell.
#[cfg(not(unix))]
pub fn loaded_from(_address: *const ()) -> Option<PathBuf> {
    None
}
