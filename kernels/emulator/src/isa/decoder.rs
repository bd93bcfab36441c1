//! Turns statements into decoded instructions.

use std::collections::HashMap;

use super::compute::Compute;
use super::names::Names;
use super::op::{Instr, Op, Operands};
use super::opcode::Opcode;
use super::special::Special;
use super::types::Type;
use super::{alu, asynchronous, atomic, cluster, control, matrix, memory, warp};
use crate::parse::{Instruction, Operand, ParseError, Registers};
use crate::registers::{Class, Slot};

/// A value that is the same in all lanes and known before the kernel runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Constant {
    Bits(u64),
    /// Address of an offset in the block's shared memory.
    Shared(u32),
    /// Address of a module's variable plus bytes.
    Global(usize, i64),
}

/// A label that an instruction waits for.
struct Patch<'a> {
    instr: usize,
    scope: usize,
    name: &'a str,
    line: u32,
}

/// State while a body is decoded.
pub(crate) struct Decoder<'a> {
    pub names: Names<'a>,
    pub code: Vec<Instr>,
    /// Registers of each class, so far.
    pub registers: [usize; 3],
    /// Constants of each class, so far.
    pub constants: [Vec<Constant>; 3],
    pub specials: Vec<(Special, Slot)>,
    /// Registers of warpgroups' products, and their names.
    pub matrix_registers: HashMap<Slot, &'a str>,
    pub(super) interned: HashMap<(Class, Constant), Slot>,
    patches: Vec<Patch<'a>>,
    guard: (Slot, bool),
    line: u32,
}

/// The class that values of a type have.
pub(crate) fn class(ty: Type) -> Class {
    match (ty, ty.bytes()) {
        (Type::Pred, _) => Class::Predicate,
        (_, 8) => Class::Double,
        _ => Class::Word,
    }
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(names: Names<'a>) -> Self {
        Self {
            names,
            code: Vec::new(),
            registers: [0; 3],
            constants: Default::default(),
            specials: Vec::new(),
            matrix_registers: HashMap::new(),
            interned: HashMap::new(),
            patches: Vec::new(),
            guard: (Slot::NONE, false),
            line: 0,
        }
    }

    pub(crate) fn declare(&mut self, registers: &Registers<'a>) -> Result<(), ParseError> {
        let class = class(registers.ty);
        for &(name, count) in &registers.names {
            let first = self.registers[class as usize];
            let number = count.unwrap_or(1) as usize;
            if first + number > MOST_REGISTERS {
                return Err(ParseError::new(registers.line, "too many registers"));
            }
            self.registers[class as usize] += number;
            match count {
                Some(count) => self.names.add_range(name, class, first, count),
                None => self.names.add_register(name, Slot::register(class, first)),
            }
        }
        Ok(())
    }

    pub(crate) fn label(&mut self, line: u32, name: &'a str) -> Result<(), ParseError> {
        match self.names.add_label(name, self.code.len() as u32) {
            true => Ok(()),
            false => Err(ParseError::new(line, format!("the label '{name}' is there twice"))),
        }
    }

    pub(crate) fn instruction(&mut self, i: &Instruction<'a>) -> Result<(), ParseError> {
        self.line = i.line;
        self.decode(i).map_err(|what| ParseError::new(i.line, format!("{}: {what}", i.opcode)))
    }

    fn decode(&mut self, i: &Instruction<'a>) -> Result<(), String> {
        self.guard = match i.guard {
            Some(guard) => (self.register(guard.name, Class::Predicate)?, guard.negated),
            None => (Slot::NONE, false),
        };
        let mut opcode = Opcode::new(i.opcode);
        let operands = &i.operands[..];
        let known = alu::decode(self, &mut opcode, operands)?
            || cluster::decode(self, &mut opcode, operands)?
            || asynchronous::decode(self, &mut opcode, operands)?
            || matrix::decode(self, &mut opcode, operands)?
            || atomic::decode_async(self, &mut opcode, operands)?
            || atomic::decode(self, &mut opcode, operands)?
            || control::decode(self, &mut opcode, operands)?
            || memory::decode(self, &mut opcode, operands)?
            || warp::decode(self, &mut opcode, operands)?;
        match known {
            true => opcode.finish(),
            false => Err("the instruction is not supported".into()),
        }
    }

    /// Ends the body: labels get their places, and instructions that touch registers of products
    /// are marked.
    pub(crate) fn finish(&mut self) -> Result<(), ParseError> {
        // Falling off the end is leaving.
        self.line = self.code.last().map_or(0, |i| i.line);
        self.guard = (Slot::NONE, false);
        self.emit(Op::Exit, Operands::default());
        for patch in std::mem::take(&mut self.patches) {
            let find = |name: &str| {
                self.names.label(patch.scope, name).ok_or_else(|| {
                    ParseError::new(patch.line, format!("the label '{name}' is unknown"))
                })
            };
            match &mut self.code[patch.instr].op {
                Op::Branch { target } => *target = find(patch.name)?,
                Op::BranchTable { targets } => {
                    let list = self.names.targets(patch.scope, patch.name).ok_or_else(|| {
                        let what = format!("the list of labels '{}' is unknown", patch.name);
                        ParseError::new(patch.line, what)
                    })?;
                    *targets = list.into_iter().map(find).collect::<Result<_, _>>()?;
                }
                _ => unreachable!("only branches name labels"),
            }
        }
        for instr in &mut self.code {
            let Operands { dst, src, more } = &instr.operands;
            let mut all = dst.iter().chain(src).chain(more);
            instr.matrix = all.any(|slot| self.matrix_registers.contains_key(slot))
                && !matches!(instr.op, Op::Product(_));
        }
        Ok(())
    }

    /// Adds an instruction with the guard of the statement that is decoded.
    pub(crate) fn emit(&mut self, op: Op, operands: Operands) {
        let (guard, guard_negated) = self.guard;
        let line = self.line;
        self.code.push(Instr { op, operands, guard, guard_negated, matrix: false, line });
    }

    /// Adds a branch to a label, or to a list of labels.
    pub(crate) fn emit_branch(&mut self, op: Op, operands: Operands, name: &'a str) {
        let patch =
            Patch { instr: self.code.len(), scope: self.names.scope(), name, line: self.line };
        self.patches.push(patch);
        self.emit(op, operands);
    }

    /// Adds a computation that does not depend on the statement's guard.
    pub(super) fn emit_always(&mut self, compute: Compute, dst: Slot, src: Slot) {
        let guard = std::mem::replace(&mut self.guard, (Slot::NONE, false));
        self.emit_compute(compute, &[dst], &[src]);
        self.guard = guard;
    }

    /// Adds a computation of `dst` from `src`.
    pub(crate) fn emit_compute(&mut self, compute: Compute, dst: &[Slot], src: &[Slot]) {
        let mut operands = Operands::default();
        operands.dst[..dst.len()].copy_from_slice(dst);
        operands.src[..src.len()].copy_from_slice(src);
        self.emit(Op::Compute(compute), operands);
    }
}

/// Far more than any kernel has.
const MOST_REGISTERS: usize = 1 << 20;

/// The operands as an array.
pub(crate) fn exactly<'o, 'a, const N: usize>(
    operands: &'o [Operand<'a>],
) -> Result<&'o [Operand<'a>; N], String> {
    operands.try_into().map_err(|_| format!("expected {N} operands, found {}", operands.len()))
}
