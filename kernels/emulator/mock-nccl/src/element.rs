//! Types of elements, and how they are combined.

use cudarc::nccl::sys::{ncclDataType_t, ncclRedOp_t};
use half::{bf16, f16};

use crate::failure::Failure;

/// Bytes of an element.
///
/// # Errors
/// What is no type.
pub fn bytes(of: ncclDataType_t) -> Result<usize, Failure> {
    use ncclDataType_t::*;
    match of {
        ncclInt8 | ncclUint8 | ncclFloat8e4m3 | ncclFloat8e5m2 => Ok(1),
        ncclFloat16 | ncclBfloat16 => Ok(2),
        ncclInt32 | ncclUint32 | ncclFloat32 => Ok(4),
        ncclInt64 | ncclUint64 | ncclFloat64 => Ok(8),
        ncclNumTypes => Err(Failure::argument("ncclNumTypes is no type")),
    }
}

/// How elements are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Their sum.
    Sum,
    /// Their product.
    Product,
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// Their sum divided by how many they are.
    Average,
}

impl Reduction {
    /// The reduction of NCCL's name.
    ///
    /// # Errors
    /// One that the mock does not have, or types that cannot be combined.
    pub fn new(operation: ncclRedOp_t, of: ncclDataType_t) -> Result<Reduction, Failure> {
        use ncclDataType_t::{ncclFloat8e4m3, ncclFloat8e5m2};
        if matches!(of, ncclFloat8e4m3 | ncclFloat8e5m2) {
            return Err(Failure::argument(format!("reductions of {of:?} are not imitated")));
        }
        match operation {
            ncclRedOp_t::ncclSum => Ok(Reduction::Sum),
            ncclRedOp_t::ncclProd => Ok(Reduction::Product),
            ncclRedOp_t::ncclMax => Ok(Reduction::Max),
            ncclRedOp_t::ncclMin => Ok(Reduction::Min),
            ncclRedOp_t::ncclAvg => Ok(Reduction::Average),
            other => Err(Failure::argument(format!("the reduction {other:?} is not imitated"))),
        }
    }

    /// Combines the ranks' parts in rank order, rounding to the type at every step as a ring does.
    pub fn apply(self, of: ncclDataType_t, parts: &[Vec<u8>]) -> Vec<u8> {
        use ncclDataType_t::*;
        match of {
            ncclInt8 => combine::<i8, 1>(self, parts),
            ncclInt32 => combine::<i32, 4>(self, parts),
            ncclUint32 => combine::<u32, 4>(self, parts),
            ncclInt64 => combine::<i64, 8>(self, parts),
            ncclUint64 => combine::<u64, 8>(self, parts),
            ncclFloat16 => combine::<f16, 2>(self, parts),
            ncclFloat32 => combine::<f32, 4>(self, parts),
            ncclFloat64 => combine::<f64, 8>(self, parts),
            ncclBfloat16 => combine::<bf16, 2>(self, parts),
            // The others are refused when the reduction is made.
            _ => combine::<u8, 1>(self, parts),
        }
    }
}

/// An element of `N` bytes.
trait Element<const N: usize>: Copy {
    fn read(bytes: [u8; N]) -> Self;
    fn write(self) -> [u8; N];
    fn sum(self, other: Self) -> Self;
    fn product(self, other: Self) -> Self;
    fn max(self, other: Self) -> Self;
    fn min(self, other: Self) -> Self;
    fn divided(self, by: usize) -> Self;
}

