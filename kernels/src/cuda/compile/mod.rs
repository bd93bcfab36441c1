//! From a kernel's text to an image that the driver loads.
//!
//! A [`Variant`] is a [`Source`] with compile-time constants. [`image`] takes what the [`Cache`] on disk has,
//! or has NVRTC compile it; where there is no NVRTC it looks into a folder of stored images.

mod cache;
pub mod gates;
pub mod locate;
mod nvrtc;
mod source;
mod variant;

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Once, OnceLock};

pub use cache::{Cache, Key};
pub use nvrtc::{Compiled, Compiler};
pub(super) use source::source;
pub use source::{HEADERS, Source};
pub use variant::{Define, Expects, Variant};

use super::Version;
use super::error::{CudaError, Result};

/// What an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImageKind {
    /// Machine code.
    Cubin,
    /// Assembly text, which a driver compiles when it loads it.
    Ptx,
}

/// What was chosen with [`ImageKind::choose`]: 0 is nothing.
static CHOSEN: AtomicU8 = AtomicU8::new(0);

impl ImageKind {
    /// The kind that this process loads: the one [chosen](ImageKind::choose), or the one named in
    /// `SLIMPIPE_KERNEL_IMAGE` (`cubin` or `ptx`), or machine code.
    pub fn current() -> Self {
        match CHOSEN.load(Ordering::Relaxed) {
            1 => Self::Cubin,
            2 => Self::Ptx,
            _ => match std::env::var("SLIMPIPE_KERNEL_IMAGE").as_deref() {
                Ok("ptx") => Self::Ptx,
                _ => Self::Cubin,
            },
        }
    }

    /// Has this process load images of this kind, whatever the environment says.
    pub fn choose(self) {
        CHOSEN.store(if self == Self::Cubin { 1 } else { 2 }, Ordering::Relaxed);
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Cubin => "cubin",
            Self::Ptx => "ptx",
        }
    }
}

/// A compiled source.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// What it is.
    pub kind: ImageKind,
    /// Its bytes; PTX ends with a zero.
    pub bytes: Vec<u8>,
    /// What the compiler said: registers, spills, warnings.
    pub log: String,
    /// The compiler's version.
    pub compiler: Version,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, bytes, compiler, .. } = self;
        write!(f, "Image({kind:?}, {} bytes, by NVRTC {compiler})", bytes.len())
    }
}

impl Image {
    fn new(kind: ImageKind, compiled: Compiled, compiler: Version) -> Self {
        let Compiled { cubin, mut ptx, log } = compiled;
        let bytes = match kind {
            ImageKind::Cubin => cubin,
            ImageKind::Ptx => {
                ptx.push(0);
                ptx
            }
        };
        Self { kind, bytes, log, compiler }
    }
}

/// The image of a variant, as this process loads it: the stored one if there is one of this source, and
/// otherwise compiled.
///
/// # Errors
/// It does not compile, or there is no compiler and no stored image.
pub fn image(variant: &Variant) -> Result<Image> {
    let kind = ImageKind::current();
    if let Some(image) = stored(variant, kind)? {
        return Ok(image);
    }
    match Compiler::find() {
        Ok(compiler) => compile(variant, kind, compiler, Cache::of_user().as_ref()),
        Err(looked) => Err(CudaError::NoCompiler { looked }),
    }
}

/// The image of a variant from `cache`, or compiled and put there.
///
/// # Errors
/// It does not compile.
pub fn compile(
    variant: &Variant,
    kind: ImageKind,
    compiler: &Compiler,
    cache: Option<&Cache>,
) -> Result<Image> {
    let key = Key::new(variant, kind, Some(compiler.version()))?;
    if let Some(image) = cache.and_then(|cache| cache.get(&key)) {
        return Ok(image);
    }
    let image = Image::new(kind, compiler.compile(variant)?, compiler.version());
    if let Some(cache) = cache
        && let Err(error) = cache.put(&key, &image)
    {
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            eprintln!(
                "warning: compiled kernels cannot be kept in {}: {error}; each run compiles them again (SLIMPIPE_KERNEL_CACHE names another folder)",
                cache.folder().display()
            );
        });
    }
    Ok(image)
}

/// The images of all `variants`, as [`compile`] gives them, by all cores. Kernels of one source with the same
/// constants are compiled once.
///
/// # Errors
/// One does not compile.
pub fn compile_all(
    variants: &[Variant],
    kind: ImageKind,
    compiler: &Compiler,
    cache: Option<&Cache>,
) -> Result<Vec<Image>> {
    let first = |variant: &Variant| variants.iter().position(|other| other.shares_image(variant));
    let image_of: Vec<usize> = variants.iter().filter_map(first).collect();
    let made: Vec<OnceLock<Result<Image>>> = variants.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(variant) = variants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Some(place) = first(variant) else { continue };
                    made[place].get_or_init(|| compile(variant, kind, compiler, cache));
                }
            });
        }
    });
    let mut images: Vec<Option<Image>> = Vec::new();
    for made in made {
        images.push(made.into_inner().transpose()?);
    }
    Ok(image_of.iter().filter_map(|&place| images[place].clone()).collect())
}

/// Whether there is a compiler, or at least a folder of stored images.
///
/// # Errors
/// There is neither; the text says what was looked for.
pub fn available() -> Result<(), String> {
    match pack() {
        Some(folder) if folder.folder().is_dir() => Ok(()),
        _ => Compiler::find()
            .map(|_| ())
            .map_err(|looked| format!("no NVRTC ({looked}); scripts/nvrtc.sh fetches it")),
    }
}

/// The image of a variant from the folder of stored images.
fn stored(variant: &Variant, kind: ImageKind) -> Result<Option<Image>> {
    let Some(pack) = pack() else { return Ok(None) };
    Ok(pack.get(&Key::new(variant, kind, None)?))
}

/// The folder named in `SLIMPIPE_KERNEL_PACK`.
pub fn pack() -> Option<Cache> {
    let folder = std::env::var_os("SLIMPIPE_KERNEL_PACK").filter(|folder| !folder.is_empty())?;
    Some(Cache::new(folder))
}
