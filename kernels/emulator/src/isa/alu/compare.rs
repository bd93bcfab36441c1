//! Comparison and selection.

use half::{bf16, f16};

use super::emit;
use crate::isa::compute::{lane_bits, ternary};
use crate::isa::decoder::{Decoder, exactly};
use crate::isa::opcode::Opcode;
use crate::isa::{Compute, Type};
use crate::parse::Operand;
use crate::registers::{Class, LANES, Lane, Slot, Word};

pub(super) fn decode<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
) -> Result<(), String> {
    match op.name {
        "setp" => setp(d, op, o),
        "set" => set(d, op, o),
        "selp" => selp(d, op, o),
        "slct" => slct(d, op, o),
        _ => testp(d, op, o),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Equal,
    Unequal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// Both are numbers.
    Numbers,
    /// One is not.
    Nan,
}

/// A comparison; `unordered` ones hold if an operand is NaN.
#[derive(Clone, Copy)]
struct Test {
    order: Order,
    unordered: bool,
}

fn test(op: &mut Opcode<'_>) -> Result<Test, String> {
    let known = |order, unordered| Test { order, unordered };
    op.choose(&[
        ("eq", known(Order::Equal, false)),
        ("ne", known(Order::Unequal, false)),
        ("lt", known(Order::Less, false)),
        ("lo", known(Order::Less, false)),
        ("le", known(Order::LessEqual, false)),
        ("ls", known(Order::LessEqual, false)),
        ("gt", known(Order::Greater, false)),
        ("hi", known(Order::Greater, false)),
        ("ge", known(Order::GreaterEqual, false)),
        ("hs", known(Order::GreaterEqual, false)),
        ("equ", known(Order::Equal, true)),
        ("neu", known(Order::Unequal, true)),
        ("ltu", known(Order::Less, true)),
        ("leu", known(Order::LessEqual, true)),
        ("gtu", known(Order::Greater, true)),
        ("geu", known(Order::GreaterEqual, true)),
        ("num", known(Order::Numbers, false)),
        ("nan", known(Order::Nan, false)),
    ])
    .ok_or_else(|| "a comparison is missing".into())
}

/// How a comparison meets a third predicate.
#[derive(Clone, Copy)]
enum Combine {
    And,
    Or,
    Xor,
}

impl Combine {
    fn apply(how: Option<Self>, bits: u32, other: u32) -> u32 {
        match how {
            None => bits,
            Some(Self::And) => bits & other,
            Some(Self::Or) => bits | other,
            Some(Self::Xor) => bits ^ other,
        }
    }
}

fn combine(op: &mut Opcode<'_>) -> Option<Combine> {
    op.choose(&[("and", Combine::And), ("or", Combine::Or), ("xor", Combine::Xor)])
}

/// Builds something from the comparison of two values of a type.
trait Consumer {
    fn take<A: Lane>(self, f: impl Fn(A, A) -> bool + Send + Sync + 'static) -> Compute;
}

fn compare(consumer: impl Consumer, test: Test, ty: Type) -> Option<Compute> {
    macro_rules! integers {
        ($t:ty) => {
            match test.order {
                Order::Equal => consumer.take(|a: $t, b: $t| a == b),
                Order::Unequal => consumer.take(|a: $t, b: $t| a != b),
                Order::Less => consumer.take(|a: $t, b: $t| a < b),
                Order::LessEqual => consumer.take(|a: $t, b: $t| a <= b),
                Order::Greater => consumer.take(|a: $t, b: $t| a > b),
                Order::GreaterEqual => consumer.take(|a: $t, b: $t| a >= b),
                Order::Numbers | Order::Nan => return None,
            }
        };
    }
    macro_rules! floats {
        ($t:ty) => {{
            let nan = |a: $t, b: $t| a.is_nan() || b.is_nan();
            let u = test.unordered;
            match test.order {
                Order::Equal => consumer.take(move |a: $t, b| a == b || u && nan(a, b)),
                Order::Unequal => consumer.take(move |a: $t, b| if nan(a, b) { u } else { a != b }),
                Order::Less => consumer.take(move |a: $t, b| a < b || u && nan(a, b)),
                Order::LessEqual => consumer.take(move |a: $t, b| a <= b || u && nan(a, b)),
                Order::Greater => consumer.take(move |a: $t, b| a > b || u && nan(a, b)),
                Order::GreaterEqual => consumer.take(move |a: $t, b| a >= b || u && nan(a, b)),
                Order::Numbers => consumer.take(move |a: $t, b| !nan(a, b)),
                Order::Nan => consumer.take(move |a: $t, b| nan(a, b)),
            }
        }};
    }
    Some(match ty {
        Type::U16 | Type::B16 => integers!(u16),
        Type::S16 => integers!(i16),
        Type::U32 | Type::B32 => integers!(u32),
        Type::S32 => integers!(i32),
        Type::U64 | Type::B64 => integers!(u64),
        Type::S64 => integers!(i64),
        Type::F32 => floats!(f32),
        Type::F64 => floats!(f64),
        Type::F16 => floats!(f16),
        Type::Bf16 => floats!(bf16),
        _ => return None,
    })
}

/// `dst[0] = test`, `dst[1] = !test`, both combined with `src[2]`.
struct Setp(Option<Combine>);

impl Consumer for Setp {
    fn take<A: Lane>(self, f: impl Fn(A, A) -> bool + Send + Sync + 'static) -> Compute {
        Box::new(move |regs, o, mask| {
            let bits = lane_bits(regs, o, &f);
            let other = if self.0.is_some() { regs.predicate(o.src[2]) } else { 0 };
            regs.put_predicate(o.dst[0], mask, Combine::apply(self.0, bits, other));
            regs.put_predicate(o.dst[1], mask, Combine::apply(self.0, !bits, other));
        })
    }
}

fn setp<'a>(d: &mut Decoder<'a>, op: &mut Opcode<'_>, o: &[Operand<'a>]) -> Result<(), String> {
    let test = test(op)?;
    let combine = combine(op);
    op.has("ftz");
    let ty = op.ty()?;
    let expected = 3 + usize::from(combine.is_some());
    if o.len() != expected {
        return Err(format!("expected {expected} operands, found {}", o.len()));
    }
    let dst = match &o[0] {
        Operand::Pair(p, q) => [d.dest(p, Class::Predicate)?, d.dest(q, Class::Predicate)?],
        p => [d.dest(p, Class::Predicate)?, Slot::NONE],
    };
    let mut src = [d.source(&o[1], ty)?, d.source(&o[2], ty)?, Slot::NONE];
    if combine.is_some() {
        src[2] = d.source(&o[3], Type::Pred)?;
    }
    let compute = compare(Setp(combine), test, ty).ok_or("cannot compare this type")?;
    d.emit_compute(compute, &dst, &src);
    Ok(())
}

