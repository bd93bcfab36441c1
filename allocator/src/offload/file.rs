//! A second memory in a file.

use std::fs::{File, OpenOptions, remove_file};
use std::io::{Error, Result, Write};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::{MmapRaw, UncheckedAdvice};
use parking_lot::RwLock;

use super::SecondMemory;

/// Bytes written at once where the file grows.
const BLOCK: usize = 1 << 20;

/// A file without a name, mapped. Its pages are the system's to write out and to drop: on a disk they cost
/// no memory for long, on a file system in memory they do.
pub struct FileMemory {
    folder: PathBuf,
    file: File,
    /// The whole file; none while it is empty.
    map: RwLock<Option<MmapRaw>>,
}

impl FileMemory {
    /// An empty file in `folder`. It is gone with this value, or with the process however that ends.
    ///
    /// # Errors
    /// The file cannot be made there.
    pub fn create(folder: &Path) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".slimpipe-offload-{}-{number}", std::process::id()));
        let about = |error: Error| Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(about)?;
        remove_file(&path).map_err(about)?;
        Ok(Self { folder: folder.to_owned(), file, map: RwLock::new(None) })
    }

    /// Runs `copy` on the address of byte `at`, behind which `bytes` bytes are mapped; then lets the
    /// system have the pages.
    fn with(&self, at: u64, bytes: u64, copy: impl FnOnce(*mut u8)) -> Result<()> {
        let map = self.map.read();
        let fits =
            |map: &&MmapRaw| at.checked_add(bytes).is_some_and(|end| end <= map.len() as u64);
        let map = map.as_ref().filter(fits);
        let map = map.ok_or_else(|| Error::other("a copy beyond the end of the file"))?;
        // SAFETY: inside the mapping, as was just checked.
        copy(unsafe { map.as_mut_ptr().add(at as usize) });
        // The pages stay in the file; without them here the process holds no more than it says.
        // SAFETY: the mapping is shared, so its pages are not lost.
        let _ = unsafe {
            map.unchecked_advise_range(UncheckedAdvice::DontNeed, at as usize, bytes as usize)
        };
        Ok(())
    }
}

impl SecondMemory for FileMemory {
    fn name(&self) -> String {
        format!("a file in {}", self.folder.display())
    }

    fn grow(&self, bytes: u64) -> Result<()> {
        let mut map = self.map.write();
        let mut len = map.as_ref().map_or(0, |map| map.len() as u64);
        if bytes <= len {
            return Ok(());
        }
        // Written, so that a full disk is an error here: a page without room behind it would end the
        // process when it is touched.
        let zeros = vec![0; BLOCK];
        while len < bytes {
            let block = (bytes - len).min(BLOCK as u64);
            (&self.file).write_all(&zeros[..block as usize])?;
            len += block;
        }
        *map = Some(MmapRaw::map_raw(&self.file)?);
        Ok(())
    }

    unsafe fn store(&self, at: u64, from: NonNull<u8>, bytes: u64) -> Result<()> {
        // SAFETY: `from` as the caller promises; the file is mapped there, and nowhere else in reach.
        self.with(at, bytes, |to| unsafe {
            std::ptr::copy_nonoverlapping(from.as_ptr(), to, bytes as usize);
        })
    }

    unsafe fn load(&self, at: u64, to: NonNull<u8>, bytes: u64) -> Result<()> {
        // SAFETY: `to` as the caller promises; the file is mapped there, and nowhere else in reach.
        self.with(at, bytes, |from| unsafe {
            std::ptr::copy_nonoverlapping(from, to.as_ptr(), bytes as usize);
        })
    }
}
