//! Matrix products of warpgroups and warps, and moves of small matrices.

use super::Type;
use super::decoder::{Decoder, exactly};
use super::op::{Op, Operands};
use super::opcode::Opcode;
use crate::parse::Operand;
use crate::registers::{Class, Slot};

/// The type of a product's factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Factor {
    Bf16,
    F16,
}

/// A product of a warpgroup, 64 x n x 16. `src[0]` is the descriptor of B, `src[1]` the predicate
/// whether to add to the accumulators, `src[2]` the descriptor of A; `more` has the accumulators,
/// behind them four registers of A if it has no descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Product {
    pub n: u16,
    pub factor: Factor,
    /// Accumulators are pairs of f16, not f32.
    pub half_result: bool,
    pub negate_a: bool,
    pub negate_b: bool,
    /// The factor lies with its M or N axis innermost, not K.
    pub transpose_a: bool,
    pub transpose_b: bool,
}

impl Product {
    /// Registers that hold the accumulators of a thread.
    pub(crate) fn accumulators(&self) -> usize {
        usize::from(self.n) / if self.half_result { 4 } else { 2 }
    }
}

/// Moves 8 x 8 matrices of 16-bit elements between shared memory (`src[0]`) and registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MoveMatrix {
    pub count: u8,
    pub transpose: bool,
    pub store: bool,
}

/// A product of one warp, 16 x 8 x k: `more` has A, B and C; `dst` the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WarpProduct {
    pub k: u8,
    pub factor: Factor,
}

/// Decodes the instruction if it is one of these.
pub(super) fn decode<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
) -> Result<bool, String> {
    match op.name {
        "wgmma" => group(d, op, o)?,
        "mma" => warp(d, op, o)?,
        "ldmatrix" | "stmatrix" => move_matrix(d, op, o)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn aligned(op: &mut Opcode<'_>) -> Result<(), String> {
    match op.has("sync") & op.has("aligned") {
        true => Ok(()),
        false => Err("'.sync.aligned' is missing".into()),
    }
}

fn group<'a>(d: &mut Decoder<'a>, op: &mut Opcode<'_>, o: &[Operand<'a>]) -> Result<(), String> {
    aligned(op)?;
    if op.has("mma_async") {
        return product(d, op, o);
    }
    let instruction = if op.has("fence") {
        exactly::<0>(o)?;
        Op::ProductFence
    } else if op.has("commit_group") {
        exactly::<0>(o)?;
        Op::ProductCommit
    } else if op.has("wait_group") {
        let [Operand::Integer(pending)] = o else {
            return Err("expected a number of groups".into());
        };
        Op::ProductWait { pending: *pending as u32 }
    } else {
        return Err("the operation is not supported".into());
    };
    d.emit(instruction, Operands::default());
    Ok(())
}

fn factor(ty: Type) -> Result<Factor, String> {
    match ty {
        Type::Bf16 => Ok(Factor::Bf16),
        Type::F16 => Ok(Factor::F16),
        _ => Err("factors must be bf16 or f16".into()),
    }
}

fn product<'a>(d: &mut Decoder<'a>, op: &mut Opcode<'_>, o: &[Operand<'a>]) -> Result<(), String> {
    let n: u16 = op
        .take(|m| m.strip_prefix("m64n")?.strip_suffix("k16")?.parse().ok())
        .ok_or("the shape is not m64nNk16")?;
    if !(8..=256).contains(&n) || !n.is_multiple_of(8) {
        return Err("N must be a multiple of 8 up to 256".into());
    }
    let (result, a, b) = (op.ty()?, op.ty()?, op.ty()?);
    let half_result = match (result, a) {
        (Type::F32, _) => false,
        (Type::F16, Type::F16) => true,
        _ => return Err("the result's type does not fit".into()),
    };
    if a != b {
        return Err("both factors must have the same type".into());
    }
    let factor = factor(a)?;
    let [accumulators, a, b, scale, rest @ ..] = o else {
        return Err("operands are missing".into());
    };
    let in_registers = matches!(a, Operand::Vector(_));
    let flags = rest.iter().map(|o| match o {
        Operand::Integer(v) => Ok(*v),
        _ => Err("expected a number".to_string()),
    });
    let flags: Vec<i64> = flags.collect::<Result<_, _>>()?;
    let (scale_a, scale_b, transpose_a, transpose_b) = match flags[..] {
        [a, b, transpose] if in_registers => (a, b, 0, transpose),
        [a, b, transpose_a, transpose_b] if !in_registers => (a, b, transpose_a, transpose_b),
        _ => return Err("the scales or transpositions do not fit".into()),
    };
    if [scale_a, scale_b].iter().any(|s| s.abs() != 1) {
        return Err("factors are scaled by 1 or -1".into());
    }
    let product = Product {
        n,
        factor,
        half_result,
        negate_a: scale_a < 0,
        negate_b: scale_b < 0,
        transpose_a: transpose_a != 0,
        transpose_b: transpose_b != 0,
    };
    let mut operands = Operands::default();
    operands.src[0] = d.source(b, Type::B64)?;
    operands.src[1] = d.source(scale, Type::Pred)?;
    let mut more = registers(d, accumulators, product.accumulators())?;
    match in_registers {
        true => more.extend(registers(d, a, 4)?),
        false => operands.src[2] = d.source(a, Type::B64)?,
    }
    operands.more = more.into();
    d.emit(Op::Product(product), operands);
    Ok(())
}

