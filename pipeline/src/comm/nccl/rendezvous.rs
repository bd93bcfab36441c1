//! How ranks agree on the id of their communicator.
//!
//! No network of our own: threads hand it over in memory, processes that share a folder write it there
//! (`Folder`), and otherwise NCCL's own bootstrap does it, at the address that `NCCL_COMM_ID` names.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cudarc::nccl::sys::ncclUniqueId;
use parking_lot::{Condvar, Mutex};

use super::Library;
use super::folder::Folder;
use crate::comm::CommError;

/// Where ranks meet for the first time. All of a run use the same.
#[derive(Clone)]
pub enum Rendezvous {
    /// In this process: ranks that are threads.
    Threads(Arc<Threads>),
    /// In a folder that all hosts see, which is gone when all have met. What an earlier run has left in it
    /// does no harm.
    Folder(PathBuf),
    /// At the address in `NCCL_COMM_ID` (host:port of rank 0), which all processes have.
    Bootstrap,
}

/// Threads that wait for an id.
#[derive(Default)]
pub struct Threads {
    state: Mutex<Came>,
    changed: Condvar,
}

#[derive(Default)]
struct Came {
    id: Option<ncclUniqueId>,
    ranks: Vec<u32>,
}

impl Rendezvous {
    /// One for threads of this process.
    pub fn threads() -> Self {
        Self::Threads(Arc::default())
    }

    /// The id that rank 0 made, on each of `size` ranks.
    ///
    /// # Errors
    /// Rank 0 does not come in time, a folder cannot be used, or there is no address.
    pub(super) fn id(
        &self,
        library: &Library,
        (rank, size): (u32, u32),
        timeout: Duration,
    ) -> Result<ncclUniqueId, CommError> {
        let failed = |what: String| CommError::Rendezvous { rank, what };
        let late = || CommError::Absent {
            rank,
            absent: self.absent(size).unwrap_or_else(|| "rank 0".to_owned()),
            seconds: timeout.as_secs(),
        };
        match self {
            Self::Threads(threads) => threads.id(library, rank, timeout)?.ok_or_else(late),
            Self::Folder(folder) => {
                Folder::new(folder, rank, size).id(library, timeout)?.ok_or_else(late)
            }
            Self::Bootstrap => match std::env::var_os("NCCL_COMM_ID") {
                Some(_) => library.unique_id(),
                None => Err(failed(
                    "NCCL_COMM_ID is not set; it names host and port of rank 0".to_owned(),
                )),
            },
        }
    }

    /// The ranks of `size` that have not come, in words, if that can be known.
    pub(super) fn absent(&self, size: u32) -> Option<String> {
        let absent: Vec<u32> = match self {
            Self::Threads(threads) => {
                let came = &threads.state.lock().ranks;
                (0..size).filter(|rank| !came.contains(rank)).collect()
            }
            Self::Folder(folder) => Folder::absent(folder, size),
            Self::Bootstrap => Vec::new(),
        };
        match &absent[..] {
            [] => None,
            [rank] => Some(format!("rank {rank}")),
            ranks => {
                let ranks: Vec<_> = ranks.iter().map(u32::to_string).collect();
                Some(format!("ranks {}", ranks.join(", ")))
            }
        }
    }
}

impl Threads {
    fn id(
        &self,
        library: &Library,
        rank: u32,
        timeout: Duration,
    ) -> Result<Option<ncclUniqueId>, CommError> {
        let own = if rank == 0 { Some(library.unique_id()?) } else { None };
        let mut state = self.state.lock();
        state.ranks.push(rank);
        if own.is_some() {
            state.id = own;
            self.changed.notify_all();
        }
        self.changed.wait_while_for(&mut state, |state| state.id.is_none(), timeout);
        Ok(state.id)
    }
}
