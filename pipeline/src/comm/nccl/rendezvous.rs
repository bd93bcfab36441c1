//! How ranks agree on the id of their communicator.
//!
//! No network of our own: threads hand it over in memory, processes that share a folder write it there,
//! and otherwise NCCL's own bootstrap does it, at the address that `NCCL_COMM_ID` names.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cudarc::nccl::sys::ncclUniqueId;
use parking_lot::{Condvar, Mutex};

use super::Library;
use crate::comm::CommError;

/// How often a folder is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// Where ranks meet for the first time. All of a run use the same.
#[derive(Clone)]
pub enum Rendezvous {
    /// In this process: ranks that are threads.
    Threads(Arc<Threads>),
    /// In a folder that all hosts see, made for this run: it may not hold an earlier one's files.
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
                let about = |path: &Path, error: std::io::Error| match error.kind() {
                    ErrorKind::AlreadyExists => failed(format!(
                        "{} is left from another run; name a new folder",
                        path.display()
                    )),
                    _ => failed(format!("{}: {error}", path.display())),
                };
                fs::create_dir_all(folder).map_err(|error| about(folder, error))?;
                let own = folder.join(came(rank));
                let note = fs::OpenOptions::new().write(true).create_new(true).open(&own);
                note.map_err(|error| about(&own, error))?;
                let path = folder.join("id");
                if rank == 0 {
                    let id = library.unique_id()?;
                    // Whole or not at all: others read as soon as it is there.
                    let bytes = id.internal.map(|byte| byte as u8);
                    let new = folder.join("id.new");
                    fs::write(&new, bytes).map_err(|error| about(&new, error))?;
                    fs::rename(&new, &path).map_err(|error| about(&path, error))?;
                    return Ok(id);
                }
                let begin = Instant::now();
                while begin.elapsed() < timeout {
                    match fs::read(&path) {
                        Ok(bytes) => {
                            let bytes = <[u8; 128]>::try_from(bytes)
                                .map_err(|_| failed(format!("{} is no id", path.display())))?;
                            return Ok(ncclUniqueId { internal: bytes.map(|byte| byte as _) });
                        }
                        Err(error) if error.kind() == ErrorKind::NotFound => {
                            std::thread::sleep(PAUSE);
                        }
                        Err(error) => return Err(about(&path, error)),
                    }
                }
                Err(late())
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
        let has_come = |rank: &u32| match self {
            Self::Threads(threads) => threads.state.lock().ranks.contains(rank),
            Self::Folder(folder) => folder.join(came(*rank)).exists(),
            Self::Bootstrap => false,
        };
        if matches!(self, Self::Bootstrap) {
            return None;
        }
        let absent: Vec<_> = (0..size).filter(|rank| !has_come(rank)).collect();
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

fn came(rank: u32) -> String {
    format!("rank-{rank}")
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