/// Registers in braces, all of them different.
fn registers<'a>(
    d: &mut Decoder<'a>,
    operand: &Operand<'a>,
    count: usize,
) -> Result<Vec<Slot>, String> {
    let list = match operand {
        Operand::Vector(list) => &list[..],
        one => std::slice::from_ref(one),
    };
    if list.len() != count {
        return Err(format!("expected {count} registers, found {}", list.len()));
    }
    list.iter().map(|o| d.matrix_register(o)).collect()
}

fn warp<'a>(d: &mut Decoder<'a>, op: &mut Opcode<'_>, o: &[Operand<'a>]) -> Result<(), String> {
    aligned(op)?;
    let k = op
        .choose(&[("m16n8k16", 16), ("m16n8k8", 8)])
        .ok_or("only the shapes m16n8k16 and m16n8k8 are supported")?;
    if !(op.has("row") & op.has("col")) {
        return Err("expected .row.col".into());
    }
    let (result, a, b, c) = (op.ty()?, op.ty()?, op.ty()?, op.ty()?);
    if result != Type::F32 || c != Type::F32 || a != b {
        return Err("only f32 accumulators are supported".into());
    }
    let [dst, first, second, third] = exactly(o)?;
    let mut operands = Operands::default();
    let Operand::Vector(list) = dst else {
        return Err("expected four registers".into());
    };
    if list.len() != 4 {
        return Err("expected four registers".into());
    }
    for (slot, o) in operands.dst.iter_mut().zip(list) {
        *slot = d.dest(o, Class::Word)?;
    }
    let halves = usize::from(k) / 8;
    let mut more = Vec::new();
    for (operand, count) in [(first, 2 * halves), (second, halves), (third, 4)] {
        let list = match operand {
            Operand::Vector(list) => &list[..],
            one => std::slice::from_ref(one),
        };
        if list.len() != count {
            return Err(format!("expected {count} registers, found {}", list.len()));
        }
        for o in list {
            more.push(d.source(o, Type::B32)?);
        }
    }
    operands.more = more.into();
    d.emit(Op::WarpProduct(WarpProduct { k, factor: factor(a)? }), operands);
    Ok(())
}

fn move_matrix<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
) -> Result<(), String> {
    aligned(op)?;
    let store = op.name == "stmatrix";
    if !op.has("m8n8") {
        return Err("only the shape m8n8 is supported".into());
    }
    let count: u8 = op.choose(&[("x1", 1), ("x2", 2), ("x4", 4)]).ok_or("the number is missing")?;
    let transpose = op.has("trans");
    let _ = (op.has("shared"), op.has("shared::cta"));
    if op.ty()? != Type::B16 {
        return Err("elements must have 16 bits".into());
    }
    let [first, second] = exactly(o)?;
    let (address, list) = if store { (first, second) } else { (second, first) };
    let list = match list {
        Operand::Vector(list) => &list[..],
        one => std::slice::from_ref(one),
    };
    if list.len() != usize::from(count) {
        return Err("the number of registers does not fit".into());
    }
    let mut operands = Operands::default();
    operands.src[0] = d.whole_address(address)?;
    for (i, o) in list.iter().enumerate() {
        match store {
            true => operands.src[1 + i] = d.source(o, Type::B32)?,
            false => operands.dst[i] = d.dest(o, Class::Word)?,
        }
    }
    d.emit(Op::MoveMatrix(MoveMatrix { count, transpose, store }), operands);
    Ok(())
}
