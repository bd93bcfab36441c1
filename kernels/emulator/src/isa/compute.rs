//! Instructions that only read and write registers, as functions on whole warps.

use super::Operands;
use crate::registers::{LANES, Lane, Registers, Word};

/// Computes an instruction for the lanes of a mask.
pub(crate) type Compute = Box<dyn Fn(&mut Registers, &Operands, u32) + Send + Sync>;

/// `dst[0] = f(src[0])`.
pub(crate) fn unary<A: Lane, R: Lane>(f: impl Fn(A) -> R + Send + Sync + 'static) -> Compute {
    Box::new(move |regs, o, mask| apply_unary(&f, regs, o, mask))
}

#[inline(always)]
fn apply_unary<A: Lane, R: Lane>(
    f: &impl Fn(A) -> R,
    regs: &mut Registers,
    o: &Operands,
    mask: u32,
) {
    let a = A::Word::get(regs, o.src[0]);
    let mut r = [R::Word::default(); LANES];
    for (r, &a) in r.iter_mut().zip(a) {
        *r = f(A::read(a)).write();
    }
    R::Word::put(regs, o.dst[0], mask, &r);
}

/// `dst[0] = f(src[0], src[1])`.
pub(crate) fn binary<A: Lane, B: Lane, R: Lane>(
    f: impl Fn(A, B) -> R + Send + Sync + 'static,
) -> Compute {
    Box::new(move |regs, o, mask| apply_binary(&f, regs, o, mask))
}

#[inline(always)]
fn apply_binary<A: Lane, B: Lane, R: Lane>(
    f: &impl Fn(A, B) -> R,
    regs: &mut Registers,
    o: &Operands,
    mask: u32,
) {
    let (a, b) = (A::Word::get(regs, o.src[0]), B::Word::get(regs, o.src[1]));
    let mut r = [R::Word::default(); LANES];
    for ((r, &a), &b) in r.iter_mut().zip(a).zip(b) {
        *r = f(A::read(a), B::read(b)).write();
    }
    R::Word::put(regs, o.dst[0], mask, &r);
}

/// `dst[0] = f(src[0], src[1], src[2])`.
pub(crate) fn ternary<A: Lane, B: Lane, C: Lane, R: Lane>(
    f: impl Fn(A, B, C) -> R + Send + Sync + 'static,
) -> Compute {
    Box::new(move |regs, o, mask| apply_ternary(&f, regs, o, mask))
}

#[inline(always)]
fn apply_ternary<A: Lane, B: Lane, C: Lane, R: Lane>(
    f: &impl Fn(A, B, C) -> R,
    regs: &mut Registers,
    o: &Operands,
    mask: u32,
) {
    let (a, b) = (A::Word::get(regs, o.src[0]), B::Word::get(regs, o.src[1]));
    let c = C::Word::get(regs, o.src[2]);
    let mut r = [R::Word::default(); LANES];
    for (((r, &a), &b), &c) in r.iter_mut().zip(a).zip(b).zip(c) {
        *r = f(A::read(a), B::read(b), C::read(c)).write();
    }
    R::Word::put(regs, o.dst[0], mask, &r);
}

/// `dst[0] = f(src[0], src[1], src[2], src[3])`.
pub(crate) fn quaternary<A: Lane, B: Lane, C: Lane, D: Lane, R: Lane>(
    f: impl Fn(A, B, C, D) -> R + Send + Sync + 'static,
) -> Compute {
    Box::new(move |regs, o, mask| {
        let (a, b) = (A::Word::get(regs, o.src[0]), B::Word::get(regs, o.src[1]));
        let (c, d) = (C::Word::get(regs, o.src[2]), D::Word::get(regs, o.src[3]));
        let mut r = [R::Word::default(); LANES];
        for ((((r, &a), &b), &c), &d) in r.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *r = f(A::read(a), B::read(b), C::read(c), D::read(d)).write();
        }
        R::Word::put(regs, o.dst[0], mask, &r);
    })
}

/// The bits of `f(src[0], src[1])`, one per lane.
#[inline(always)]
pub(crate) fn lane_bits<A: Lane>(regs: &Registers, o: &Operands, f: &impl Fn(A, A) -> bool) -> u32 {
    let (a, b) = (A::Word::get(regs, o.src[0]), A::Word::get(regs, o.src[1]));
    let mut bits = 0;
    for (lane, (&a, &b)) in a.iter().zip(b).enumerate() {
        bits |= u32::from(f(A::read(a), A::read(b))) << lane;
    }
    bits
}

/// The same for processors with wide registers and fused multiply-add, where that matters: with
/// `mul_add` and functions written as polynomials.
pub(crate) mod wide {
    use super::{Compute, apply_binary, apply_ternary, apply_unary};
    use crate::isa::Operands;
    use crate::registers::{Lane, Registers};

    macro_rules! wide {
        ($name:ident, $apply:ident, $compiled:ident, ($($in:ident),*)) => {
            /// Like the function of that name, compiled for wide registers as well.
            pub(crate) fn $name<$($in: Lane,)* R: Lane>(
                f: impl Fn($($in),*) -> R + Send + Sync + 'static,
            ) -> Compute {
                #[cfg(target_arch = "x86_64")]
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    return Box::new(move |regs, o, mask| {
                        // SAFETY: the processor has the features.
                        unsafe { $compiled(&f, regs, o, mask) }
                    });
                }
                super::$name(f)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn $compiled<$($in: Lane,)* R: Lane>(
                f: &impl Fn($($in),*) -> R,
                regs: &mut Registers,
                o: &Operands,
                mask: u32,
            ) {
                $apply(f, regs, o, mask);
            }
        };
    }

    wide!(unary, apply_unary, unary_avx2, (A));
    wide!(binary, apply_binary, binary_avx2, (A, B));
    wide!(ternary, apply_ternary, ternary_avx2, (A, B, C));
}
