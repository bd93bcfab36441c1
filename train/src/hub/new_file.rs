//! A file that appears whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{HubError, Result};

/// A file being written under a temporary name beside its own. [`NewFile::commit`] gives it its name,
/// replacing what was there; dropping it before leaves nothing.
pub struct NewFile {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
}

impl NewFile {
    /// Begins the file `path`; what a killed run left of it is overwritten.
    ///
    /// # Errors
    /// The folder does not exist or cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".partial");
        let temporary = path.with_file_name(name);
        let file = File::create(&temporary).map_err(HubError::io("create", &temporary))?;
        Ok(Self { path: path.to_owned(), temporary, file })
    }

    /// Writes a whole file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_all(path: &Path, bytes: &[u8]) -> Result<()> {
        let mut new = Self::create(path)?;
        new.append(bytes)?;
        new.commit()
    }

    /// Adds `bytes` at the end.
    ///
    /// # Errors
    /// A full disk, for one.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(HubError::io("write", &self.path))
    }

    /// The name the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Waits until the bytes are on the disk, where a full one shows at the latest.
    ///
    /// # Errors
    /// They could not be written.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(HubError::io("write", &self.path))
    }

    /// Syncs the file and gives it its name.
    ///
    /// # Errors
    /// The bytes could not be written, or the name cannot be taken.
    pub fn commit(self) -> Result<()> {
        self.sync()?;
        fs::rename(&self.temporary, &self.path).map_err(HubError::io("write", &self.path))?;
        // The name itself is data of the folder.
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(HubError::io("sync", dir))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Gone already, once committed. Nothing can be done where removing fails.
        let _ = fs::remove_file(&self.temporary);
    }
}