/// `dst[0]` = the given bits where the test holds, else zero.
struct Set(u32);

impl Consumer for Set {
    fn take<A: Lane>(self, f: impl Fn(A, A) -> bool + Send + Sync + 'static) -> Compute {
        Box::new(move |regs, o, mask| {
            let bits = lane_bits(regs, o, &f);
            let mut values = [0; LANES];
            for (lane, value) in values.iter_mut().enumerate() {
                *value = if bits >> lane & 1 == 1 { self.0 } else { 0 };
            }
            regs.put_words(o.dst[0], mask, &values);
        })
    }
}

fn set<'a>(d: &mut Decoder<'a>, op: &mut Opcode<'_>, o: &[Operand<'a>]) -> Result<(), String> {
    let test = test(op)?;
    op.has("ftz");
    let (result, ty) = (op.ty()?, op.ty()?);
    let bits = match result {
        Type::U32 | Type::S32 => u32::MAX,
        Type::F32 => 1f32.to_bits(),
        _ => return Err("the result has an unsupported type".into()),
    };
    let compute = compare(Set(bits), test, ty).ok_or("cannot compare this type")?;
    emit(d, o, compute, result, &[ty, ty])
}

fn selp<'a>(d: &mut Decoder<'a>, op: &mut Opcode<'_>, o: &[Operand<'a>]) -> Result<(), String> {
    let ty = op.ty()?;
    let compute = if ty.bytes() == 8 { select::<u64>() } else { select::<u32>() };
    emit(d, o, compute, ty, &[ty, ty, Type::Pred])
}

fn select<W: Word>() -> Compute {
    Box::new(|regs, o, mask| {
        let chosen = regs.predicate(o.src[2]);
        let (a, b) = (W::get(regs, o.src[0]), W::get(regs, o.src[1]));
        let mut r = [W::default(); LANES];
        for (lane, ((r, &a), &b)) in r.iter_mut().zip(a).zip(b).enumerate() {
            *r = if chosen >> lane & 1 == 1 { a } else { b };
        }
        W::put(regs, o.dst[0], mask, &r);
    })
}

fn slct<'a>(d: &mut Decoder<'a>, op: &mut Opcode<'_>, o: &[Operand<'a>]) -> Result<(), String> {
    op.has("ftz");
    let (ty, sign) = (op.ty()?, op.ty()?);
    let compute = match (ty.bytes(), sign) {
        (4, Type::S32) => ternary(|a: u32, b: u32, c: i32| if c >= 0 { a } else { b }),
        (4, Type::F32) => ternary(|a: u32, b: u32, c: f32| if c >= 0.0 { a } else { b }),
        (8, Type::S32) => ternary(|a: u64, b: u64, c: i32| if c >= 0 { a } else { b }),
        (8, Type::F32) => ternary(|a: u64, b: u64, c: f32| if c >= 0.0 { a } else { b }),
        _ => return Err("these types are not supported".into()),
    };
    emit(d, o, compute, ty, &[ty, ty, sign])
}

fn testp<'a>(d: &mut Decoder<'a>, op: &mut Opcode<'_>, o: &[Operand<'a>]) -> Result<(), String> {
    type Kind = fn(f32) -> bool;
    let kinds: [(&str, Kind); 6] = [
        ("finite", |x| x.is_finite()),
        ("infinite", |x| x.is_infinite()),
        ("number", |x| !x.is_nan()),
        ("notanumber", |x| x.is_nan()),
        ("normal", |x| x.is_normal()),
        ("subnormal", |x| x.is_subnormal()),
    ];
    let kind = op.choose(&kinds).ok_or("the kind of number is missing")?;
    if op.ty()? != Type::F32 {
        return Err("only f32 is supported".into());
    }
    let [dst, src] = exactly(o)?;
    let (dst, src) = (d.dest(dst, Class::Predicate)?, d.source(src, Type::F32)?);
    let compute = Setp(None).take(move |a: f32, _: f32| kind(a));
    d.emit_compute(compute, &[dst], &[src, src]);
    Ok(())
}
