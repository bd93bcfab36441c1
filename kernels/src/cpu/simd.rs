//! Vector code without duplication: element types, and functions compiled once per instruction set.

use half::bf16;

/// A float that kernels load and store; all arithmetic is in f32.
pub trait Scalar: Copy + Default + Send + Sync + 'static {
    /// The value.
    fn to_f32(self) -> f32;
    /// The nearest value, ties to even.
    fn from_f32(value: f32) -> Self;
}

impl Scalar for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }
}

impl Scalar for bf16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    // Written with shifts and a select so that it vectorises on every instruction set.
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        let quiet = bits >> 16 | 0x40;
        Self::from_bits(if value.is_nan() { quiet } else { rounded } as u16)
    }
}

/// The instruction sets that functions are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the target guarantees.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

/// The best instruction set of this machine.
pub fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f")
            && has!("avx512bw")
            && has!("avx512dq")
            && has!("avx512vl")
            && has!("fma")
        {
            return Level::Avx512;
        }
        if has!("avx2") && has!("fma") {
            return Level::Avx2;
        }
    }
    Level::Portable
}

/// Whether the machine multiplies bf16 pairs (`vdpbf16ps`).
pub fn has_avx512_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        level() == Level::Avx512 && std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Asks for the cache line at `address`, which may be any at all.
#[inline(always)]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Defines a function whose body is compiled for every [`Level`] and chosen at run time. What the
/// body calls must be `#[inline(always)]` to be compiled along with it. In the body the constant
/// `FUSED` says whether [`mul_add`] is one instruction.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$T:ident: $bound:path $(, const $N:ident: usize)?>)? ($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name $(<$T: $bound $(, const $N: usize)?>)? ($($arg: $type),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body <$($T: $bound, $(const $N: usize,)?)? const FUSED: bool> ($($arg: $type),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx512 $(<$T: $bound $(, const $N: usize)?>)? ($($arg: $type),*) $(-> $ret)? {
                body::<$($T, $($N,)?)? true> ($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2 $(<$T: $bound $(, const $N: usize)?>)? ($($arg: $type),*) $(-> $ret)? {
                body::<$($T, $($N,)?)? true> ($($arg),*)
            }

            match $crate::cpu::simd::level() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `level` found the instructions on this machine.
                $crate::cpu::simd::Level::Avx512 => unsafe { avx512 $(::<$T $(, $N)?>)? ($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `level` found the instructions on this machine.
                $crate::cpu::simd::Level::Avx2 => unsafe { avx2 $(::<$T $(, $N)?>)? ($($arg),*) },
                _ => body::<$($T, $($N,)?)? false> ($($arg),*),
            }
        }
    };
}
pub(crate) use multiversion;

/// a b + c, fused where that is one instruction (elsewhere it would be a slow library call).
#[inline(always)]
pub(crate) fn mul_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits; here with the bias of the
/// exponent, so that a shift turns them into a power of two.
const MAGIC: f32 = 12_582_912.0 + 127.0;

/// 2^x for x up to 127, as 2^n times a polynomial 1 + c_1 r + c_2 r^2 + ... of the rest r in
/// [-1/2, 1/2]; 0 below -126. NaN stays NaN.
#[inline(always)]
fn exp2_with<const FUSED: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let shifted = x + MAGIC;
    let r = x - (shifted - MAGIC);
    let power = f32::from_bits(shifted.to_bits() << 23);
    let p = coefficients.iter().rev().fold(0.0, |p, &c| mul_add::<FUSED>(p, r, c));
    let value = mul_add::<FUSED>(p, r, 1.0) * power;
    if x < -126.0 { 0.0 } else { value }
}

/// 2^x to 1e-7 relative, for x up to 127; 0 below -126.
#[inline(always)]
pub(crate) fn exp2<const FUSED: bool>(x: f32) -> f32 {
    const C: [f32; 6] = [
        6.931_472_4e-1,
        2.402_265_2e-1,
        5.550_310_4e-2,
        9.617_693e-3,
        1.340_664_3e-3,
        1.559_467_8e-4,
    ];
    exp2_with::<FUSED, 6>(x, C)
}

