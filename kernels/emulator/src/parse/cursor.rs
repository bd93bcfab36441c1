//! A place in the tokens.

use super::ParseError;
use super::lex::{Placed, Token};

/// Reads tokens one after the other.
pub(crate) struct Cursor<'a> {
    tokens: Vec<Placed<'a>>,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(tokens: Vec<Placed<'a>>) -> Self {
        Self { tokens, at: 0 }
    }

    pub(crate) fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).map(|t| t.token)
    }

    pub(crate) fn peek_second(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at + 1).map(|t| t.token)
    }

    /// Line of the next token, or of the last one at the end.
    pub(crate) fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |t| t.line)
    }

    pub(crate) fn next(&mut self) -> Result<Token<'a>, ParseError> {
        let token = self.peek().ok_or_else(|| self.error("the text ends in a statement"))?;
        self.at += 1;
        Ok(token)
    }

    /// Takes `mark` if it comes next.
    pub(crate) fn take(&mut self, mark: char) -> bool {
        let found = self.peek() == Some(Token::Mark(mark));
        self.at += usize::from(found);
        found
    }

    /// Takes `word` if it comes next.
    pub(crate) fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(Token::Word(word));
        self.at += usize::from(found);
        found
    }

    pub(crate) fn expect(&mut self, mark: char) -> Result<(), ParseError> {
        match self.take(mark) {
            true => Ok(()),
            false => Err(self.error(format!("expected '{mark}', found {}", self.describe()))),
        }
    }

    pub(crate) fn word(&mut self) -> Result<&'a str, ParseError> {
        match self.peek() {
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(word)
            }
            _ => Err(self.error(format!("expected a name, found {}", self.describe()))),
        }
    }

    /// An integer with an optional sign.
    pub(crate) fn integer(&mut self) -> Result<i64, ParseError> {
        let negative = self.take('-');
        let word = self.word()?;
        let value =
            integer(word).ok_or_else(|| self.error(format!("'{word}' is not an integer")))?;
        Ok(if negative { value.wrapping_neg() } else { value })
    }

    /// Drops everything up to and including `mark`.
    pub(crate) fn skip_past(&mut self, mark: char) -> Result<(), ParseError> {
        while self.next()? != Token::Mark(mark) {}
        Ok(())
    }

    /// Drops a block in braces whose opening brace comes next.
    pub(crate) fn skip_block(&mut self) -> Result<(), ParseError> {
        self.expect('{')?;
        let mut depth = 1;
        while depth > 0 {
            match self.next()? {
                Token::Mark('{') => depth += 1,
                Token::Mark('}') => depth -= 1,
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn error(&self, what: impl Into<String>) -> ParseError {
        ParseError::new(self.line(), what)
    }

    fn describe(&self) -> String {
        match self.peek() {
            Some(Token::Word(word)) => format!("'{word}'"),
            Some(Token::Text(text)) => format!("\"{text}\""),
            Some(Token::Mark(mark)) => format!("'{mark}'"),
            None => "the end of the text".into(),
        }
    }
}

/// The bits of an integer literal: decimal, hexadecimal, octal or binary, with an optional `U`.
pub(crate) fn integer(word: &str) -> Option<i64> {
    let word = word.strip_suffix('U').unwrap_or(word);
    let parse = |digits, radix| u64::from_str_radix(digits, radix).ok().map(|v| v as i64);
    let lower = |prefix: &str| word.strip_prefix(prefix);
    if let Some(digits) = lower("0x").or(lower("0X")) {
        parse(digits, 16)
    } else if let Some(digits) = lower("0b").or(lower("0B")) {
        parse(digits, 2)
    } else if word.len() > 1 && word.starts_with('0') {
        parse(&word[1..], 8)
    } else {
        parse(word, 10)
    }
}
