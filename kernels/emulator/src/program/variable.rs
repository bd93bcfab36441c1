//! Variables of a module in global memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::memory::{Memory, window};
use crate::parse::{Initial, ParseError, Space, Variable};

/// A variable and what it begins with.
pub(crate) struct ModuleVariable {
    pub name: String,
    pub bytes: usize,
    initial: Vec<u8>,
    /// Addresses within: where, of which variable, plus what, and how many bytes.
    addresses: Vec<(usize, usize, i64, usize)>,
}

/// Variables of a module; each memory has its own instances.
pub(crate) struct Variables {
    /// Tells modules apart.
    number: u64,
    pub list: Vec<ModuleVariable>,
}

impl Variables {
    pub(crate) fn new(variables: &[Variable<'_>]) -> Result<Self, ParseError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut list = Vec::new();
        let global =
            || variables.iter().filter(|v| matches!(v.space, Space::Global | Space::Constant));
        for v in global() {
            let bytes = v.bytes.ok_or_else(|| {
                ParseError::new(v.line, format!("'{}' is defined in another module", v.name))
            })?;
            let mut variable = ModuleVariable {
                name: v.name.to_string(),
                bytes: bytes as usize,
                initial: vec![0; bytes as usize],
                addresses: Vec::new(),
            };
            let mut at = 0;
            for initial in &v.initial {
                match initial {
                    Initial::Bytes(bytes) => {
                        variable.initial[at..at + bytes.len()].copy_from_slice(bytes);
                        at += bytes.len();
                    }
                    Initial::Address { name, offset, element } => {
                        let of = global().position(|v| v.name == *name).ok_or_else(|| {
                            ParseError::new(v.line, format!("'{name}' is not declared"))
                        })?;
                        variable.addresses.push((at, of, *offset, *element as usize));
                        at += *element as usize;
                    }
                }
            }
            list.push(variable);
        }
        Ok(Self { number: NEXT.fetch_add(1, Ordering::Relaxed), list })
    }

    /// Where the variables lie in a memory.
    pub(crate) fn addresses(&self, memory: &Memory) -> Arc<[u64]> {
        memory.module(self.number, || {
            let addresses: Vec<u64> = self.list.iter().map(|v| memory.allocate(v.bytes)).collect();
            for (v, &address) in self.list.iter().zip(&addresses) {
                let mut bytes = v.initial.clone();
                for &(at, of, offset, element) in &v.addresses {
                    let value = addresses[of].wrapping_add(offset as u64);
                    bytes[at..at + element].copy_from_slice(&value.to_le_bytes()[..element]);
                }
                memory.write(address, &bytes).expect("the variable was just allocated");
            }
            addresses
        })
    }
}

/// Lays variables out one behind the other and gives their offsets.
pub(crate) struct Layout {
    pub end: u64,
}

impl Layout {
    pub(crate) fn shared() -> Self {
        Self { end: u64::from(window::SHARED_RESERVED) }
    }

    pub(crate) fn place(&mut self, align: u64, bytes: u64) -> u64 {
        let at = self.end.next_multiple_of(align);
        self.end = at.saturating_add(bytes);
        at
    }
}
