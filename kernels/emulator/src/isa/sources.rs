//! Operands of the statement that is decoded: registers, numbers, addresses.

use super::alu;
use super::compute::unary;
use super::decoder::{Constant, Decoder, class};
use super::names::Symbol;
use super::special::Special;
use super::types::Type;
use crate::parse::Operand;
use crate::registers::{Class, Slot};

impl<'a> Decoder<'a> {
    /// A register that no statement names.
    pub(crate) fn temporary(&mut self, class: Class) -> Slot {
        let index = self.registers[class as usize];
        self.registers[class as usize] += 1;
        Slot::register(class, index)
    }

    /// The register of that name, which must have that class.
    pub(super) fn register(&self, name: &str, class: Class) -> Result<Slot, String> {
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
                let inverse = self.temporary(Class::Predicate);
                self.emit_always(alu::not_predicate(), inverse, source);
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
        self.emit_always(compute, sum, slot);
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
