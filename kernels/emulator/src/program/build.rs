//! Decodes a kernel's body.

use std::sync::Arc;

use super::Variables;
use super::allocate::allocate;
use super::kernel::{ParamLayout, Program};
use super::variable::Layout;
use crate::isa::{Decoder, Direction, Names, Op, Symbol};
use crate::parse::{Entry, File, ParseError, Space, Statement, Variable};

/// Most static shared memory a compiler accepts.
const MOST_STATIC_SHARED: u64 = 48 * 1024;
/// Most local memory a thread has.
const MOST_LOCAL: u64 = 512 * 1024;

pub(super) fn program(
    file: &File<'_>,
    entry: &Entry<'_>,
    variables: &Arc<Variables>,
    text: &Arc<str>,
) -> Result<Program, ParseError> {
    let mut names = Names::new();
    for (number, v) in variables.list.iter().enumerate() {
        names.add_symbol(&v.name, Symbol::Global(number));
    }
    let params = entry.params.iter().map(|p| {
        names.add_symbol(p.name, Symbol::Param(p.offset));
        ParamLayout { offset: p.offset as usize, bytes: p.bytes as usize }
    });
    let params = params.collect();
    // Static shared memory comes first, dynamic behind all of it.
    let mut shared = Layout::shared();
    let mut places = Vec::new();
    let inside = entry.body.iter().filter_map(|s| match s {
        Statement::Variable(v) => Some(v),
        _ => None,
    });
    let all: Vec<&Variable<'_>> =
        file.variables.iter().chain(inside).filter(|v| v.space == Space::Shared).collect();
    for v in all.iter().filter(|v| v.bytes.is_some()) {
        places.push((v.name, v.line, shared.place(v.align, v.bytes.unwrap_or(0))));
    }
    let start = u64::from(crate::memory::window::SHARED_RESERVED);
    let static_shared = shared.end - start;
    let align = all.iter().filter(|v| v.bytes.is_none()).map(|v| v.align).max().unwrap_or(16);
    let dynamic = shared.end.next_multiple_of(align.max(16));
    for v in all.iter().filter(|v| v.bytes.is_none()) {
        places.push((v.name, v.line, dynamic));
    }
    if static_shared > MOST_STATIC_SHARED {
        let what = format!("{static_shared} bytes of static shared memory are too many");
        return Err(ParseError::new(0, what));
    }
    for v in file.variables.iter().filter(|v| v.space == Space::Shared) {
        let place = places.iter().find(|p| p.0 == v.name).map_or(0, |p| p.2);
        names.add_symbol(v.name, Symbol::Shared(place as u32));
    }
    let mut decoder = Decoder::new(names);
    let mut local = Layout { end: 0 };
    for statement in &entry.body {
        match statement {
            Statement::Open => decoder.names.enter(),
            Statement::Close => decoder.names.leave(),
            Statement::Label(line, name) => decoder.label(*line, name)?,
            Statement::Registers(registers) => decoder.declare(registers)?,
            Statement::Targets(name, labels) => decoder.names.add_targets(name, labels.clone()),
            Statement::Instruction(i) => decoder.instruction(i)?,
            Statement::Variable(v) if v.space == Space::Shared => {
                let place = places.iter().find(|p| p.0 == v.name && p.1 == v.line);
                let place = place.map_or(0, |p| p.2);
                decoder.names.add_symbol(v.name, Symbol::Shared(place as u32));
            }
            Statement::Variable(v) => {
                let place = local.place(v.align, v.bytes.unwrap_or(0));
                if local.end > MOST_LOCAL {
                    return Err(ParseError::new(v.line, "too much local memory"));
                }
                decoder.names.add_symbol(v.name, Symbol::Local(place as u32));
            }
        }
    }
    decoder.finish()?;
    let async_loads = decoder.code.iter().any(|i| match &i.op {
        Op::Bulk(copy) => copy.direction == Direction::Load,
        _ => false,
    });
    let async_reads = decoder.code.iter().any(|i| match &i.op {
        Op::Bulk(copy) => copy.direction != Direction::Load,
        Op::Product(_) => true,
        _ => false,
    });
    let fixed = decoder.matrix_registers.keys().copied().collect();
    let (registers, moved) =
        allocate(&mut decoder.code, decoder.registers, &mut decoder.specials, &fixed);
    let matrix_registers =
        decoder.matrix_registers.iter().map(|(slot, name)| (moved[slot], name.to_string()));
    Ok(Program {
        name: entry.name.to_string(),
        params,
        static_shared: static_shared as u32,
        dynamic_start: (dynamic - start) as u32,
        local_bytes: local.end as u32,
        max_threads: entry.max_threads,
        required_threads: entry.required_threads,
        max_registers: entry.max_registers,
        cluster: entry.cluster,
        code: decoder.code,
        async_reads,
        async_loads,
        registers,
        constants: decoder.constants,
        specials: decoder.specials,
        matrix_registers: matrix_registers.collect(),
        variables: Arc::clone(variables),
        text: Arc::clone(text),
    })
}
