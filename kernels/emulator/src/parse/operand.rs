//! Operands of instructions.

use super::ParseError;
use super::cursor::{Cursor, integer};
use super::lex::Token;

/// An operand as it is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand<'a> {
    /// A register, variable, parameter, label or special register.
    Name(&'a str),
    /// A variable's address plus bytes.
    Offset(&'a str, i64),
    /// Bits of an integer, sign-extended.
    Integer(i64),
    /// `0f`: bits of a single.
    Single(u32),
    /// `0d` or a decimal fraction: bits of a double.
    Double(u64),
    /// `!%p`.
    Not(&'a str),
    /// `a|b`: two destinations.
    Pair(Box<Operand<'a>>, Box<Operand<'a>>),
    /// `{a, b, ...}`.
    Vector(Vec<Operand<'a>>),
    /// `[base + offset, {coordinates}]`.
    Address { base: Box<Operand<'a>>, offset: i64, coordinates: Vec<Operand<'a>> },
    /// `_`: a destination nobody wants.
    Sink,
}

/// Operands up to the semicolon, which is taken.
pub(crate) fn operands<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<Operand<'a>>, ParseError> {
    let mut list = Vec::new();
    if cursor.take(';') {
        return Ok(list);
    }
    loop {
        list.push(operand(cursor)?);
        if cursor.take(';') {
            return Ok(list);
        }
        cursor.expect(',')?;
    }
}

fn operand<'a>(cursor: &mut Cursor<'a>) -> Result<Operand<'a>, ParseError> {
    let first = simple(cursor)?;
    if cursor.take('|') {
        return Ok(Operand::Pair(Box::new(first), Box::new(simple(cursor)?)));
    }
    Ok(first)
}

fn simple<'a>(cursor: &mut Cursor<'a>) -> Result<Operand<'a>, ParseError> {
    match cursor.peek() {
        Some(Token::Mark('{')) => vector(cursor),
        Some(Token::Mark('[')) => address(cursor),
        Some(Token::Mark('!')) => {
            cursor.take('!');
            Ok(Operand::Not(cursor.word()?))
        }
        Some(Token::Mark('-')) => {
            cursor.take('-');
            match atom(cursor)? {
                Operand::Integer(v) => Ok(Operand::Integer(v.wrapping_neg())),
                Operand::Double(v) => Ok(Operand::Double((-f64::from_bits(v)).to_bits())),
                _ => Err(cursor.error("a minus sign stands before numbers only")),
            }
        }
        _ => atom(cursor),
    }
}

fn atom<'a>(cursor: &mut Cursor<'a>) -> Result<Operand<'a>, ParseError> {
    let word = cursor.word()?;
    if word == "_" {
        return Ok(Operand::Sink);
    }
    if !word.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(match cursor.take('+') {
            true => Operand::Offset(word, cursor.integer()?),
            false => Operand::Name(word),
        });
    }
    number(word).ok_or_else(|| cursor.error(format!("'{word}' is not a number")))
}

fn number<'a>(word: &str) -> Option<Operand<'a>> {
    if let Some(bits) = word.strip_prefix("0f").or(word.strip_prefix("0F")) {
        return Some(Operand::Single(u32::from_str_radix(bits, 16).ok()?));
    }
    if let Some(bits) = word.strip_prefix("0d").or(word.strip_prefix("0D")) {
        return Some(Operand::Double(u64::from_str_radix(bits, 16).ok()?));
    }
    if let Some(value) = integer(word) {
        return Some(Operand::Integer(value));
    }
    Some(Operand::Double(word.parse::<f64>().ok()?.to_bits()))
}

fn vector<'a>(cursor: &mut Cursor<'a>) -> Result<Operand<'a>, ParseError> {
    cursor.expect('{')?;
    let mut list = Vec::new();
    loop {
        if let Some(Token::Mark('{' | '[')) = cursor.peek() {
            return Err(cursor.error("braces hold registers and numbers only"));
        }
        list.push(simple(cursor)?);
        if cursor.take('}') {
            return Ok(Operand::Vector(list));
        }
        cursor.expect(',')?;
    }
}

fn address<'a>(cursor: &mut Cursor<'a>) -> Result<Operand<'a>, ParseError> {
    cursor.expect('[')?;
    if let Some(Token::Mark('{' | '[')) = cursor.peek() {
        return Err(cursor.error("an address begins with a register or a name"));
    }
    let (base, mut offset) = match simple(cursor)? {
        Operand::Offset(name, offset) => (Operand::Name(name), offset),
        base => (base, 0),
    };
    if cursor.peek() == Some(Token::Mark('-')) {
        offset = cursor.integer()?;
    }
    let mut coordinates = Vec::new();
    if cursor.take(',') {
        match vector(cursor)? {
            Operand::Vector(list) => coordinates = list,
            _ => unreachable!("vector() returns vectors"),
        }
    }
    cursor.expect(']')?;
    Ok(Operand::Address { base: Box::new(base), offset, coordinates })
}

/// A number with an optional sign.
pub(crate) fn literal<'a>(cursor: &mut Cursor<'a>) -> Result<Operand<'a>, ParseError> {
    simple(cursor)
}
