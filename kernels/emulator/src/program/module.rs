//! A parsed module.

use std::sync::Arc;

use super::kernel::{Kernel, Program};
use super::{Variables, build};
use crate::memory::Memory;
use crate::parse::{File, ParseError};

/// The module has no kernel of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the module has no kernel '{name}'; it has: {known}")]
pub struct UnknownKernel {
    /// The name asked for.
    pub name: String,
    /// The names it has.
    pub known: String,
}

/// PTX, decoded.
pub struct Module {
    kernels: Vec<Kernel>,
    variables: Arc<Variables>,
}

impl Module {
    /// Decodes PTX text.
    ///
    /// # Errors
    /// With the line, if the text is not PTX, or uses what the emulator does not know: nothing is
    /// left out silently.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let file = File::parse(text)?;
        let variables = Arc::new(Variables::new(&file.variables)?);
        let text: Arc<str> = text.into();
        let kernels = file
            .entries
            .iter()
            .map(|entry| build::program(&file, entry, &variables, &text))
            .map(|program| program.map(|p: Program| Kernel(Arc::new(p))))
            .collect::<Result<_, _>>()?;
        Ok(Self { kernels, variables })
    }

    /// The kernel of that name.
    ///
    /// # Errors
    /// If there is none.
    pub fn kernel(&self, name: &str) -> Result<Kernel, UnknownKernel> {
        self.kernels.iter().find(|k| k.name() == name).cloned().ok_or_else(|| UnknownKernel {
            name: name.to_string(),
            known: self.kernels.iter().map(Kernel::name).collect::<Vec<_>>().join(", "),
        })
    }

    /// All kernels, in the order of the text.
    pub fn kernels(&self) -> &[Kernel] {
        &self.kernels
    }

    /// Address and bytes of a variable of the module in `memory`; the first use puts it there.
    pub fn variable(&self, memory: &Memory, name: &str) -> Option<(u64, usize)> {
        let number = self.variables.list.iter().position(|v| v.name == name)?;
        let address = self.variables.addresses(memory)[number];
        Some((address, self.variables.list[number].bytes))
    }
}
