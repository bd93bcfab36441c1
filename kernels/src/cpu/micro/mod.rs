//! The register kernels under matrix multiplication and attention.
//!
//! Both element types are seen as 32-bit *words* along the contracted dimension: one f32, or a pair
//! of neighbouring bf16. A tile of C is [`Path::rows`] x [`NR`]. A lies anywhere (two strides, see
//! [`Strides`]), B as [words][at least NR columns].
//!
//! Three paths compute the same sums: [`amx`] (Intel's tile unit, bf16), [`avx512`] (f32, and bf16
//! through `vdpbf16ps`) and [`portable`], which runs anywhere and so can be tested anywhere.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use half::bf16;

use super::simd::{Level, Scalar, has_avx512_bf16, level};

/// Columns of a tile: two AVX-512 registers, or two AMX tiles.
pub(crate) const NR: usize = 32;

/// Most rows of a tile on any path.
pub(crate) const MAX_ROWS: usize = 32;

/// A's place in memory: words between rows, and between steps along the contracted dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strides {
    pub row: usize,
    pub step: usize,
}

/// Which implementation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Advanced matrix extensions: 16 x 16 tiles of bf16 products.
    Amx,
    /// AVX-512 (and AVX512-BF16 for bf16).
    Avx512,
    /// Plain Rust, vectorised by the compiler.
    Portable,
}

impl Path {
    /// The steps of a tile must be a multiple of this.
    pub(crate) fn step_unit(self) -> usize {
        if self == Self::Amx { 16 } else { 1 }
    }

    /// Whether A's words must be dense along the contracted dimension (`Strides::step` 1).
    pub(crate) fn wants_dense_steps(self) -> bool {
        self == Self::Amx
    }

    /// Prepares the calling thread for [`tile`]; needed as long as the guard lives.
    pub(crate) fn enter(self) -> Entered {
        #[cfg(target_arch = "x86_64")]
        if self == Self::Amx {
            return Entered { _tiles: Some(amx::Tiles::configure()) };
        }
        Entered {
            #[cfg(target_arch = "x86_64")]
            _tiles: None,
        }
    }
}

/// A thread prepared for tiles of one path.
#[must_use = "tiles may be computed only while the guard lives"]
pub(crate) struct Entered {
    #[cfg(target_arch = "x86_64")]
    _tiles: Option<amx::Tiles>,
}

/// An element type that register kernels multiply.
pub trait Multiply: Scalar {
    /// Elements in a word.
    const PER_WORD: usize;
    /// The paths of this machine, best first; the last is always [`Path::Portable`].
    fn paths() -> &'static [Path];
    /// Multiplies the two words' elements and adds the products to `sum`.
    fn fma(sum: f32, a: u32, b: u32) -> f32;
    /// The word of elements `first` and (where there are two) `second`.
    fn word(first: Self, second: Self) -> u32;

    /// The best path of this machine.
    fn best_path() -> Path {
        Self::paths()[0]
    }
}

impl Multiply for f32 {
    const PER_WORD: usize = 1;

    fn paths() -> &'static [Path] {
        if level() == Level::Avx512 { &[Path::Avx512, Path::Portable] } else { &[Path::Portable] }
    }

    #[inline(always)]
    fn fma(sum: f32, a: u32, b: u32) -> f32 {
        sum + f32::from_bits(a) * f32::from_bits(b)
    }

    #[inline(always)]
    fn word(first: Self, _: Self) -> u32 {
        first.to_bits()
    }
}

impl Multiply for bf16 {
    const PER_WORD: usize = 2;

    fn paths() -> &'static [Path] {
        const ALL: [Path; 3] = [Path::Amx, Path::Avx512, Path::Portable];
        #[cfg(target_arch = "x86_64")]
        if amx::available() {
            return &ALL;
        }
        if has_avx512_bf16() { &ALL[1..] } else { &ALL[2..] }
    }

    #[inline(always)]
    fn fma(sum: f32, a: u32, b: u32) -> f32 {
        let (low, high) =
            (|w: u32| f32::from_bits(w << 16), |w: u32| f32::from_bits(w & 0xffff_0000));
        sum + (low(a) * low(b) + high(a) * high(b))
    }

    #[inline(always)]
    fn word(first: Self, second: Self) -> u32 {
        u32::from(first.to_bits()) | u32::from(second.to_bits()) << 16
    }
}

/// The operands of a tile.
#[derive(Clone, Copy)]
pub(crate) struct Operands {
    pub steps: usize,
    pub a: *const u32,
    pub strides: Strides,
    pub b: *const u32,
    pub ldb: usize,
}

/// C tile (`ROWS` x [`NR`], rows `ldc` apart) = or += A B.
///
/// # Safety
/// `path` is one of `T::paths()` and entered on this thread; for AMX `ROWS` is 16 or 32, the steps
/// are whole units and dense. A can be read at every row and step, B at [`NR`] words every `ldb`,
/// C read and written at the whole tile.
#[inline(always)]
pub(crate) unsafe fn tile<T: Multiply, const ROWS: usize>(
    path: Path,
    operands: Operands,
    c: *mut f32,
    ldc: usize,
    accumulate: bool,
) {
    // SAFETY: in every arm the caller's promise, passed on.
    unsafe {
        match path {
            #[cfg(target_arch = "x86_64")]
            Path::Amx if T::PER_WORD == 2 => amx::tile(operands, ROWS, c, ldc, accumulate),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 if T::PER_WORD == 1 => {
                avx512::tile_f32::<ROWS>(operands, c, ldc, accumulate)
            }
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => avx512::tile_bf16::<ROWS>(operands, c, ldc, accumulate),
            _ => portable::tile::<T, ROWS>(operands, c, ldc, accumulate),
        }
    }
}
