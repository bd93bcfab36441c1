//! Element types.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit IEEE float.
    F32,
    /// bfloat16: the upper half of an f32.
    BF16,
    /// 16-bit IEEE float; storage and casts only.
    F16,
    /// 32-bit signed integer.
    I32,
    /// 32-bit unsigned integer; token ids.
    U32,
    /// 64-bit signed integer; labels.
    I64,
    /// Byte.
    U8,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::I64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::BF16 | Self::F16 => 2,
            Self::U8 => 1,
        }
    }

    /// Whether gradients can flow through this type.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::BF16 | Self::F16)
    }

    /// The name used in configurations and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::BF16 => "bf16",
            Self::F16 => "f16",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::I64 => "i64",
            Self::U8 => "u8",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::F32, Self::BF16, Self::F16, Self::I32, Self::U32, Self::I64, Self::U8]
            .into_iter()
            .find(|dtype| dtype.name() == name)
            .ok_or_else(|| Error::UnknownDType { name: name.to_owned() })
    }
}

/// A Rust type that is the element of some [`DType`].
pub trait Element: bytemuck::Pod + Send + Sync + fmt::Debug + fmt::Display + fmt::LowerExp {
    /// The tensor type of `Self`.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($rust:ty => $dtype:ident),* $(,)?) => {
        $(impl Element for $rust { const DTYPE: DType = DType::$dtype; })*
    };
}
elements!(f32 => F32, half::bf16 => BF16, half::f16 => F16, i32 => I32, u32 => U32, i64 => I64, u8 => U8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back_and_others_are_refused_with_the_choices() {
        for dtype in
            [DType::F32, DType::BF16, DType::F16, DType::I32, DType::U32, DType::I64, DType::U8]
        {
            assert_eq!(dtype.name().parse::<DType>().unwrap(), dtype);
        }
        let error = "f64".parse::<DType>().unwrap_err().to_string();
        assert_eq!(error, "unknown dtype `f64`: use f32, bf16, f16, i32, u32, i64 or u8");
    }
}
