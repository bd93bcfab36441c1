//! Declarations of variables.

use super::ParseError;
use super::cursor::Cursor;
use super::lex::Token;
use super::operand::Operand;
use crate::isa::Type;

/// Where a variable lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Global,
    Constant,
    Shared,
    Local,
}

/// A value a variable begins with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Initial<'a> {
    /// Bytes of one element.
    Bytes(Vec<u8>),
    /// The address of a variable, plus bytes; `generic` if in the generic window.
    Address { name: &'a str, offset: i64, element: u64 },
}

/// A declared variable.
#[derive(Clone, Debug)]
pub(crate) struct Variable<'a> {
    pub line: u32,
    pub space: Space,
    pub name: &'a str,
    pub align: u64,
    /// Bytes; `None` for an `.extern` array without a length.
    pub bytes: Option<u64>,
    pub initial: Vec<Initial<'a>>,
}

/// What a type and name of a declaration say.
pub(crate) struct Shape<'a> {
    pub name: &'a str,
    pub align: u64,
    pub element: Type,
    pub count: Option<u64>,
}

/// Reads `.align N .type name[a][b]` and what may stand between.
pub(crate) fn shape<'a>(cursor: &mut Cursor<'a>) -> Result<Shape<'a>, ParseError> {
    let (mut align, mut element, mut vector) = (None, None, 1u64);
    let name = loop {
        let word = cursor.word()?;
        match word {
            ".align" => align = Some(cursor.integer()? as u64),
            ".v2" => vector = 2,
            ".v4" => vector = 4,
            ".ptr" | ".global" | ".const" | ".shared" | ".local" | ".attribute(.managed)" => {}
            _ => match word.strip_prefix('.') {
                Some(ty) => {
                    let ty = Type::parse(ty)
                        .ok_or_else(|| cursor.error(format!("'{word}' is not a type")))?;
                    element = Some(ty);
                }
                None => break word,
            },
        }
    };
    let element = element.ok_or_else(|| cursor.error(format!("'{name}' has no type")))?;
    let mut count = Some(vector);
    while cursor.take('[') {
        if cursor.take(']') {
            count = None;
        } else {
            let length = cursor.integer()? as u64;
            count = count.and_then(|c| c.checked_mul(length));
            cursor.expect(']')?;
        }
    }
    let align = align.unwrap_or(element.bytes() * vector);
    if !align.is_power_of_two() {
        return Err(cursor.error(format!("the alignment of '{name}' is no power of two")));
    }
    Ok(Shape { name, align, element, count })
}

/// Reads a variable behind its space, up to and including the semicolon.
pub(crate) fn variable<'a>(
    cursor: &mut Cursor<'a>,
    space: Space,
) -> Result<Variable<'a>, ParseError> {
    let line = cursor.line();
    let shape = shape(cursor)?;
    let mut initial = Vec::new();
    if cursor.take('=') {
        values(cursor, shape.element, &mut initial, 0)?;
    }
    cursor.expect(';')?;
    let given = (initial.len() as u64).saturating_mul(shape.element.bytes());
    let bytes = match shape.count {
        Some(count) => Some(count.saturating_mul(shape.element.bytes())),
        None if given > 0 => Some(given),
        None => None,
    };
    if bytes.is_some_and(|b| b > LARGEST) || shape.align > LARGEST {
        return Err(ParseError::new(line, format!("'{}' is too large", shape.name)));
    }
    if bytes.is_some_and(|b| given > b) {
        return Err(ParseError::new(line, format!("'{}' has too many values", shape.name)));
    }
    Ok(Variable { line, space, name: shape.name, align: shape.align, bytes, initial })
}

/// Far more than any variable has.
const LARGEST: u64 = 1 << 30;
/// Most axes of an array that is given values.
const MOST_AXES: u32 = 8;

fn values<'a>(
    cursor: &mut Cursor<'a>,
    element: Type,
    list: &mut Vec<Initial<'a>>,
    axes: u32,
) -> Result<(), ParseError> {
    if axes > MOST_AXES {
        return Err(cursor.error("the braces are too deep"));
    }
    if cursor.take('{') {
        loop {
            values(cursor, element, list, axes + 1)?;
            if cursor.take('}') {
                return Ok(());
            }
            cursor.expect(',')?;
        }
    }
    if let Some(Token::Word(word)) = cursor.peek()
        && !word.starts_with(|c: char| c.is_ascii_digit())
    {
        cursor.word()?;
        let name = match cursor.take('(') {
            true if word == "generic" => {
                let name = cursor.word()?;
                cursor.expect(')')?;
                name
            }
            true => return Err(cursor.error(format!("the initialiser '{word}(' is unknown"))),
            false => word,
        };
        let offset = if cursor.take('+') { cursor.integer()? } else { 0 };
        list.push(Initial::Address { name, offset, element: element.bytes() });
        return Ok(());
    }
    let bits = match super::operand::literal(cursor)? {
        Operand::Integer(value) => value as u64,
        Operand::Single(bits) if element.bytes() == 4 => u64::from(bits),
        Operand::Double(bits) if element == Type::F64 => bits,
        Operand::Double(bits) if element == Type::F32 => {
            u64::from((f64::from_bits(bits) as f32).to_bits())
        }
        _ => return Err(cursor.error("an initial value does not fit its type")),
    };
    list.push(Initial::Bytes(bits.to_le_bytes()[..element.bytes() as usize].to_vec()));
    Ok(())
}
