//! From PTX text to statements. Names are not resolved here.

mod cursor;
mod directive;
mod lex;
mod module;
mod operand;
mod statement;

pub(crate) use directive::{Initial, Space, Variable};
pub(crate) use module::{Entry, File};
pub(crate) use operand::Operand;
pub(crate) use statement::{Instruction, Registers, Statement};

/// The text is not PTX that the emulator executes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ParseError {
    /// Line of the text, counted from 1.
    pub line: u32,
    /// What is wrong with it.
    pub what: String,
}

impl ParseError {
    pub(crate) fn new(line: u32, what: impl Into<String>) -> Self {
        Self { line, what: what.into() }
    }
}
