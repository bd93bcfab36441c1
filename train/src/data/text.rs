//! Which files a path stands for.

use std::path::{Path, PathBuf};

use crate::run::RunDir;
use crate::{Error, Result};

/// What to do about data that is not there.
pub(super) const REMEDY: &str = "name text files, folders of text, or .bin token files";
/// What text files are called, in folders.
const TEXT: [&str; 12] =
    ["txt", "md", "rs", "toml", "py", "c", "h", "cu", "cuh", "json", "jsonl", "bin"];
/// Folders that hold what programs wrote.
const SKIPPED: [&str; 4] = ["target", "runs", "carry", "node_modules"];

/// The file itself; or a folder's text and token files, subfolders included, in the order of their
/// names. Hidden files, build products and the folders of runs are left out: a run that trains on
/// the folder it is written to would not see the same data when it is resumed.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let data = std::fs::metadata(path).map_err(|source| {
        let path = path.display();
        Error::Data(format!("cannot open {path}: {source}; {REMEDY}"))
    })?;
    if data.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    walk(path, &mut found)?;
    Ok(found)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let failed = || Error::io("read the folder", folder);
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(failed())?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(failed())?;
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            if !SKIPPED.contains(&&*name) && !RunDir::is_run(&path) {
                walk(&path, found)?;
            }
        } else if TEXT.contains(&&*extension) {
            found.push(path);
        }
    }
    Ok(())
}
