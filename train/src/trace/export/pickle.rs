//! Python's pickle, protocol 2: as much of it as a snapshot needs, and no more than the reader of the
//! memory_viz page knows. Integers are signed, of at most 8 bytes: of more, that reader makes numbers
//! which do not add to others.

use std::collections::HashMap;
use std::io::{self, Write};

const STOP: u8 = b'.';
const APPEND: u8 = b'a';
const MARK: u8 = b'(';
const SET_ITEMS: u8 = b'u';
const EMPTY_LIST: u8 = b']';
const EMPTY_DICT: u8 = b'}';
const TUPLE_OF_2: u8 = 0x86;
const TRUE: u8 = 0x88;
const INT_8: u8 = b'K';
const INT_32: u8 = b'J';
const LONG: u8 = 0x8a;
const UNICODE: u8 = b'X';
const PUT: u8 = b'r';
const GET_8: u8 = b'h';
const GET_32: u8 = b'j';

/// Writes a value part by part; texts that come again are written once.
pub(super) struct Pickle<W> {
    out: W,
    texts: HashMap<String, Memo>,
    memos: u32,
}

/// The number of a value that can be named again.
#[derive(Clone, Copy)]
pub(super) struct Memo(u32);

impl<W: Write> Pickle<W> {
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&[0x80, 2])?;
        Ok(Self { out, texts: HashMap::new(), memos: 0 })
    }

    /// Ends it.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&[STOP])
    }

    pub fn int(&mut self, value: i64) -> io::Result<()> {
        if let Ok(byte) = u8::try_from(value) {
            self.out.write_all(&[INT_8, byte])
        } else if let Ok(value) = i32::try_from(value) {
            self.out.write_all(&[INT_32])?;
            self.out.write_all(&value.to_le_bytes())
        } else {
            self.out.write_all(&[LONG, 8])?;
            self.out.write_all(&value.to_le_bytes())
        }
    }

    pub fn text(&mut self, text: &str) -> io::Result<()> {
        if let Some(&memo) = self.texts.get(text) {
            return self.again(memo);
        }
        let too_long = |_| io::Error::new(io::ErrorKind::InvalidData, "a text over 4 GiB");
        let length = u32::try_from(text.len()).map_err(too_long)?;
        self.out.write_all(&[UNICODE])?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(text.as_bytes())?;
        let memo = self.remember()?;
        self.texts.insert(text.to_owned(), memo);
        Ok(())
    }

    pub fn truth(&mut self) -> io::Result<()> {
        self.out.write_all(&[TRUE])
    }

    /// Numbers the value that was just written.
    pub fn remember(&mut self) -> io::Result<Memo> {
        let memo = Memo(self.memos);
        self.memos += 1;
        self.out.write_all(&[PUT])?;
        self.out.write_all(&memo.0.to_le_bytes())?;
        Ok(memo)
    }

    /// The value of that number once more.
    pub fn again(&mut self, Memo(number): Memo) -> io::Result<()> {
        match u8::try_from(number) {
            Ok(byte) => self.out.write_all(&[GET_8, byte]),
            Err(_) => {
                self.out.write_all(&[GET_32])?;
                self.out.write_all(&number.to_le_bytes())
            }
        }
    }

    /// Begins a list; each value that follows is taken in by [`Pickle::append`].
    pub fn list(&mut self) -> io::Result<()> {
        self.out.write_all(&[EMPTY_LIST])
    }

    /// Puts the value that was just written into the list before it. One by one: the page would spread
    /// a batch into arguments of one call, of which there can be too many.
    pub fn append(&mut self) -> io::Result<()> {
        self.out.write_all(&[APPEND])
    }

    /// Begins a dictionary: keys and values follow.
    pub fn dict(&mut self) -> io::Result<()> {
        self.out.write_all(&[EMPTY_DICT, MARK])
    }

    /// Ends a dictionary.
    pub fn end_dict(&mut self) -> io::Result<()> {
        self.out.write_all(&[SET_ITEMS])
    }

    pub fn pair(&mut self, first: i64, second: i64) -> io::Result<()> {
        self.int(first)?;
        self.int(second)?;
        self.out.write_all(&[TUPLE_OF_2])
    }

    pub fn int_at(&mut self, key: &str, value: i64) -> io::Result<()> {
        self.text(key)?;
        self.int(value)
    }

    pub fn text_at(&mut self, key: &str, value: &str) -> io::Result<()> {
        self.text(key)?;
        self.text(value)
    }
}
