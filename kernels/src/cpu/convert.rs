//! Conversion between element types.

use half::{bf16, f16};

use super::simd::{Scalar, multiversion};
use super::threads::Threads;

/// A type that converts to and from every other through f64 (exact for all but large i64), or
/// through f32 among floats.
pub trait Convert: Copy + Send + Sync + 'static {
    /// The value.
    fn to_f64(self) -> f64;
    /// The nearest value; floats round ties to even, integers truncate and saturate.
    fn from_f64(value: f64) -> Self;
}

macro_rules! primitive {
    ($($type:ty),*) => {
        $(impl Convert for $type {
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }

            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as Self
            }
        })*
    };
}
primitive!(f32, i32, u32, i64, u8);

impl Convert for bf16 {
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(Scalar::to_f32(self))
    }

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        <Self as Scalar>::from_f32(value as f32)
    }
}

impl Convert for f16 {
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f16::to_f64(self)
    }

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        f16::from_f64(value)
    }
}

multiversion! {
    fn narrow(from: &[f32], to: &mut [bf16]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = <bf16 as Scalar>::from_f32(from);
        }
    }
}

multiversion! {
    fn widen(from: &[bf16], to: &mut [f32]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = Scalar::to_f32(from);
        }
    }
}

/// Elements per task.
const TASK: usize = 1 << 14;

/// Rounds f32 to bf16.
///
/// # Panics
/// Sizes that differ.
pub fn f32_to_bf16(threads: &Threads, from: &[f32], to: &mut [bf16]) {
    assert_eq!(from.len(), to.len(), "source and destination differ in size");
    threads.chunks(to, TASK, |i, to| narrow(&from[i * TASK..][..to.len()], to));
}

/// Widens bf16 to f32.
///
/// # Panics
/// Sizes that differ.
pub fn bf16_to_f32(threads: &Threads, from: &[bf16], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "source and destination differ in size");
    threads.chunks(to, TASK, |i, to| widen(&from[i * TASK..][..to.len()], to));
}

/// Converts any type to any other. Values that pass through f64 round once, except f64 to bf16 by
/// way of f32, which is exact for sources of at most 24 significant bits.
///
/// # Panics
/// Sizes that differ.
pub fn cast<S: Convert, D: Convert>(threads: &Threads, from: &[S], to: &mut [D]) {
    assert_eq!(from.len(), to.len(), "source and destination differ in size");
    threads.chunks(to, TASK, |i, to| {
        for (to, from) in to.iter_mut().zip(&from[i * TASK..]) {
            *to = D::from_f64(from.to_f64());
        }
    });
}
