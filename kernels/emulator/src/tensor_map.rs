//! Tensor maps: how a box of a tensor in global memory is found, and how it lies in shared memory.

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Signed, 32 bits.
    S32,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 64 bits.
    S64,
    /// IEEE half precision.
    F16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// bfloat16.
    Bf16,
}

const ELEMENTS: [Element; 10] = [
    Element::U8,
    Element::U16,
    Element::U32,
    Element::S32,
    Element::U64,
    Element::S64,
    Element::F16,
    Element::F32,
    Element::F64,
    Element::Bf16,
];

impl Element {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 | Self::F16 | Self::Bf16 => 2,
            Self::U32 | Self::S32 | Self::F32 => 4,
            Self::U64 | Self::S64 | Self::F64 => 8,
        }
    }

    /// The bits that stand for what lies outside the tensor, if it is to be NaN.
    pub(crate) fn nan(self) -> Option<&'static [u8]> {
        match self {
            Self::F16 | Self::Bf16 => Some(&[0xFF, 0x7F]),
            Self::F32 => Some(&[0xFF, 0xFF, 0xFF, 0x7F]),
            Self::F64 => Some(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]),
            _ => None,
        }
    }
}

/// Permutation of 16-byte chunks within rows of shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Swizzle {
    /// None: rows lie as they are.
    #[default]
    None,
    /// Two chunks of 32 bytes.
    B32,
    /// Four chunks of 64 bytes.
    B64,
    /// Eight chunks of 128 bytes.
    B128,
}

impl Swizzle {
    /// Bytes of a row, or `None` without a swizzle.
    pub fn row_bytes(self) -> Option<usize> {
        match self {
            Self::None => None,
            Self::B32 => Some(32),
            Self::B64 => Some(64),
            Self::B128 => Some(128),
        }
    }

    /// Where the byte lies that would lie at `offset` of shared memory without a swizzle.
    #[inline(always)]
    pub(crate) fn apply(self, offset: u32) -> u32 {
        let chunks = match self {
            Self::None => return offset,
            Self::B32 => 1,
            Self::B64 => 3,
            Self::B128 => 7,
        };
        offset ^ ((offset >> 7 & chunks) << 4)
    }

    fn number(self) -> u8 {
        self as u8
    }
}

/// What a load finds outside the tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fill {
    /// Zeros.
    #[default]
    Zero,
    /// NaN, in floating-point tensors.
    Nan,
}

/// A tensor in global memory and the box that copies move. The first axis is the innermost one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// Type of the elements.
    pub element: Element,
    /// Address of the first element.
    pub address: u64,
    /// Elements along each of one to five axes.
    pub sizes: Vec<u64>,
    /// Bytes between neighbours along each axis but the first.
    pub strides: Vec<u64>,
    /// Elements of the box along each axis.
    pub box_sizes: Vec<u32>,
    /// How rows of the box lie in shared memory.
    pub swizzle: Swizzle,
    /// What a load finds outside the tensor.
    pub fill: Fill,
}

/// A tensor map that the device would not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tensor map: {0}")]
pub struct TensorMapError(String);

/// Marks the bytes of an encoded map.
const MAGIC: u32 = 0x7E50_4DA9;
/// Most axes of a tensor.
pub(crate) const AXES: usize = 5;

impl TensorMap {
    /// Axes of the tensor.
    pub fn rank(&self) -> usize {
        self.sizes.len()
    }

    /// Bytes of a whole box.
    pub fn box_bytes(&self) -> usize {
        self.box_sizes.iter().map(|&b| b as usize).product::<usize>() * self.element.bytes()
    }

    /// The 128 bytes that stand for the map: the emulator's own format, as opaque as the driver's.
    ///
    /// # Errors
    /// If the driver would refuse the map.
    pub fn encode(&self) -> Result<[u8; 128], TensorMapError> {
        self.check().map_err(TensorMapError)?;
        let mut bytes = [0; 128];
        let mut at = 0;
        let mut push = |source: &[u8]| {
            bytes[at..at + source.len()].copy_from_slice(source);
            at += source.len();
        };
        push(&MAGIC.to_le_bytes());
        let element = ELEMENTS.iter().position(|&e| e == self.element).unwrap_or_default() as u8;
        let fill = u8::from(self.fill == Fill::Nan);
        push(&[self.rank() as u8, element, self.swizzle.number(), fill]);
        push(&self.address.to_le_bytes());
        for axis in 0..AXES {
            // Sizes go up to 2^32, which becomes zero.
            push(&(self.sizes.get(axis).copied().unwrap_or(1) as u32).to_le_bytes());
            push(&self.box_sizes.get(axis).copied().unwrap_or(1).to_le_bytes());
        }
        for axis in 0..AXES - 1 {
            push(&self.strides.get(axis).copied().unwrap_or(0).to_le_bytes());
        }
        Ok(bytes)
    }

    /// The map that 128 bytes stand for, or `None` if [`encode`](Self::encode) did not make them.
    pub fn decode(bytes: &[u8; 128]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap_or_default());
        let double =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
        let rank = usize::from(bytes[4]);
        if word(0) != MAGIC || !(1..=AXES).contains(&rank) {
            return None;
        }
        let size = |axis: usize| match word(16 + 8 * axis) {
            0 => 1 << 32,
            size => u64::from(size),
        };
        let swizzles = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];
        Some(Self {
            element: *ELEMENTS.get(usize::from(bytes[5]))?,
            address: double(8),
            sizes: (0..rank).map(size).collect(),
            strides: (0..rank - 1).map(|axis| double(56 + 8 * axis)).collect(),
            box_sizes: (0..rank).map(|axis| word(20 + 8 * axis)).collect(),
            swizzle: *swizzles.get(usize::from(bytes[6]))?,
            fill: if bytes[7] == 1 { Fill::Nan } else { Fill::Zero },
        })
    }

    fn check(&self) -> Result<(), String> {
        let rank = self.rank();
        if !(1..=AXES).contains(&rank) {
            return Err(format!("{rank} axes; one to five are possible"));
        }
        if self.strides.len() != rank - 1 || self.box_sizes.len() != rank {
            return Err("sizes, strides and box do not belong to the same number of axes".into());
        }
        if !self.address.is_multiple_of(16) {
            return Err(format!("the address {:#x} is no multiple of 16", self.address));
        }
        if let Some(size) = self.sizes.iter().find(|&&s| s == 0 || s > 1 << 32) {
            return Err(format!("a size of {size}; 1 to 2^32 are possible"));
        }
        if let Some(stride) = self.strides.iter().find(|&&s| s % 16 != 0 || s >= 1 << 40) {
            return Err(format!(
                "a stride of {stride} bytes; it must be a multiple of 16 below 2^40"
            ));
        }
        if let Some(size) = self.box_sizes.iter().find(|&&b| !(1..=256).contains(&b)) {
            return Err(format!("a box of {size}; 1 to 256 are possible"));
        }
        let row = self.box_sizes[0] as usize * self.element.bytes();
        if !row.is_multiple_of(16) {
            return Err(format!("rows of the box have {row} bytes; a multiple of 16 is needed"));
        }
        match self.swizzle.row_bytes() {
            // How narrower rows are padded is not documented: they are refused.
            Some(bytes) if row != bytes => {
                Err(format!("rows of the box have {row} bytes, those of the swizzle {bytes}"))
            }
            _ if self.fill == Fill::Nan && self.element.nan().is_none() => {
                Err("integers cannot be filled with NaN".into())
            }
            _ => Ok(()),
        }
    }
}
