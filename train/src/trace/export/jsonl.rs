//! A JSON object for each event.

use std::io::Write;
use std::path::PathBuf;

use super::super::Playback;
use super::row::Row;
use super::{Cut, ExportError, note_cut};

/// Writes the lines.
pub(super) fn write(logs: &[PathBuf], out: &mut impl Write) -> Result<Vec<Cut>, ExportError> {
    let mut cuts = Vec::new();
    for path in logs {
        let mut log = Playback::open(path)?;
        while let Some(event) = log.next()? {
            serde_json::to_writer(&mut *out, &Row::of(&event, &log))
                .map_err(std::io::Error::from)?;
            out.write_all(b"\n")?;
        }
        note_cut(&log, &mut cuts);
    }
    Ok(cuts)
}