/// 2^x to 4e-6 relative, which bf16 cannot tell from the exact value; as [`exp2`] otherwise.
#[inline(always)]
pub(crate) fn exp2_rough<const FUSED: bool>(x: f32) -> f32 {
    const C: [f32; 4] = [6.931_136e-1, 2.402_071e-1, 5.597_688e-2, 9.782_912e-3];
    exp2_with::<FUSED, 4>(x, C)
}

/// e^x to about 1e-7 relative: x = n ln 2 + r, a polynomial for e^r, and n into the exponent.
/// Below -87.3 it is 0, above 88.7 infinite; NaN stays NaN.
#[inline(always)]
#[expect(clippy::manual_clamp, reason = "two compares and selects, where NaN goes through")]
pub(crate) fn exp<const FUSED: bool>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23
    let clamped = if x > 88.8 {
        88.8
    } else if x < -87.4 {
        -87.4
    } else {
        x
    };
    let shifted = mul_add::<FUSED>(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // The integer n, out of the low bits of the sum: no conversion instruction, NaN does no harm.
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let r = mul_add::<FUSED>(n, -0.693_359_4, clamped);
    let r = mul_add::<FUSED>(n, 2.121_944_4e-4, r);
    let mut p = 1.388_888_9e-3;
    for c in [8.333_334e-3, 4.166_666_7e-2, 0.166_666_67, 0.5, 1.0, 1.0] {
        p = mul_add::<FUSED>(p, r, c);
    }
    // 2^n in two halves, so that n = 128 and denormal results work.
    let half = exponent >> 1;
    let power = |e: i32| f32::from_bits((e.wrapping_add(127) << 23) as u32);
    let value = p * power(half) * power(exponent.wrapping_sub(half));
    if x < -87.3 { 0.0 } else { value }
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid<const FUSED: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FUSED>(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(value: f32, exact: f64) -> f64 {
        (f64::from(value) - exact).abs() / exact
    }

    #[test]
    fn exp_is_accurate_over_its_whole_range() {
        for i in -8700..=8860 {
            let x = i as f32 / 100.0 + 0.003;
            let exact = f64::from(x).exp();
            for error in [error(exp::<false>(x), exact), error(exp::<true>(x), exact)] {
                assert!(error < 3e-7 || !(-87.2..=88.6).contains(&x), "exp({x}): {error:e}");
            }
        }
        for exp in [exp::<false>, exp::<true>] {
            assert_eq!(exp(0.0), 1.0);
            assert_eq!(exp(-200.0), 0.0);
            assert_eq!(exp(f32::NEG_INFINITY), 0.0);
            assert_eq!(exp(200.0), f32::INFINITY);
            assert!(exp(f32::NAN).is_nan());
        }
    }

    #[test]
    fn powers_of_two_are_as_accurate_as_they_say() {
        for i in -12600..=12700 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp2();
            for error in [error(exp2::<false>(x), exact), error(exp2::<true>(x), exact)] {
                assert!(error < 2e-7, "exp2({x}): {error:e}");
            }
            let rough = error(exp2_rough::<true>(x), exact);
            assert!(rough < 4e-6, "exp2_rough({x}): {rough:e}");
        }
        for exp2 in [exp2::<false>, exp2::<true>, exp2_rough::<false>, exp2_rough::<true>] {
            assert_eq!(exp2(0.0), 1.0);
            assert_eq!(exp2(-127.0), 0.0);
            assert_eq!(exp2(f32::NEG_INFINITY), 0.0);
            assert!(exp2(f32::NAN).is_nan() && exp2(f32::from_bits(!0)).is_nan());
        }
    }

    #[test]
    fn bf16_rounds_to_nearest_even_like_the_reference() {
        for i in 0..2_000_000u32 {
            let value = f32::from_bits(i.wrapping_mul(2_147_483_659));
            let (ours, reference) = (<bf16 as Scalar>::from_f32(value), bf16::from_f32(value));
            assert!(ours == reference || (ours.is_nan() && reference.is_nan()), "{value:e}");
        }
    }
}
