//! How a lane's bits become a number.

use half::{bf16, f16};

use super::{LANES, Registers, Slot};

/// The two widths of register arrays.
pub(crate) trait Word: Copy + Default + Send + Sync + 'static {
    fn get(registers: &Registers, slot: Slot) -> &[Self; LANES];
    fn put(registers: &mut Registers, slot: Slot, mask: u32, values: &[Self; LANES]);
}

impl Word for u32 {
    #[inline(always)]
    fn get(registers: &Registers, slot: Slot) -> &[Self; LANES] {
        registers.words(slot)
    }

    #[inline(always)]
    fn put(registers: &mut Registers, slot: Slot, mask: u32, values: &[Self; LANES]) {
        registers.put_words(slot, mask, values);
    }
}

impl Word for u64 {
    #[inline(always)]
    fn get(registers: &Registers, slot: Slot) -> &[Self; LANES] {
        registers.doubles(slot)
    }

    #[inline(always)]
    fn put(registers: &mut Registers, slot: Slot, mask: u32, values: &[Self; LANES]) {
        registers.put_doubles(slot, mask, values);
    }
}

/// A number a lane holds.
pub(crate) trait Lane: Copy + Send + Sync + 'static {
    type Word: Word;
    fn read(word: Self::Word) -> Self;
    fn write(self) -> Self::Word;
}

macro_rules! integer_lane {
    ($word:ty: $($ty:ty),*) => {$(
        impl Lane for $ty {
            type Word = $word;

            #[inline(always)]
            fn read(word: $word) -> Self {
                word as $ty
            }

            #[inline(always)]
            fn write(self) -> $word {
                self as $word
            }
        }
    )*};
}

integer_lane!(u32: u8, i8, u16, u32, i32);
integer_lane!(u64: u64, i64);

// Sixteen-bit registers hold no more than their 16 bits.
impl Lane for i16 {
    type Word = u32;

    #[inline(always)]
    fn read(word: u32) -> Self {
        word as i16
    }

    #[inline(always)]
    fn write(self) -> u32 {
        u32::from(self as u16)
    }
}

macro_rules! float_lane {
    ($($ty:ty, $word:ty, $bits:ty);*) => {$(
        impl Lane for $ty {
            type Word = $word;

            #[inline(always)]
            fn read(word: $word) -> Self {
                <$ty>::from_bits(word as $bits)
            }

            #[inline(always)]
            fn write(self) -> $word {
                self.to_bits() as $word
            }
        }
    )*};
}

float_lane!(f32, u32, u32; f64, u64, u64; f16, u32, u16; bf16, u32, u16);

/// Two halves in one register, the lower first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pair<T>(pub T, pub T);

impl<T: Lane<Word = u32>> Lane for Pair<T> {
    type Word = u32;

    #[inline(always)]
    fn read(word: u32) -> Self {
        Self(T::read(word & 0xFFFF), T::read(word >> 16))
    }

    #[inline(always)]
    fn write(self) -> u32 {
        self.0.write() & 0xFFFF | self.1.write() << 16
    }
}
