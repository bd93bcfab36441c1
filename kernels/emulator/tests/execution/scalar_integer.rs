//! Integer instructions against Rust's arithmetic.

use crate::common::evaluate;
use proptest::prelude::*;

/// Values with many small, large and equal ones among them.
fn values() -> impl Strategy<Value = [u64; 32]> {
    let value = prop_oneof![
        any::<u64>(),
        0u64..8,
        (0u64..8).prop_map(u64::wrapping_neg),
        Just(i32::MIN as u64),
        Just(i64::MIN as u64),
        (0u32..64).prop_map(|n| 1 << n),
    ];
    prop::collection::vec(value, 32).prop_map(|v| v.try_into().unwrap())
}

/// Checks `instruction %r, %a, %b` lane by lane.
fn binary(
    instruction: &str,
    bits: (u32, u32, u32),
    a: &[u64; 32],
    b: &[u64; 32],
    f: impl Fn(u64, u64) -> u64,
) {
    let text = format!("{instruction} %r, %a, %b;");
    let result = evaluate(&text, &[(bits.0, a), (bits.1, b)], bits.2);
    let mask = u64::MAX >> (64 - bits.2);
    for lane in 0..32 {
        assert_eq!(
            result[lane] & mask,
            f(a[lane], b[lane]) & mask,
            "{instruction} of {:#x} and {:#x}",
            a[lane],
            b[lane]
        );
    }
}

