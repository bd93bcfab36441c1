//! Tokens of PTX text.

use super::ParseError;

/// A piece of the text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token<'a> {
    /// A name, number, opcode, register or directive; dots and `::` belong to it.
    Word(&'a str),
    /// A string in quotes, without them.
    Text(&'a str),
    /// Anything else, one character.
    Mark(char),
}

/// A token and the line where it begins, counted from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed<'a> {
    pub token: Token<'a>,
    pub line: u32,
}

fn in_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$' | b'%' | b'.')
}

/// Cuts `text` into tokens; comments and white space are dropped.
pub(crate) fn tokens(text: &str) -> Result<Vec<Placed<'_>>, ParseError> {
    let bytes = text.as_bytes();
    let (mut tokens, mut line, mut at) = (Vec::new(), 1u32, 0);
    while at < bytes.len() {
        let c = bytes[at];
        let start = at;
        if c == b'\n' {
            line += 1;
            at += 1;
        } else if c.is_ascii_whitespace() || c == 0 {
            at += 1;
        } else if bytes[at..].starts_with(b"//") {
            while at < bytes.len() && bytes[at] != b'\n' {
                at += 1;
            }
        } else if bytes[at..].starts_with(b"/*") {
            let length = text[at..]
                .find("*/")
                .ok_or_else(|| ParseError::new(line, "a comment has no end"))?;
            line += count_lines(&bytes[at..at + length]);
            at += length + 2;
        } else if c == b'"' {
            let length = text[at + 1..]
                .find('"')
                .ok_or_else(|| ParseError::new(line, "a string has no end"))?;
            let content = &text[at + 1..at + 1 + length];
            tokens.push(Placed { token: Token::Text(content), line });
            line += count_lines(content.as_bytes());
            at += length + 2;
        } else if in_word(c) {
            while at < bytes.len() && (in_word(bytes[at]) || bytes[at..].starts_with(b"::")) {
                at += if bytes[at] == b':' { 2 } else { 1 };
            }
            tokens.push(Placed { token: Token::Word(&text[start..at]), line });
        } else if c.is_ascii() {
            tokens.push(Placed { token: Token::Mark(c as char), line });
            at += 1;
        } else {
            return Err(ParseError::new(line, "PTX is ASCII text"));
        }
    }
    Ok(tokens)
}

fn count_lines(bytes: &[u8]) -> u32 {
    bytes.iter().filter(|&&b| b == b'\n').count() as u32
}
