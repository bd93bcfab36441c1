//! Floating-point instructions and conversions against the host's arithmetic.

use crate::common::evaluate;
use half::{bf16, f16};
use proptest::prelude::*;

fn singles() -> impl Strategy<Value = [u64; 32]> {
    let value = prop_oneof![
        any::<u32>().prop_map(f32::from_bits),
        -4f32..4.0,
        -70000f32..70000.0,
        prop::sample::select(vec![
            0.0,
            -0.0,
            1.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            1e-40
        ]),
    ];
    let bits = value.prop_map(|x: f32| u64::from(x.to_bits()));
    prop::collection::vec(bits, 32).prop_map(|v| v.try_into().unwrap())
}

/// Numbers whose products and sums f64 holds.
fn whole() -> impl Strategy<Value = [u64; 32]> {
    let value = (-(1i32 << 24)..1 << 24).prop_map(|x| u64::from((x as f32).to_bits()));
    prop::collection::vec(value, 32).prop_map(|v| v.try_into().unwrap())
}

fn doubles() -> impl Strategy<Value = [u64; 32]> {
    let value = prop_oneof![any::<f64>(), -4f64..4.0, -1e10f64..1e10];
    prop::collection::vec(value.prop_map(f64::to_bits), 32).prop_map(|v| v.try_into().unwrap())
}

