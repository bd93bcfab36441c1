//! A whole file: variables and kernels.

use super::ParseError;
use super::cursor::Cursor;
use super::directive::{Space, Variable, shape, variable};
use super::lex::{Token, tokens};
use super::statement::{Statement, body};

/// A parameter of a kernel, laid out.
#[derive(Clone, Debug)]
pub(crate) struct Param<'a> {
    pub name: &'a str,
    pub offset: u32,
    pub bytes: u32,
}

/// A kernel as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    pub name: &'a str,
    pub params: Vec<Param<'a>>,
    /// `.maxntid` or `.reqntid`.
    pub max_threads: Option<[u32; 3]>,
    pub required_threads: Option<[u32; 3]>,
    pub max_registers: Option<u32>,
    pub cluster: Option<[u32; 3]>,
    pub body: Vec<Statement<'a>>,
}

/// A parsed file.
#[derive(Debug, Default)]
pub(crate) struct File<'a> {
    pub target: &'a str,
    pub variables: Vec<Variable<'a>>,
    pub entries: Vec<Entry<'a>>,
}

impl<'a> File<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(tokens(text)?);
        let mut file = Self::default();
        while cursor.peek().is_some() {
            file.statement(&mut cursor)?;
        }
        match file.target.is_empty() {
            true => Err(ParseError::new(1, "the text has no .target: it is not PTX")),
            false => Ok(file),
        }
    }

    fn statement(&mut self, cursor: &mut Cursor<'a>) -> Result<(), ParseError> {
        let word = cursor.word()?;
        match word {
            ".version" => {
                cursor.word()?;
            }
            ".target" => {
                self.target = cursor.word()?;
                while cursor.take(',') {
                    cursor.word()?;
                }
            }
            ".address_size" => {
                if cursor.integer()? != 64 {
                    return Err(cursor.error("addresses must have 64 bits"));
                }
            }
            ".visible" | ".extern" | ".weak" | ".common" => {}
            ".global" => self.variables.push(variable(cursor, Space::Global)?),
            ".const" => self.variables.push(variable(cursor, Space::Constant)?),
            ".shared" => self.variables.push(variable(cursor, Space::Shared)?),
            ".entry" => self.entries.push(entry(cursor)?),
            ".func" => function(cursor)?,
            // What a debugger reads.
            ".file" => {
                let line = cursor.line();
                while cursor.peek().is_some() && cursor.line() == line {
                    cursor.next()?;
                }
            }
            ".section" => {
                cursor.word()?;
                cursor.skip_block()?;
            }
            ".pragma" => cursor.skip_past(';')?,
            _ => return Err(cursor.error(format!("'{word}' is not supported here"))),
        }
        Ok(())
    }
}

/// Functions are dropped: a kernel that calls one is refused when its `call` is read.
fn function(cursor: &mut Cursor<'_>) -> Result<(), ParseError> {
    loop {
        match cursor.peek() {
            Some(Token::Mark('{')) => return cursor.skip_block(),
            Some(Token::Mark(';')) => return cursor.expect(';'),
            _ => {
                cursor.next()?;
            }
        }
    }
}

fn entry<'a>(cursor: &mut Cursor<'a>) -> Result<Entry<'a>, ParseError> {
    let name = cursor.word()?;
    let mut entry = Entry {
        name,
        params: Vec::new(),
        max_threads: None,
        required_threads: None,
        max_registers: None,
        cluster: None,
        body: Vec::new(),
    };
    if cursor.take('(') && !cursor.take(')') {
        let mut end = 0u64;
        loop {
            if !cursor.take_word(".param") {
                return Err(cursor.error("expected a .param"));
            }
            let shape = shape(cursor)?;
            let bytes = shape.count.unwrap_or(0).saturating_mul(shape.element.bytes());
            let offset = end.next_multiple_of(shape.align.min(LARGEST_PARAMS));
            end = offset.saturating_add(bytes);
            if bytes == 0 || end > LARGEST_PARAMS {
                return Err(cursor.error(format!("'{name}' has empty or too large parameters")));
            }
            let (offset, bytes) = (offset as u32, bytes as u32);
            entry.params.push(Param { name: shape.name, offset, bytes });
            if cursor.take(')') {
                break;
            }
            cursor.expect(',')?;
        }
    }
    loop {
        match cursor.peek() {
            Some(Token::Mark('{')) => break,
            Some(Token::Word(".maxntid")) => entry.max_threads = Some(sizes(cursor)?),
            Some(Token::Word(".reqntid")) => entry.required_threads = Some(sizes(cursor)?),
            Some(Token::Word(".maxnreg")) => entry.max_registers = Some(sizes(cursor)?[0]),
            Some(Token::Word(".reqnctapercluster")) => entry.cluster = Some(sizes(cursor)?),
            Some(Token::Word(".minnctapersm" | ".maxclusterrank")) => {
                sizes(cursor)?;
            }
            Some(Token::Word(".explicitcluster" | ".blocksareclusters" | ".noreturn")) => {
                cursor.word()?;
            }
            Some(Token::Word(".pragma")) => cursor.skip_past(';')?,
            _ => return Err(cursor.error(format!("what stands behind '{name}' is unknown"))),
        }
    }
    entry.body = body(cursor)?;
    Ok(entry)
}

/// What a driver takes: 32,764 bytes.
const LARGEST_PARAMS: u64 = 32_764;

fn sizes(cursor: &mut Cursor<'_>) -> Result<[u32; 3], ParseError> {
    cursor.word()?;
    let mut sizes = [1; 3];
    for (i, size) in sizes.iter_mut().enumerate() {
        if i > 0 && !cursor.take(',') {
            break;
        }
        *size = cursor.integer()? as u32;
    }
    Ok(sizes)
}
