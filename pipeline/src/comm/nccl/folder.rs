//! The id of a communicator handed over in a folder that all ranks see.
//!
//! Every rank leaves a note with a number that it drew. Rank 0 writes the id down with the numbers it has
//! found, and again when they change; a rank that finds its own there takes the id, and answers with rank
//! 0's number. So nobody takes an id that an earlier run has left, and rank 0 knows when all have it.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cudarc::nccl::sys::ncclUniqueId;

use super::Library;
use crate::comm::CommError;

/// How often a folder is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// Bytes of an id.
const ID: usize = size_of::<ncclUniqueId>();

/// One rank's side of a folder.
pub(super) struct Folder<'a> {
    path: &'a Path,
    rank: u32,
    size: u32,
    /// What this rank drew.
    own: u64,
}

impl<'a> Folder<'a> {
    pub(super) fn new(path: &'a Path, rank: u32, size: u32) -> Self {
        Self { path, rank, size, own: RandomState::new().hash_one(rank) }
    }

    /// The ranks of `size` that have left no note, unless the folder is gone, for all have met.
    pub(super) fn absent(path: &Path, size: u32) -> Vec<u32> {
        if !path.is_dir() {
            return Vec::new();
        }
        let has_come = |rank: u32| match rank {
            0 => path.join("id").exists(),
            _ => path.join(note(rank)).exists(),
        };
        (0..size).filter(|&rank| !has_come(rank)).collect()
    }

    /// The id that rank 0 makes; `None` if some rank does not come in time.
    pub(super) fn id(
        &self,
        library: &Library,
        timeout: Duration,
    ) -> Result<Option<ncclUniqueId>, CommError> {
        let begin = Instant::now();
        let result = match self.rank {
            0 => self.give(library.unique_id()?, begin, timeout),
            _ => self.take(begin, timeout),
        };
        result.map_err(|(path, error)| {
            let what = format!("{}: {error}", path.display());
            CommError::Rendezvous { rank: self.rank, what }
        })
    }

    /// Rank 0's side.
    fn give(
        &self,
        id: ncclUniqueId,
        begin: Instant,
        timeout: Duration,
    ) -> Result<Option<ncclUniqueId>, (PathBuf, std::io::Error)> {
        let about = |error| (self.path.to_owned(), error);
        fs::create_dir_all(self.path).map_err(about)?;
        for rank in 1..self.size {
            // What an earlier run has left; whose note this was leaves it again.
            for stale in [note(rank), answer(rank)] {
                let _ = fs::remove_file(self.path.join(stale));
            }
        }
        let mut written: Option<Vec<u64>> = None;
        while begin.elapsed() < timeout {
            let notes: Vec<u64> =
                (1..self.size).map(|rank| self.number(&note(rank)).unwrap_or(0)).collect();
            if written.as_ref() != Some(&notes) {
                let mut bytes = self.own.to_le_bytes().to_vec();
                bytes.extend(id.internal.map(|byte| byte as u8));
                bytes.extend(notes.iter().flat_map(|number| number.to_le_bytes()));
                self.write("id", &bytes)?;
                written = Some(notes);
            }
            if (1..self.size).all(|rank| self.number(&answer(rank)) == Some(self.own)) {
                fs::remove_dir_all(self.path).map_err(about)?;
                return Ok(Some(id));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(None)
    }

    /// Any other rank's side.
    fn take(
        &self,
        begin: Instant,
        timeout: Duration,
    ) -> Result<Option<ncclUniqueId>, (PathBuf, std::io::Error)> {
        while begin.elapsed() < timeout {
            // Rank 0 makes the folder, and takes away what it finds there.
            if self.path.is_dir() {
                if self.number(&note(self.rank)) != Some(self.own) {
                    self.write(&note(self.rank), &self.own.to_le_bytes())?;
                }
                let bytes = fs::read(self.path.join("id")).unwrap_or_default();
                if bytes.len() == 8 + ID + 8 * (self.size as usize - 1) {
                    let (head, numbers) = bytes.split_at(8 + ID);
                    let at = 8 * (self.rank as usize - 1);
                    if numbers[at..at + 8] == self.own.to_le_bytes() {
                        self.write(&answer(self.rank), &head[..8])?;
                        let mut internal = [0; ID];
                        for (to, from) in internal.iter_mut().zip(&head[8..]) {
                            *to = *from as _;
                        }
                        return Ok(Some(ncclUniqueId { internal }));
                    }
                }
            }
            std::thread::sleep(PAUSE);
        }
        Ok(None)
    }

    /// The number in a file, if it is there.
    fn number(&self, name: &str) -> Option<u64> {
        let bytes = fs::read(self.path.join(name)).ok()?;
        Some(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?))
    }

    /// Writes a file, whole or not at all: others read as soon as it is there.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), (PathBuf, std::io::Error)> {
        let (new, path) = (self.path.join(format!("{name}.new")), self.path.join(name));
        let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path));
        match written {
            // The folder is about to be made anew.
            Err(error) if error.kind() == ErrorKind::NotFound && self.rank > 0 => Ok(()),
            result => result.map_err(|error| (path, error)),
        }
    }
}

fn note(rank: u32) -> String {
    format!("rank-{rank}")
}

fn answer(rank: u32) -> String {
    format!("rank-{rank}.has-it")
}
