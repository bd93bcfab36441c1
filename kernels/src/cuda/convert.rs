//! Conversion between element types.

use super::compile::{Define, Source, Variant, source};
use super::error::Result;
use super::grid::packs;
use super::{DevicePtr, Stream};

static SOURCE: Source = source!("sm90_any_cast.cu");

/// An element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is what its name says")]
pub enum Number {
    F32,
    Bf16,
    F16,
    I32,
    U32,
    I64,
    U8,
}

impl Number {
    /// All.
    pub const ALL: [Self; 7] =
        [Self::F32, Self::Bf16, Self::F16, Self::I32, Self::U32, Self::I64, Self::U8];

    /// Bytes of an element.
    pub const fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::Bf16 | Self::F16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::I64 => 8,
        }
    }

    const fn cuda_name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::I64 => "i64",
            Self::U8 => "u8",
        }
    }
}

fn variant(from: Number, to: Number) -> Variant {
    Variant::new(&SOURCE, "cast")
        .with("SOURCE", Define::Name(from.cuda_name()))
        .with("TARGET", Define::Name(to.cuda_name()))
}

/// Converts `len` elements to another type: floats round to nearest even, integers truncate and saturate,
/// NaN becomes the integer 0.
///
/// # Errors
/// The kernel cannot be compiled or launched.
///
/// # Safety
/// Both addresses are those of `len` elements, in memory that the stream may use.
pub unsafe fn cast(
    stream: &Stream,
    (from_type, from): (Number, DevicePtr),
    len: usize,
    (to_type, to): (Number, DevicePtr),
) -> Result<()> {
    let kernel = stream.context().kernel(&variant(from_type, to_type))?;
    let grid = packs(len, from_type.size().max(to_type.size()));
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, grid, &[&from, &(len as u64), &to]) }
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    Number::ALL
        .into_iter()
        .flat_map(|from| {
            Number::ALL.into_iter().filter(move |&to| to != from).map(move |to| variant(from, to))
        })
        .collect()
}