fn single(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

fn check(text: &str, sources: &[&[u64; 32]], f: impl Fn(&[f32]) -> f32) {
    let sources: Vec<_> = sources.iter().map(|&s| (32, s)).collect();
    let result = evaluate(text, &sources, 32);
    for l in 0..32 {
        let x: Vec<f32> = sources.iter().map(|s| single(s.1[l])).collect();
        assert!(
            same(single(result[l]), f(&x)),
            "{text} of {x:?}: {} not {}",
            single(result[l]),
            f(&x)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn arithmetic_rounds_to_nearest(a in singles(), b in singles(), c in singles()) {
        check("add.f32 %r, %a, %b;", &[&a, &b], |x| x[0] + x[1]);
        check("sub.rn.f32 %r, %a, %b;", &[&a, &b], |x| x[0] - x[1]);
        check("mul.f32 %r, %a, %b;", &[&a, &b], |x| x[0] * x[1]);
        check("div.rn.f32 %r, %a, %b;", &[&a, &b], |x| x[0] / x[1]);
        check("fma.rn.f32 %r, %a, %b, %c;", &[&a, &b, &c], |x| x[0].mul_add(x[1], x[2]));
        check("sqrt.rn.f32 %r, %a;", &[&a], |x| x[0].sqrt());
        check("neg.f32 %r, %a;", &[&a], |x| -x[0]);
        check("abs.f32 %r, %a;", &[&a], |x| x[0].abs());
        check("add.sat.f32 %r, %a, %b;", &[&a, &b], |x| {
            let sum = x[0] + x[1];
            if sum.is_nan() { 0.0 } else { sum.clamp(0.0, 1.0) + 0.0 }
        });
    }

    #[test]
    fn products_and_sums_round_down_where_asked(a in whole(), b in whole(), c in whole()) {
        check("fma.rm.f32 %r, %a, %b, %c;", &[&a, &b, &c], |x| {
            let exact = f64::from(x[0]) * f64::from(x[1]) + f64::from(x[2]);
            let near = exact as f32;
            if f64::from(near) > exact { near.next_down() } else { near }
        });
        // Sums that f64 does not hold either.
        let (one, tiny) = (1f32, 2f32.powi(-80));
        for (a, c, down) in [(one, -tiny, one.next_down()), (one, tiny, one), (-one, -tiny, (-one).next_down()), (-one, tiny, -one)] {
            let [a, b, c] = [a, one, c].map(|x| [u64::from(x.to_bits()); 32]);
            check("fma.rm.f32 %r, %a, %b, %c;", &[&a, &b, &c], |_| down);
        }
    }

    #[test]
    fn subnormals_are_flushed_where_asked(a in singles(), b in singles()) {
        let flush = |x: f32| if x.is_subnormal() { 0f32.copysign(x) } else { x };
        check("mul.ftz.f32 %r, %a, %b;", &[&a, &b], |x| flush(flush(x[0]) * flush(x[1])));
    }

    #[test]
    fn minima_and_maxima_ignore_nan_unless_told(a in singles(), b in singles()) {
        check("min.f32 %r, %a, %b;", &[&a, &b], |x| {
            if x[0] == x[1] { if x[0].is_sign_negative() { x[0] } else { x[1] } } else { x[0].min(x[1]) }
        });
        check("max.NaN.f32 %r, %a, %b;", &[&a, &b], |x| {
            if x[0].is_nan() || x[1].is_nan() { f32::NAN }
            else if x[0] == x[1] { if x[0].is_sign_positive() { x[0] } else { x[1] } }
            else { x[0].max(x[1]) }
        });
    }

    #[test]
    fn approximations_are_close(a in singles()) {
        let close = |text: &str, f: fn(f64) -> f64, relative: f64, absolute: f64| {
            let result = evaluate(text, &[(32, &a)], 32);
            for l in 0..32 {
                let x = f64::from(single(a[l]));
                let (got, want) = (f64::from(single(result[l])), f(x));
                if want.is_nan() || want.abs() > f64::from(f32::MAX) || want.abs() < 1e-37 { continue; }
                let error = (got - want).abs();
                assert!(error <= want.abs() * relative + absolute, "{text} of {x}: {got} not {want}");
            }
        };
        close("ex2.approx.ftz.f32 %r, %a;", f64::exp2, 2.4e-7, 0.0);
        close("lg2.approx.f32 %r, %a;", f64::log2, 3e-7, 3e-7);
        close("rcp.approx.f32 %r, %a;", |x| 1.0 / x, 1.2e-7, 0.0);
        close("rsqrt.approx.f32 %r, %a;", |x| 1.0 / x.sqrt(), 1.2e-7, 0.0);
        close("tanh.approx.f32 %r, %a;", f64::tanh, 5e-4, 0.0);
        let small = a.map(|x| u64::from((single(x) % 3.0).to_bits()));
        for (text, f) in [("sin.approx.f32 %r, %a;", f64::sin as fn(f64) -> f64), ("cos.approx.f32 %r, %a;", f64::cos)] {
            let result = evaluate(text, &[(32, &small)], 32);
            for l in 0..32 {
                let x = f64::from(single(small[l]));
                if x.is_nan() { continue; }
                assert!((f64::from(single(result[l])) - f(x)).abs() < 1e-6, "{text} of {x}");
            }
        }
    }

    #[test]
    fn doubles_round_to_nearest(a in doubles(), b in doubles(), c in doubles()) {
        let sum = evaluate("add.f64 %r, %a, %b;", &[(64, &a), (64, &b)], 64);
        let fma = evaluate("fma.rn.f64 %r, %a, %b, %c;", &[(64, &a), (64, &b), (64, &c)], 64);
        let quotient = evaluate("div.rn.f64 %r, %a, %b;", &[(64, &a), (64, &b)], 64);
        let d = f64::from_bits;
        for l in 0..32 {
            let equal = |x: u64, y: f64| x == y.to_bits() || d(x).is_nan() && y.is_nan();
            prop_assert!(equal(sum[l], d(a[l]) + d(b[l])));
            prop_assert!(equal(fma[l], d(a[l]).mul_add(d(b[l]), d(c[l]))));
            prop_assert!(equal(quotient[l], d(a[l]) / d(b[l])));
        }
    }

    #[test]
    fn comparisons_know_nan(a in singles(), b in singles()) {
        let tests: [(&str, fn(f32, f32) -> bool); 14] = [
            ("eq", |a, b| a == b), ("ne", |a, b| a < b || a > b), ("lt", |a, b| a < b),
            ("le", |a, b| a <= b), ("gt", |a, b| a > b), ("ge", |a, b| a >= b),
            ("equ", |a, b| !(a < b || a > b)), ("neu", |a, b| a != b), ("ltu", |a, b| !(a >= b)),
            ("leu", |a, b| !(a > b)), ("gtu", |a, b| !(a <= b)), ("geu", |a, b| !(a < b)),
            ("num", |a, b| !a.is_nan() && !b.is_nan()), ("nan", |a, b| a.is_nan() || b.is_nan()),
        ];
        for (name, holds) in tests {
            let text = format!("setp.{name}.f32 %p0, %a, %b; selp.u32 %r, 1, 0, %p0;");
            let result = evaluate(&text, &[(32, &a), (32, &b)], 32);
            for l in 0..32 {
                prop_assert_eq!(result[l] == 1, holds(single(a[l]), single(b[l])), "{} {} {}", name, single(a[l]), single(b[l]));
            }
        }
    }

    #[test]
    fn floats_become_integers_as_rust_casts_them(a in singles(), b in doubles()) {
        let modes: [(&str, fn(f64) -> f64); 4] =
            [("rni", f64::round_ties_even), ("rzi", f64::trunc), ("rmi", f64::floor), ("rpi", f64::ceil)];
        for (mode, round) in modes {
            let int = evaluate(&format!("cvt.{mode}.s32.f32 %r, %a;"), &[(32, &a)], 32);
            let unsigned = evaluate(&format!("cvt.{mode}.u32.f32 %r, %a;"), &[(32, &a)], 32);
            let long = evaluate(&format!("cvt.{mode}.s64.f64 %r, %a;"), &[(64, &b)], 64);
            let whole = evaluate(&format!("cvt.{mode}.f32.f32 %r, %a;"), &[(32, &a)], 32);
            for l in 0..32 {
                let x = round(f64::from(single(a[l])));
                prop_assert_eq!(int[l] as i32, x as i32);
                prop_assert_eq!(unsigned[l] as u32, x as u32);
                prop_assert_eq!(long[l] as i64, round(f64::from_bits(b[l])) as i64);
                prop_assert!(same(single(whole[l]), x as f32));
            }
        }
    }

    #[test]
    fn integers_convert(a in prop::array::uniform32(any::<u64>())) {
        let float = evaluate("cvt.rn.f32.s32 %r, %a;", &[(32, &a)], 32);
        let wide = evaluate("cvt.rn.f32.u64 %r, %a;", &[(64, &a)], 32);
        let double = evaluate("cvt.rn.f64.s64 %r, %a;", &[(64, &a)], 64);
        let up = evaluate("cvt.rp.f32.s32 %r, %a;", &[(32, &a)], 32);
        let signed = evaluate("cvt.s64.s8 %r, %a;", &[(64, &a)], 64);
        let byte = evaluate("cvt.u32.u8 %r, %a;", &[(32, &a)], 32);
        let clamped = evaluate("cvt.sat.s8.s32 %r, %a;", &[(32, &a)], 32);
        for l in 0..32 {
            prop_assert_eq!(single(float[l]), a[l] as u32 as i32 as f32);
            prop_assert_eq!(single(wide[l]), a[l] as f32);
            prop_assert_eq!(f64::from_bits(double[l]), a[l] as i64 as f64);
            let exact = f64::from(a[l] as u32 as i32);
            prop_assert!(f64::from(single(up[l])) >= exact);
            prop_assert!(f64::from(single(up[l]).next_down()) < exact);
            prop_assert_eq!(signed[l] as i64, i64::from(a[l] as i8));
            prop_assert_eq!(byte[l], a[l] & 0xFF);
            prop_assert_eq!(clamped[l] as i32, (a[l] as u32 as i32).clamp(-128, 127));
        }
    }

    #[test]
    fn halves_round_to_nearest_even(a in singles(), b in singles()) {
        let b16 = evaluate("cvt.rn.bf16.f32 %r, %a;", &[(32, &a)], 16);
        let h16 = evaluate("cvt.rn.f16.f32 %r, %a;", &[(32, &a)], 16);
        let pair = evaluate("cvt.rn.bf16x2.f32 %r, %a, %b;", &[(32, &a), (32, &b)], 32);
        let zero = evaluate("cvt.rz.bf16.f32 %r, %a;", &[(32, &a)], 16);
        let back = evaluate(".reg .b16 %h; cvt.rn.bf16.f32 %h, %a; cvt.f32.bf16 %r, %h;", &[(32, &a)], 32);
        for l in 0..32 {
            let x = single(a[l]);
            if x.is_nan() {
                prop_assert_eq!(b16[l], 0x7FFF);
                continue;
            }
            prop_assert_eq!(b16[l] as u16, bf16::from_f32(x).to_bits());
            prop_assert_eq!(h16[l] as u16, f16::from_f32(x).to_bits());
            prop_assert_eq!((pair[l] >> 16) as u16, bf16::from_f32(x).to_bits());
            prop_assert_eq!(zero[l] as u32, x.to_bits() >> 16);
            prop_assert!(same(single(back[l]), bf16::from_f32(x).to_f32()));
        }
    }

    #[test]
    fn half_arithmetic_rounds_once(a in prop::array::uniform32(any::<u64>()), b in prop::array::uniform32(any::<u64>()), c in prop::array::uniform32(any::<u64>())) {
        for (ty, value, narrow) in [
            ("bf16", (|x| bf16::from_bits(x).to_f64()) as fn(u16) -> f64, (|x| bf16::from_f64(x).to_bits()) as fn(f64) -> u16),
            ("f16", |x| f16::from_bits(x).to_f64(), |x| f16::from_f64(x).to_bits()),
        ] {
            let sum = evaluate(&format!("add.rn.{ty} %r, %a, %b;"), &[(16, &a), (16, &b)], 16);
            let product = evaluate(&format!("mul.{ty}x2 %r, %a, %b;"), &[(32, &a), (32, &b)], 32);
            let fma = evaluate(&format!("fma.rn.{ty}x2 %r, %a, %b, %c;"), &[(32, &a), (32, &b), (32, &c)], 32);
            for l in 0..32 {
                let at = |v: u64, i: u32| value((v >> (16 * i)) as u16);
                let equal = |got: u64, i: u32, want: f64| {
                    let got = (got >> (16 * i)) as u16;
                    got == narrow(want) || want.is_nan() && value(got).is_nan()
                };
                prop_assert!(equal(sum[l], 0, at(a[l], 0) + at(b[l], 0)));
                for i in 0..2 {
                    prop_assert!(equal(product[l], i, at(a[l], i) * at(b[l], i)));
                    prop_assert!(equal(fma[l], i, at(a[l], i).mul_add(at(b[l], i), at(c[l], i))));
                }
            }
        }
    }
}
