//! Where logs are.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::TraceError;

/// The timeline of the run whose folder, or whose logs, `path` names, if the run left one.
pub fn timeline(path: &Path) -> Option<PathBuf> {
    let path = fs::canonicalize(path).ok()?;
    let runs = path.ancestors().take(3).filter(|folder| folder.join("memory.events").is_dir());
    runs.map(|folder| folder.join("timeline.json")).find(|file| file.is_file())
}

/// The logs that `path` names, by rank and first step: one log, a folder of logs, or the folder of a run.
///
/// # Errors
/// There are none.
pub fn logs(path: &Path) -> Result<Vec<PathBuf>, TraceError> {
    let none = |what: String| TraceError::NoLogs { path: path.to_owned(), what };
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => none("there is no such file or folder".to_owned()),
        _ => none(error.to_string()),
    };
    if fs::metadata(path).map_err(failed)?.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let of_run = path.join("memory.events");
    let folder = if of_run.is_dir() { &of_run } else { path };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.extension().is_some_and(|extension| extension == "events") && file.is_file() {
            found.push(file);
        }
    }
    if found.is_empty() {
        return Err(none("it holds no memory event logs".to_owned()));
    }
    // Ranks and steps have leading zeros in names.
    found.sort();
    Ok(found)
}
