//! A log held whole.

use std::io::Read;

use super::{Logged, Name, NameId, ReadError, Reader};

/// A log that was read, for logs that are small. [`Reader`] holds one event at a time instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The rank.
    pub rank: u32,
    /// When it began, in nanoseconds since 1970.
    pub began: u64,
    /// Its events, in order.
    pub events: Vec<Logged>,
    /// Operations and call sites, by number.
    pub names: Vec<Name>,
    /// Whether the file ended within a record.
    pub truncated: bool,
}

impl Log {
    /// Reads a log. A file cut behind its header gives what is before the cut.
    ///
    /// # Errors
    /// Not a log, or a record that cannot be; the offset is named.
    pub fn read(from: impl Read) -> Result<Self, ReadError> {
        let mut reader = Reader::new(from)?;
        let mut events = Vec::new();
        while let Some(event) = reader.next()? {
            events.push(event);
        }
        let (rank, began, truncated) = (reader.rank(), reader.began(), reader.truncated());
        Ok(Self { rank, began, events, names: reader.into_names(), truncated })
    }

    /// The operation and call site of that number.
    pub fn name(&self, id: NameId) -> &Name {
        &self.names[id.index()]
    }
}
