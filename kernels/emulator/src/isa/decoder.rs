//! Turns statements into decoded instructions.

use std::collections::HashMap;

use super::compute::{Compute, unary};
use super::names::{Names, Symbol};
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
    interned: HashMap<(Class, Constant), Slot>,
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

    /// Adds a computation of `dst` from `src`.
    pub(crate) fn emit_compute(&mut self, compute: Compute, dst: &[Slot], src: &[Slot]) {
        let mut operands = Operands::default();
        operands.dst[..dst.len()].copy_from_slice(dst);
        operands.src[..src.len()].copy_from_slice(src);
        self.emit(Op::Compute(compute), operands);
    }

    /// A register that no statement names.
    pub(crate) fn temporary(&mut self, class: Class) -> Slot {
        let index = self.registers[class as usize];
        self.registers[class as usize] += 1;
        Slot::register(class, index)
    }

    fn register(&self, name: &str, class: Class) -> Result<Slot, String> {
        let slot = self
            .names
            .register(name)
            .ok_or_else(|| format!("'{name}' is not a declared register"))?;
        match slot.class() == class {
            true => Ok(slot),
            false => Err(format!("the register '{name}' has the wrong size here")),
        }
    }

    /// A register of whatever class.
    pub(crate) fn any_register(&self, operand: &Operand<'a>) -> Option<Slot> {
        match operand {
            Operand::Name(name) => self.names.register(name),
            _ => None,
        }
    }

    /// A destination; `_` is none.
    pub(crate) fn dest(&self, operand: &Operand<'a>, class: Class) -> Result<Slot, String> {
        match operand {
            Operand::Sink => Ok(Slot::NONE),
            Operand::Name(name) => self.register(name, class),
            _ => Err("a destination must be a register".into()),
        }
    }

    /// A register that a warpgroup's product reads or writes while the thread goes on.
    pub(crate) fn matrix_register(&mut self, operand: &Operand<'a>) -> Result<Slot, String> {
        let Operand::Name(name) = operand else {
            return Err("expected a register".into());
        };
        let slot = self.register(name, Class::Word)?;
        self.matrix_registers.insert(slot, name);
        Ok(slot)
    }

    /// A source of a type.
    pub(crate) fn source(&mut self, operand: &Operand<'a>, ty: Type) -> Result<Slot, String> {
        let class = class(ty);
        let bits = match *operand {
            Operand::Integer(v) => v as u64,
            Operand::Single(v) => u64::from(v),
            Operand::Double(v) if ty == Type::F32 => {
                u64::from((f64::from_bits(v) as f32).to_bits())
            }
            Operand::Double(v) if class == Class::Double => v,
            Operand::Double(_) => return Err("a fraction needs a type f32 or f64".into()),
            Operand::Name(name) => return self.named(name, class),
            Operand::Offset(name, offset) => return self.symbol(name, offset, class),
            Operand::Not(name) => {
                let source = self.register(name, Class::Predicate)?;
                let guard = std::mem::replace(&mut self.guard, (Slot::NONE, false));
                let inverse = self.temporary(Class::Predicate);
                self.emit_compute(alu::not_predicate(), &[inverse], &[source]);
                self.guard = guard;
                return Ok(inverse);
            }
            _ => return Err("a source must be a register or a number".into()),
        };
        Ok(self.bits(bits, ty))
    }

    /// A constant of a type.
    pub(crate) fn bits(&mut self, bits: u64, ty: Type) -> Slot {
        let bits = match ty.bytes() {
            _ if ty == Type::Pred => u64::from(bits != 0) * u64::from(u32::MAX),
            1 => bits & 0xFF,
            2 => bits & 0xFFFF,
            4 => bits & 0xFFFF_FFFF,
            _ => bits,
        };
        self.constant(Constant::Bits(bits), class(ty))
    }

    fn constant(&mut self, constant: Constant, class: Class) -> Slot {
        let list = &mut self.constants[class as usize];
        *self.interned.entry((class, constant)).or_insert_with(|| {
            list.push(constant);
            Slot::constant(class, list.len() - 1)
        })
    }

    fn named(&mut self, name: &str, class: Class) -> Result<Slot, String> {
        if self.names.register(name).is_some() {
            return self.register(name, class);
        }
        let Some(bare) = name.strip_prefix('%') else {
            return self.symbol(name, 0, class);
        };
        let special = Special::parse(bare)
            .ok_or_else(|| format!("'{name}' is neither declared nor a special register"))?;
        if let Some(&(_, slot)) =
            self.specials.iter().find(|s| s.0 == special && s.1.class() == class)
        {
            return Ok(slot);
        }
        if special.predicate() != (class == Class::Predicate) {
            return Err(format!("the special register '{name}' has another type"));
        }
        let slot = self.temporary(class);
        self.specials.push((special, slot));
        Ok(slot)
    }

    fn symbol(&mut self, name: &str, offset: i64, class: Class) -> Result<Slot, String> {
        if class == Class::Predicate {
            return Err(format!("'{name}' is not a predicate"));
        }
        let plus = |base: u32| (i64::from(base) + offset) as u64;
        let constant = match self.names.symbol(name) {
            Some(Symbol::Shared(base)) => Constant::Shared(plus(base) as u32),
            Some(Symbol::Local(base) | Symbol::Param(base)) => Constant::Bits(plus(base)),
            Some(Symbol::Global(number)) => Constant::Global(number, offset),
            None => return Err(format!("'{name}' is not declared")),
        };
        Ok(self.constant(constant, class))
    }

    /// An address in one register, its offset added.
    pub(crate) fn whole_address(&mut self, operand: &Operand<'a>) -> Result<Slot, String> {
        let (slot, offset) = self.address(operand)?;
        if offset == 0 {
            return Ok(slot);
        }
        let sum = self.temporary(slot.class());
        let compute = match slot.class() {
            Class::Double => unary(move |a: u64| a.wrapping_add(offset as u64)),
            _ => unary(move |a: u32| a.wrapping_add(offset as u32)),
        };
        let guard = std::mem::replace(&mut self.guard, (Slot::NONE, false));
        self.emit_compute(compute, &[sum], &[slot]);
        self.guard = guard;
        Ok(sum)
    }

    /// An address: a register or constant of 32 or 64 bits, and bytes to add.
    pub(crate) fn address(&mut self, operand: &Operand<'a>) -> Result<(Slot, i64), String> {
        let Operand::Address { base, offset, coordinates } = operand else {
            return Err("an address stands in brackets".into());
        };
        if !coordinates.is_empty() {
            return Err("coordinates have no place here".into());
        }
        match &**base {
            Operand::Name(name) => match self.names.register(name) {
                Some(slot) if slot.class() != Class::Predicate => Ok((slot, *offset)),
                Some(_) => Err("a predicate is no address".into()),
                None => Ok((self.symbol(name, *offset, Class::Double)?, 0)),
            },
            Operand::Integer(value) => Ok((self.bits((value + offset) as u64, Type::U64), 0)),
            _ => Err("an address begins with a register or a name".into()),
        }
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
