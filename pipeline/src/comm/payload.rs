use super::Bytes;

/// Bytes on their way to another rank. They stay where they are, owned by this value, until the
/// receiver has copied them.
pub trait Payload: Send {
    /// The bytes.
    ///
    /// # Errors
    /// They were given back in the meantime: the sender broke off.
    fn bytes(&self) -> Result<Bytes<'_>, String>;
}

impl Payload for Vec<u8> {
    fn bytes(&self) -> Result<Bytes<'_>, String> {
        Ok(Bytes::Host(self))
    }
}
