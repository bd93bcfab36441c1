//! The file that a command writes.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{anyhow, bail};
use slimpipe::train::run::RunDir;

/// Makes the file `path`, or empties it.
///
/// # Errors
/// It cannot be written, or it is one of `inputs`, which the command reads, or one of a run's own files.
pub fn create(path: &Path, inputs: &[impl AsRef<Path>]) -> anyhow::Result<File> {
    let name = path.display();
    if let Ok(there) = path.canonicalize() {
        let is_there = |input: &Path| input.canonicalize().is_ok_and(|input| input == there);
        if inputs.iter().any(|input| is_there(input.as_ref())) {
            bail!("{name} is what is read; name another file");
        }
        if RunDir::has(&there) {
            bail!("{name} belongs to a run; name another file");
        }
    }
    File::create(path).map_err(cannot_write(path))
}

/// The error that `path` cannot be written.
pub fn cannot_write(path: &Path) -> impl Fn(io::Error) -> anyhow::Error {
    move |error| anyhow!("cannot write {}: {error}", path.display())
}