macro_rules! for_each_type {
    ($run:ident) => {
        $run!(u16, "u16", 16);
        $run!(i16, "s16", 16);
        $run!(u32, "u32", 32);
        $run!(i32, "s32", 32);
        $run!(u64, "u64", 64);
        $run!(i64, "s64", 64);
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sums_differences_and_products_wrap(a in values(), b in values()) {
        macro_rules! run {
            ($t:ty, $name:literal, $bits:literal) => {
                let same = ($bits, $bits, $bits);
                binary(concat!("add.", $name), same, &a, &b, |a, b| (a as $t).wrapping_add(b as $t) as u64);
                binary(concat!("sub.", $name), same, &a, &b, |a, b| (a as $t).wrapping_sub(b as $t) as u64);
                binary(concat!("mul.lo.", $name), same, &a, &b, |a, b| (a as $t).wrapping_mul(b as $t) as u64);
                binary(concat!("mul.hi.", $name), same, &a, &b, |a, b| {
                    (((a as $t) as i128 * (b as $t) as i128) >> $bits) as u64
                });
                binary(concat!("min.", $name), same, &a, &b, |a, b| (a as $t).min(b as $t) as u64);
                binary(concat!("max.", $name), same, &a, &b, |a, b| (a as $t).max(b as $t) as u64);
            };
        }
        for_each_type!(run);
    }

    #[test]
    fn quotients_and_remainders_truncate(a in values(), b in values()) {
        macro_rules! run {
            ($t:ty, $name:literal, $bits:literal) => {
                let b = b.map(|b| if b as $t == 0 { 7 } else { b });
                let same = ($bits, $bits, $bits);
                binary(concat!("div.", $name), same, &a, &b, |a, b| (a as $t).wrapping_div(b as $t) as u64);
                binary(concat!("rem.", $name), same, &a, &b, |a, b| (a as $t).wrapping_rem(b as $t) as u64);
            };
        }
        for_each_type!(run);
    }

    #[test]
    fn wide_products_are_exact(a in values(), b in values()) {
        binary("mul.wide.u16", (16, 16, 32), &a, &b, |a, b| u64::from(a as u16) * u64::from(b as u16));
        binary("mul.wide.s16", (16, 16, 32), &a, &b, |a, b| (i64::from(a as i16) * i64::from(b as i16)) as u64);
        binary("mul.wide.u32", (32, 32, 64), &a, &b, |a, b| u64::from(a as u32) * u64::from(b as u32));
        binary("mul.wide.s32", (32, 32, 64), &a, &b, |a, b| (i64::from(a as i32) * i64::from(b as i32)) as u64);
    }

    #[test]
    fn multiply_and_add_wraps(a in values(), b in values(), c in values()) {
        let lo = evaluate("mad.lo.s32 %r, %a, %b, %c;", &[(32, &a), (32, &b), (32, &c)], 32);
        let hi = evaluate("mad.hi.u32 %r, %a, %b, %c;", &[(32, &a), (32, &b), (32, &c)], 32);
        let wide = evaluate("mad.wide.s32 %r, %a, %b, %c;", &[(32, &a), (32, &b), (64, &c)], 64);
        for l in 0..32 {
            let (x, y, z) = (a[l] as u32, b[l] as u32, c[l] as u32);
            prop_assert_eq!(lo[l] as u32, x.wrapping_mul(y).wrapping_add(z));
            prop_assert_eq!(hi[l] as u32, ((u64::from(x) * u64::from(y) >> 32) as u32).wrapping_add(z));
            let product = i64::from(x as i32) * i64::from(y as i32);
            prop_assert_eq!(wide[l] as i64, product.wrapping_add(c[l] as i64));
        }
    }

    #[test]
    fn shifts_beyond_the_width_leave_zero_or_the_sign(a in values(), n in prop::array::uniform32(0u64..80)) {
        binary("shl.b32", (32, 32, 32), &a, &n, |a, n| (a as u32).checked_shl(n as u32).unwrap_or(0).into());
        binary("shl.b64", (64, 32, 64), &a, &n, |a, n| a.checked_shl(n as u32).unwrap_or(0));
        binary("shr.u32", (32, 32, 32), &a, &n, |a, n| (a as u32).checked_shr(n as u32).unwrap_or(0).into());
        binary("shr.s32", (32, 32, 32), &a, &n, |a, n| ((a as i32) >> n.min(31)) as u64);
        binary("shr.s64", (64, 32, 64), &a, &n, |a, n| ((a as i64) >> n.min(63)) as u64);
        binary("shr.u16", (16, 32, 16), &a, &n, |a, n| (a as u16).checked_shr(n as u32).unwrap_or(0).into());
    }

    #[test]
    fn funnel_shifts_take_the_middle_of_a_pair(a in values(), b in values(), n in prop::array::uniform32(0u64..70)) {
        for (name, left, wrap) in [("l.wrap", true, true), ("l.clamp", true, false), ("r.wrap", false, true), ("r.clamp", false, false)] {
            let text = format!("shf.{name}.b32 %r, %a, %b, %c;");
            let result = evaluate(&text, &[(32, &a), (32, &b), (32, &n)], 32);
            for l in 0..32 {
                let n = if wrap { n[l] as u32 % 32 } else { (n[l] as u32).min(32) };
                let pair = (b[l] as u32 as u128) << 32 | (a[l] as u32 as u128);
                let expected = if left { (pair << n >> 32) as u32 } else { (pair >> n) as u32 };
                prop_assert_eq!(result[l] as u32, expected, "{} by {}", name, n);
            }
        }
    }

    #[test]
    fn bit_fields_are_cut_out_and_put_in(a in values(), b in values(),
        at in prop::array::uniform32(0u64..40), length in prop::array::uniform32(0u64..40)) {
        let unsigned = evaluate("bfe.u32 %r, %a, %b, %c;", &[(32, &a), (32, &at), (32, &length)], 32);
        let signed = evaluate("bfe.s32 %r, %a, %b, %c;", &[(32, &a), (32, &at), (32, &length)], 32);
        let inserted = evaluate("bfi.b32 %r, %a, %b, %c, %e;", &[(32, &a), (32, &b), (32, &at), (32, &length)], 32);
        for l in 0..32 {
            let (x, y, at, length) = (a[l] as u32, b[l] as u32, at[l], length[l]);
            let bit = |x: u32, i: u64| if i < 32 { x >> i & 1 } else { 0 };
            // Bit by bit, as the manual describes it.
            let field = (0..32).filter(|&i| i < length).fold(0u32, |r, i| r | bit(x, at + i) << i);
            let sign = if length == 0 { 0 } else { bit(x, (at + length - 1).min(31)) };
            let extended = (0..32).fold(0u32, |r, i| {
                let inside = i < length && at + i < 32;
                r | if inside { bit(x, at + i) } else { sign } << i
            });
            let put = (0..32).fold(0u32, |r, i| {
                r | if i >= at && i < at + length { bit(x, i - at) } else { bit(y, i) } << i
            });
            prop_assert_eq!(unsigned[l] as u32, field, "bfe.u32 {:#x} {} {}", x, at, length);
            prop_assert_eq!(signed[l] as u32, extended, "bfe.s32 {:#x} {} {}", x, at, length);
            prop_assert_eq!(inserted[l] as u32, put, "bfi {:#x} {:#x} {} {}", x, y, at, length);
        }
    }

    #[test]
    fn logic_and_counting_agree_with_the_host(a in values(), b in values(), c in values(), table in 0u32..256) {
        binary("and.b64", (64, 64, 64), &a, &b, |a, b| a & b);
        binary("or.b32", (32, 32, 32), &a, &b, |a, b| a | b);
        binary("xor.b16", (16, 16, 16), &a, &b, |a, b| a ^ b);
        let text = format!("lop3.b32 %r, %a, %b, %c, {table};");
        let lop = evaluate(&text, &[(32, &a), (32, &b), (32, &c)], 32);
        let popc = evaluate("popc.b64 %r, %a;", &[(64, &a)], 32);
        let clz = evaluate("clz.b32 %r, %a;", &[(32, &a)], 32);
        let brev = evaluate("brev.b32 %r, %a;", &[(32, &a)], 32);
        let find = evaluate("bfind.s32 %r, %a;", &[(32, &a)], 32);
        for l in 0..32 {
            let bits = (0..32).fold(0u32, |r, i| {
                let at = |v: u64| (v >> i & 1) as u32;
                r | (table >> (at(a[l]) * 4 + at(b[l]) * 2 + at(c[l])) & 1) << i
            });
            prop_assert_eq!(lop[l] as u32, bits);
            prop_assert_eq!(popc[l] as u32, a[l].count_ones());
            prop_assert_eq!(clz[l] as u32, (a[l] as u32).leading_zeros());
            prop_assert_eq!(brev[l] as u32, (a[l] as u32).reverse_bits());
            let x = a[l] as u32 as i32;
            let significant = if x < 0 { !x } else { x } as u32;
            prop_assert_eq!(find[l] as u32, significant.checked_ilog2().unwrap_or(u32::MAX));
        }
    }

    #[test]
    fn bytes_are_permuted(a in values(), b in values(), chosen in values()) {
        let result = evaluate("prmt.b32 %r, %a, %b, %c;", &[(32, &a), (32, &b), (32, &chosen)], 32);
        for l in 0..32 {
            let mut bytes = (a[l] as u32).to_le_bytes().to_vec();
            bytes.extend((b[l] as u32).to_le_bytes());
            let expected: [u8; 4] = std::array::from_fn(|i| {
                let nibble = (chosen[l] >> (4 * i)) as usize & 15;
                let byte = bytes[nibble & 7];
                if nibble & 8 == 0 { byte } else if byte & 0x80 != 0 { 0xFF } else { 0 }
            });
            prop_assert_eq!((result[l] as u32).to_le_bytes(), expected);
        }
    }

    #[test]
    fn comparisons_select(a in values(), b in values()) {
        macro_rules! run {
            ($t:ty, $name:literal, $bits:literal) => {
                for (test, holds) in [
                    ("eq", (|a, b| a == b) as fn($t, $t) -> bool), ("ne", |a, b| a != b), ("lt", |a, b| a < b),
                    ("le", |a, b| a <= b), ("gt", |a, b| a > b), ("ge", |a, b| a >= b),
                ] {
                    let text = format!(
                        "setp.{test}.{} %p0|%p1, %a, %b; selp.b{bits} %r, %a, %b, %p0; @%p1 not.b{bits} %r, %r;",
                        $name, bits = $bits
                    );
                    let result = evaluate(&text, &[($bits, &a), ($bits, &b)], $bits);
                    for l in 0..32 {
                        let (x, y) = (a[l] as $t, b[l] as $t);
                        let expected = if holds(x, y) { x } else { !y };
                        prop_assert_eq!(result[l] as $t, expected, "{}", text);
                    }
                }
            };
        }
        for_each_type!(run);
    }

    #[test]
    fn predicates_combine(a in values(), b in values(), c in values()) {
        for (name, f) in [("and", (|x, y| x && y) as fn(bool, bool) -> bool), ("or", |x, y| x || y), ("xor", |x, y| x != y)] {
            let text = format!(
                "setp.gt.u64 %p0, %c, 3; setp.lt.{name}.u64 %p1|%p2, %a, %b, !%p0;
                 selp.u32 %r, 1, 0, %p1; @%p2 add.u32 %r, %r, 2;"
            );
            let result = evaluate(&text, &[(64, &a), (64, &b), (64, &c)], 32);
            for l in 0..32 {
                let (less, third) = (a[l] < b[l], !(c[l] > 3));
                let expected = u32::from(f(less, third)) + 2 * u32::from(f(!less, third));
                prop_assert_eq!(result[l] as u32, expected, "{}", name);
            }
        }
    }

    #[test]
    fn registers_are_packed_and_unpacked(a in values(), b in values()) {
        let pair = evaluate("mov.b64 %r, {%a, %b};", &[(32, &a), (32, &b)], 64);
        let high = evaluate(".reg .b32 %lo; mov.b64 {%lo, %r}, %a;", &[(64, &a)], 32);
        let halves = evaluate(".reg .b16 %l, %u; mov.b32 {%l, %u}, %a; mov.b32 %r, {%u, %l};", &[(32, &a)], 32);
        for l in 0..32 {
            prop_assert_eq!(pair[l], b[l] << 32 | a[l] & 0xFFFF_FFFF);
            prop_assert_eq!(high[l] as u32, (a[l] >> 32) as u32);
            prop_assert_eq!(halves[l] as u32, (a[l] as u32).rotate_left(16));
        }
    }
}
