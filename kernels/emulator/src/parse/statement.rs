//! Statements of a kernel's body.

use super::ParseError;
use super::cursor::Cursor;
use super::directive::{Space, Variable, variable};
use super::lex::Token;
use super::operand::{Operand, operands};
use crate::isa::Type;

/// The predicate an instruction depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard<'a> {
    pub name: &'a str,
    pub negated: bool,
}

/// An instruction as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Instruction<'a> {
    pub line: u32,
    pub guard: Option<Guard<'a>>,
    /// With all its modifiers.
    pub opcode: &'a str,
    pub operands: Vec<Operand<'a>>,
}

/// Declared registers: a name, or a prefix with a count.
#[derive(Clone, Debug)]
pub(crate) struct Registers<'a> {
    pub line: u32,
    pub ty: Type,
    pub names: Vec<(&'a str, Option<u32>)>,
}

/// A statement of a body; braces are statements of their own.
#[derive(Clone, Debug)]
pub(crate) enum Statement<'a> {
    Open,
    Close,
    Label(u32, &'a str),
    Registers(Registers<'a>),
    Variable(Variable<'a>),
    /// A list of labels that `brx.idx` chooses from.
    Targets(&'a str, Vec<&'a str>),
    Instruction(Instruction<'a>),
}

/// Reads a body from its opening to its closing brace; neither is part of the list.
pub(crate) fn body<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<Statement<'a>>, ParseError> {
    cursor.expect('{')?;
    let (mut list, mut depth) = (Vec::new(), 1);
    loop {
        let line = cursor.line();
        if cursor.take('{') {
            depth += 1;
            list.push(Statement::Open);
        } else if cursor.take('}') {
            depth -= 1;
            if depth == 0 {
                return Ok(list);
            }
            list.push(Statement::Close);
        } else if cursor.take(';') {
        } else if let (Some(Token::Word(name)), Some(Token::Mark(':'))) =
            (cursor.peek(), cursor.peek_second())
        {
            cursor.word()?;
            cursor.expect(':')?;
            list.push(match cursor.take_word(".branchtargets") {
                true => Statement::Targets(name, names(cursor)?),
                false => Statement::Label(line, name),
            });
        } else if let Some(Token::Word(word)) = cursor.peek()
            && word.starts_with('.')
        {
            cursor.word()?;
            list.extend(directive(cursor, word)?);
        } else {
            list.push(Statement::Instruction(instruction(cursor)?));
        }
    }
}

fn directive<'a>(cursor: &mut Cursor<'a>, word: &str) -> Result<Option<Statement<'a>>, ParseError> {
    Ok(match word {
        ".reg" => Some(Statement::Registers(registers(cursor)?)),
        ".shared" => Some(Statement::Variable(variable(cursor, Space::Shared)?)),
        ".local" => Some(Statement::Variable(variable(cursor, Space::Local)?)),
        ".pragma" => {
            cursor.skip_past(';')?;
            None
        }
        // Source lines of a debugger; they end with the text line, not with a semicolon.
        ".loc" => {
            let line = cursor.line();
            while cursor.peek().is_some() && cursor.line() == line {
                cursor.next()?;
            }
            None
        }
        _ => return Err(cursor.error(format!("the directive '{word}' is not supported here"))),
    })
}

fn registers<'a>(cursor: &mut Cursor<'a>) -> Result<Registers<'a>, ParseError> {
    let line = cursor.line();
    let word = cursor.word()?;
    let ty = Type::parse(word.trim_start_matches('.'))
        .ok_or_else(|| ParseError::new(line, format!("'{word}' is not a register's type")))?;
    let mut names = Vec::new();
    loop {
        let name = cursor.word()?;
        let mut count = None;
        if cursor.take('<') {
            count = Some(cursor.integer()? as u32);
            cursor.expect('>')?;
        }
        names.push((name, count));
        if cursor.take(';') {
            return Ok(Registers { line, ty, names });
        }
        cursor.expect(',')?;
    }
}

fn names<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<&'a str>, ParseError> {
    let mut list = vec![cursor.word()?];
    while !cursor.take(';') {
        cursor.expect(',')?;
        list.push(cursor.word()?);
    }
    Ok(list)
}

fn instruction<'a>(cursor: &mut Cursor<'a>) -> Result<Instruction<'a>, ParseError> {
    let mut guard = None;
    if cursor.take('@') {
        let negated = cursor.take('!');
        guard = Some(Guard { name: cursor.word()?, negated });
    }
    let line = cursor.line();
    let opcode = cursor.word()?;
    Ok(Instruction { line, guard, opcode, operands: operands(cursor)? })
}
