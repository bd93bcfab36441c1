//! A kernel with its compile-time constants.

use std::fmt::{self, Write};

use super::Source;
use crate::cuda::Float;

/// Most constants of one variant.
const DEFINES: usize = 8;

/// The value of a compile-time constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Define {
    /// A number.
    Number(i64),
    /// A name, as of a type.
    Name(&'static str),
}

impl fmt::Display for Define {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

macro_rules! numbers {
    ($($t:ty),*) => {
        $(impl From<$t> for Define {
            fn from(number: $t) -> Self {
                Self::Number(number as i64)
            }
        })*
    };
}
numbers!(i32, u32, i64, usize, bool);

impl From<Float> for Define {
    fn from(float: Float) -> Self {
        Self::Name(float.cuda_name())
    }
}

/// A kernel of a source, with the constants it is compiled with, and what must be true of the result.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// The text.
    pub source: &'static Source,
    /// The kernel's name in it.
    pub entry: &'static str,
    defines: [Option<(&'static str, Define)>; DEFINES],
    /// What the static gates check.
    pub expects: Expects,
}

/// What the static gates check in what the compiler made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expects {
    /// Most registers per thread, and, with matrix products, not fewer either; 0 if only spills matter.
    pub registers: u32,
    /// Warpgroup matrix products.
    pub wgmma: bool,
    /// Tensor-map copies by the copy engine.
    pub tma: bool,
}

impl Variant {
    /// Kernel `entry` of `source`, without constants.
    pub const fn new(source: &'static Source, entry: &'static str) -> Self {
        let expects = Expects { registers: 0, wgmma: false, tma: false };
        Self { source, entry, defines: [None; DEFINES], expects }
    }

    /// With the constant `name`.
    ///
    /// # Panics
    /// There are more constants than a variant can have, or one of that name.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Define>) -> Self {
        assert!(self.defines().all(|(other, _)| other != name), "{name} is defined twice");
        let free = self.defines.iter_mut().find(|define| define.is_none());
        *free.expect("a variant has at most 8 constants") = Some((name, value.into()));
        self
    }

    /// Expects at most `registers` registers per thread.
    #[must_use]
    pub const fn registers(mut self, registers: u32) -> Self {
        self.expects.registers = registers;
        self
    }

    /// Expects warpgroup matrix products.
    #[must_use]
    pub const fn wgmma(mut self) -> Self {
        self.expects.wgmma = true;
        self
    }

    /// Expects tensor-map copies.
    #[must_use]
    pub const fn tma(mut self) -> Self {
        self.expects.tma = true;
        self
    }

    /// Its constants.
    pub fn defines(&self) -> impl Iterator<Item = (&'static str, Define)> {
        self.defines.iter().copied().flatten()
    }

    /// The compiler's options for its constants.
    pub(super) fn options(&self) -> Vec<String> {
        self.defines().map(|(name, value)| format!("-D{name}={value}")).collect()
    }

    /// Whether both are made by one run of the compiler.
    pub fn shares_image(&self, other: &Self) -> bool {
        std::ptr::eq(self.source, other.source) && self.defines == other.defines
    }
}

impl PartialEq for Variant {
    fn eq(&self, other: &Self) -> bool {
        self.entry == other.entry && self.shares_image(other)
    }
}

impl Eq for Variant {}

impl std::hash::Hash for Variant {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.source as *const Source, self.entry, self.defines).hash(state);
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.entry)?;
        for (i, (name, value)) in self.defines().enumerate() {
            f.write_char(if i == 0 { '<' } else { ',' })?;
            write!(f, "{name}={value}")?;
        }
        if self.defines().next().is_some() { f.write_char('>') } else { Ok(()) }
    }
}