macro_rules! integers {
    ($($type:ty, $bytes:literal;)*) => {$(
        impl Element<$bytes> for $type {
            fn read(bytes: [u8; $bytes]) -> Self {
                Self::from_le_bytes(bytes)
            }
            fn write(self) -> [u8; $bytes] {
                self.to_le_bytes()
            }
            fn sum(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            fn product(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            fn max(self, other: Self) -> Self {
                Ord::max(self, other)
            }
            fn min(self, other: Self) -> Self {
                Ord::min(self, other)
            }
            fn divided(self, by: usize) -> Self {
                self / by as $type
            }
        }
    )*};
}

macro_rules! floats {
    ($($type:ty, $bytes:literal, $wide:ty, $narrow:expr;)*) => {$(
        impl Element<$bytes> for $type {
            fn read(bytes: [u8; $bytes]) -> Self {
                Self::from_le_bytes(bytes)
            }
            fn write(self) -> [u8; $bytes] {
                self.to_le_bytes()
            }
            fn sum(self, other: Self) -> Self {
                self + other
            }
            fn product(self, other: Self) -> Self {
                self * other
            }
            fn max(self, other: Self) -> Self {
                <$type>::max(self, other)
            }
            fn min(self, other: Self) -> Self {
                <$type>::min(self, other)
            }
            fn divided(self, by: usize) -> Self {
                $narrow(<$wide>::from(self) / by as $wide)
            }
        }
    )*};
}

integers! { i8, 1; u8, 1; i32, 4; u32, 4; i64, 8; u64, 8; }
floats! {
    f16, 2, f32, f16::from_f32;
    bf16, 2, f32, bf16::from_f32;
    f32, 4, f32, f32::from;
    f64, 8, f64, f64::from;
}

fn combine<T: Element<N>, const N: usize>(how: Reduction, parts: &[Vec<u8>]) -> Vec<u8> {
    let pair: fn(T, T) -> T = match how {
        Reduction::Sum | Reduction::Average => T::sum,
        Reduction::Product => T::product,
        Reduction::Max => T::max,
        Reduction::Min => T::min,
    };
    let elements = |part: &[u8]| part.as_chunks::<N>().0.iter().map(|b| T::read(*b)).collect();
    let Some((first, rest)) = parts.split_first() else { return Vec::new() };
    let mut sums: Vec<T> = elements(first);
    for part in rest {
        let part: Vec<T> = elements(part);
        sums.iter_mut().zip(part).for_each(|(sum, x)| *sum = pair(*sum, x));
    }
    let last = |x: &T| match how {
        Reduction::Average => x.divided(parts.len()),
        _ => *x,
    };
    sums.iter().flat_map(|x| last(x).write()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ncclDataType_t::*;

    fn of<T: Copy, const N: usize>(write: fn(T) -> [u8; N], numbers: &[T]) -> Vec<u8> {
        numbers.iter().flat_map(|x| write(*x)).collect()
    }

    #[test]
    fn elements_are_combined_in_their_own_type() {
        let ints = [of(i32::to_le_bytes, &[3, -4]), of(i32::to_le_bytes, &[5, 2])];
        let check = |how: Reduction, expected: [i32; 2]| {
            assert_eq!(how.apply(ncclInt32, &ints), of(i32::to_le_bytes, &expected), "{how:?}");
        };
        check(Reduction::Sum, [8, -2]);
        check(Reduction::Product, [15, -8]);
        check(Reduction::Max, [5, 2]);
        check(Reduction::Min, [3, -4]);
        check(Reduction::Average, [4, -1]);
        let halves = [1.0, 0.00390625].map(|x| of(bf16::to_le_bytes, &[bf16::from_f32(x)]));
        // 1 + 1/256 lies between two bf16 numbers and is rounded to the even one.
        let sum = Reduction::Sum.apply(ncclBfloat16, &halves);
        assert_eq!(sum, of(bf16::to_le_bytes, &[bf16::ONE]));
        let singles = [of(f32::to_le_bytes, &[1.5]), of(f32::to_le_bytes, &[2.0])];
        let average = Reduction::Average.apply(ncclFloat32, &singles);
        assert_eq!(average, of(f32::to_le_bytes, &[1.75]));
    }

    #[test]
    fn what_cannot_be_combined_is_refused() {
        assert!(Reduction::new(ncclRedOp_t::ncclSum, ncclFloat8e4m3).is_err());
        assert!(Reduction::new(ncclRedOp_t::ncclNumOps, ncclFloat32).is_err());
        assert!(bytes(ncclNumTypes).is_err());
    }
}
