//! A kernel: decoded instructions and what they need.

use std::collections::HashMap;
use std::sync::Arc;

use super::Variables;
use crate::isa::{Constant, Instr, Special};
use crate::registers::Slot;

/// Where a parameter lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamLayout {
    /// Bytes from the first parameter's first byte.
    pub offset: usize,
    /// Bytes it has.
    pub bytes: usize,
}

/// Registers of a multiprocessor.
pub(crate) const REGISTERS: u32 = 65_536;

/// Everything about a kernel that does not change between launches.
pub(crate) struct Program {
    pub name: String,
    pub params: Vec<ParamLayout>,
    pub static_shared: u32,
    /// Where dynamic shared memory begins, counted like [`Program::static_shared`].
    pub dynamic_start: u32,
    pub local_bytes: u32,
    pub max_threads: Option<[u32; 3]>,
    pub required_threads: Option<[u32; 3]>,
    pub max_registers: Option<u32>,
    pub cluster: Option<[u32; 3]>,
    pub code: Vec<Instr>,
    /// Whether something reads shared memory by the async proxy.
    pub async_reads: bool,
    /// Whether something reads global memory by the async proxy.
    pub async_loads: bool,
    pub registers: [usize; 3],
    pub constants: [Vec<Constant>; 3],
    pub specials: Vec<(Special, Slot)>,
    /// Names of the registers of warpgroups' products.
    pub matrix_registers: HashMap<Slot, String>,
    pub variables: Arc<Variables>,
    /// The whole text, for faults.
    pub text: Arc<str>,
}

impl Program {
    /// Registers per thread at the start, as far as the kernel's bounds tell.
    pub(crate) fn start_registers(&self) -> Option<u32> {
        let threads = self.max_threads.or(self.required_threads)?.iter().product::<u32>();
        let fair = REGISTERS / threads.max(1) / 8 * 8;
        Some(self.max_registers.unwrap_or(255).min(fair).min(255))
    }

    /// The text of a line, cut if it is long.
    pub(crate) fn line(&self, line: u32) -> String {
        const LONGEST: usize = 160;
        let text = self.text.lines().nth(line.saturating_sub(1) as usize).unwrap_or("").trim();
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text.to_string(),
        }
    }
}

/// A kernel of a module. Cloning is cheap.
#[derive(Clone)]
pub struct Kernel(pub(crate) Arc<Program>);

impl Kernel {
    /// The entry's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Parameters in order.
    pub fn params(&self) -> &[ParamLayout] {
        &self.0.params
    }

    /// Bytes of all parameters.
    pub fn param_bytes(&self) -> usize {
        self.0.params.last().map_or(0, |p| p.offset + p.bytes)
    }

    /// Bytes of statically declared shared memory.
    pub fn static_shared(&self) -> u32 {
        self.0.static_shared
    }

    /// Bytes of local memory per thread.
    pub fn local_bytes(&self) -> u32 {
        self.0.local_bytes
    }

    /// Most threads a block may have.
    pub fn max_threads(&self) -> u32 {
        let limit = self.0.required_threads.or(self.0.max_threads);
        limit.map_or(1024, |[x, y, z]| x.saturating_mul(y).saturating_mul(z).min(1024))
    }

    /// Registers per thread that the kernel asks for, if it does.
    pub fn max_registers(&self) -> Option<u32> {
        self.0.max_registers
    }

    /// Blocks of a cluster, if the kernel fixes them.
    pub fn cluster(&self) -> Option<[u32; 3]> {
        self.0.cluster
    }
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel").field("name", &self.0.name).finish_non_exhaustive()
    }
}
