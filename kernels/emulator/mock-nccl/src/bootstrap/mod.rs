//! How ranks find each other.
//!
//! A unique id is the name of a socket. A thread behind it, the root, waits until all ranks have said
//! where they are, and tells them all. With `NCCL_COMM_ID` every process makes the same name of that,
//! and rank 0 starts the root. Ranks of one process then talk through memory, others through sockets.
//! Sockets have names without files, so nothing is left behind.

mod join;
mod line;
mod root;

use std::{
    env,
    os::linux::net::SocketAddrExt,
    os::unix::net::SocketAddr,
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use cudarc::nccl::sys::ncclUniqueId;

use crate::failure::Failure;
pub use join::{Member, join};

/// What a unique id begins with.
const MAGIC: &str = "slimpipe-mock-nccl ";

/// Where the root of one unique id is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// A new name, or that of `NCCL_COMM_ID`; its root is started unless rank 0 will.
    ///
    /// # Errors
    /// The system refuses.
    pub fn make() -> Result<Name, Failure> {
        if let Ok(address) = env::var("NCCL_COMM_ID") {
            return Name::new(format!("comm-id {address}"));
        }
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = Name::new(format!("{} {} {number}", process::id(), now.as_nanos()))?;
        root::start(&name)?;
        Ok(name)
    }

    fn new(text: String) -> Result<Name, Failure> {
        let most = size_of::<ncclUniqueId>() - MAGIC.len() - 1;
        if text.len() > most {
            let text = format!("NCCL_COMM_ID has more than {most} characters");
            return Err(Failure::argument(text));
        }
        Ok(Name(text))
    }

    /// Whether rank 0 has to start the root.
    fn is_shared(&self) -> bool {
        self.0.starts_with("comm-id ")
    }

    /// The name as the bytes that programs carry around.
    pub fn to_id(&self) -> ncclUniqueId {
        let mut internal = [0; 128];
        let bytes = MAGIC.bytes().chain(self.0.bytes());
        internal.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte as _);
        ncclUniqueId { internal }
    }

    /// The name in a unique id.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn of_id(id: &ncclUniqueId) -> Result<Name, Failure> {
        let bytes = id.internal.iter().map(|byte| *byte as u8);
        let text: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
        let text = String::from_utf8_lossy(&text).into_owned();
        let name = text.strip_prefix(MAGIC);
        name.map(|name| Name(name.into())).ok_or_else(|| Failure::argument("no unique id of NCCL"))
    }

    /// A number that tells the communicators of different ids apart.
    pub fn number(&self) -> u64 {
        number_of(self.0.as_bytes())
    }

    /// The address of the root, or of the part of a rank.
    fn address(&self, part: &str) -> Result<SocketAddr, Failure> {
        // Names of sockets are short, addresses in NCCL_COMM_ID can be long.
        let name = format!("slimpipe mock nccl {:016x} {part}", self.number());
        SocketAddr::from_abstract_name(&name).map_err(|e| Failure::system(format!("{name}: {e}")))
    }
}

/// A number made of bytes (FNV-1a).
pub fn number_of(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_carries_its_name() {
        let name = Name::new("1 2 3".into()).unwrap();
        assert_eq!(Name::of_id(&name.to_id()).unwrap(), name);
        assert!(Name::of_id(&ncclUniqueId { internal: [7; 128] }).is_err());
        assert!(Name::new("x".repeat(200)).is_err());
    }
}
