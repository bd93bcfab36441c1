//! Names in a kernel's body. Braces open scopes: inline assembly repeats names and labels.

use std::collections::HashMap;

use crate::registers::{Class, Slot};

/// A variable or parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Symbol {
    /// Offset in the block's shared memory.
    Shared(u32),
    /// Offset in the thread's local memory.
    Local(u32),
    /// Offset in the parameters.
    Param(u32),
    /// Number of a module's variable.
    Global(usize),
}

struct Range<'a> {
    prefix: &'a str,
    class: Class,
    first: usize,
    count: u32,
}

#[derive(Default)]
struct Scope<'a> {
    parent: Option<usize>,
    registers: HashMap<&'a str, Slot>,
    ranges: Vec<Range<'a>>,
    symbols: HashMap<&'a str, Symbol>,
    labels: HashMap<&'a str, u32>,
    targets: HashMap<&'a str, Vec<&'a str>>,
}

/// All scopes of a body, and the one that is open.
pub(crate) struct Names<'a> {
    scopes: Vec<Scope<'a>>,
    open: usize,
}

impl<'a> Names<'a> {
    pub(crate) fn new() -> Self {
        Self { scopes: vec![Scope::default()], open: 0 }
    }

    /// The open scope, to look names up later.
    pub(crate) fn scope(&self) -> usize {
        self.open
    }

    pub(crate) fn enter(&mut self) {
        self.scopes.push(Scope { parent: Some(self.open), ..Scope::default() });
        self.open = self.scopes.len() - 1;
    }

    pub(crate) fn leave(&mut self) {
        if let Some(parent) = self.scopes[self.open].parent {
            self.open = parent;
        }
    }

    pub(crate) fn add_register(&mut self, name: &'a str, slot: Slot) {
        self.scopes[self.open].registers.insert(name, slot);
    }

    pub(crate) fn add_range(&mut self, prefix: &'a str, class: Class, first: usize, count: u32) {
        self.scopes[self.open].ranges.push(Range { prefix, class, first, count });
    }

    pub(crate) fn add_symbol(&mut self, name: &'a str, symbol: Symbol) {
        self.scopes[self.open].symbols.insert(name, symbol);
    }

    /// Whether the label is new in its scope.
    pub(crate) fn add_label(&mut self, name: &'a str, at: u32) -> bool {
        self.scopes[self.open].labels.insert(name, at).is_none()
    }

    pub(crate) fn add_targets(&mut self, name: &'a str, labels: Vec<&'a str>) {
        self.scopes[self.open].targets.insert(name, labels);
    }

    pub(crate) fn register(&self, name: &str) -> Option<Slot> {
        let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = name[prefix.len()..].parse::<u32>().ok();
        self.find(self.open, |scope| {
            scope.registers.get(name).copied().or_else(|| {
                let number = number?;
                let range = scope.ranges.iter().find(|r| r.prefix == prefix && number < r.count)?;
                Some(Slot::register(range.class, range.first + number as usize))
            })
        })
    }

    pub(crate) fn symbol(&self, name: &str) -> Option<Symbol> {
        self.find(self.open, |scope| scope.symbols.get(name).copied())
    }

    /// Where `name` stands, seen from `scope`.
    pub(crate) fn label(&self, scope: usize, name: &str) -> Option<u32> {
        self.find(scope, |scope| scope.labels.get(name).copied())
    }

    pub(crate) fn targets(&self, scope: usize, name: &str) -> Option<Vec<&'a str>> {
        self.find(scope, |scope| scope.targets.get(name).cloned())
    }

    fn find<T>(&self, from: usize, f: impl Fn(&Scope<'a>) -> Option<T>) -> Option<T> {
        let mut at = Some(from);
        while let Some(scope) = at {
            let scope = &self.scopes[scope];
            if let Some(found) = f(scope) {
                return Some(found);
            }
            at = scope.parent;
        }
        None
    }
}
