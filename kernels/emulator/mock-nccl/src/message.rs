//! What ranks say to each other.

use std::io::{self, Read, Write};

/// Messages of one lane between two ranks keep their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Sends and receives.
    Pair,
    /// Collective operations.
    Collective,
    /// Splitting a communicator.
    Split,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes for a receive.
    Data,
    /// A receive has begun.
    Ready,
    /// Something is wrong with an operation; the tag says what.
    Alarm,
    /// The sender leaves and will say no more.
    Leaving,
    /// The sender was aborted. A real rank would just fall silent.
    Aborted,
}

const LANES: [Lane; 3] = [Lane::Pair, Lane::Collective, Lane::Split];
const KINDS: [Kind; 5] = [Kind::Data, Kind::Ready, Kind::Alarm, Kind::Leaving, Kind::Aborted];

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// The number of the communicator.
    pub comm: u64,
    /// The rank that says it.
    pub from: u32,
    /// Its lane.
    pub lane: Lane,
    /// What the sender believes to be doing, in words: "16 x f32". The receiver compares.
    pub tag: String,
    /// The bytes.
    pub body: Vec<u8>,
}

impl Message {
    /// A message about the rank itself.
    pub fn of_rank(kind: Kind, from: u32) -> Message {
        let (tag, body) = Default::default();
        Message { kind, comm: 0, from, lane: Lane::Pair, tag, body }
    }

    /// Writes the message to a connection.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let position = |found: Option<usize>| found.unwrap_or_default() as u8;
        let mut head = vec![
            position(KINDS.iter().position(|kind| *kind == self.kind)),
            position(LANES.iter().position(|lane| *lane == self.lane)),
        ];
        head.extend(self.comm.to_le_bytes());
        head.extend(self.from.to_le_bytes());
        head.extend((self.tag.len() as u32).to_le_bytes());
        head.extend((self.body.len() as u64).to_le_bytes());
        out.write_all(&head)?;
        out.write_all(self.tag.as_bytes())?;
        out.write_all(&self.body)
    }

    /// Reads a message from a connection.
    ///
    /// # Errors
    /// The connection is broken, or what came is no message.
    pub fn read(source: &mut impl Read) -> io::Result<Message> {
        let mut head = [0; 26];
        source.read_exact(&mut head)?;
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap_or_default());
        let wide = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap_or_default());
        let kind = KINDS.get(usize::from(head[0])).copied();
        let lane = LANES.get(usize::from(head[1])).copied();
        let (Some(kind), Some(lane)) = (kind, lane) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let mut tag = vec![0; word(14) as usize];
        source.read_exact(&mut tag)?;
        let mut body = vec![0; wide(18) as usize];
        source.read_exact(&mut body)?;
        let tag = String::from_utf8_lossy(&tag).into_owned();
        Ok(Message { kind, comm: wide(2), from: word(10), lane, tag, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_are_written() {
        let message = Message {
            kind: Kind::Alarm,
            comm: u64::MAX - 3,
            from: 7,
            lane: Lane::Split,
            tag: "a tag".into(),
            body: vec![1, 2, 3],
        };
        let mut wire = Vec::new();
        message.write(&mut wire).unwrap();
        assert_eq!(Message::read(&mut wire.as_slice()).unwrap(), message);
        assert!(Message::read(&mut &wire[..wire.len() - 1]).is_err());
    }
}
