//! Where pictures go.

use std::io::Write;
use std::path::Path;

use anyhow::bail;
use slimpipe::train::draw::{Chart, page, perfetto, terminal};

use crate::cli::output;

/// Columns that a chart in the terminal takes.
const COLUMNS: usize = 100;

/// Draws into a file, in the format that its name says.
///
/// # Errors
/// A name with another ending; it cannot be written, or is the timeline `measured` that was read.
pub fn write(charts: Vec<Chart>, path: &Path, measured: Option<&Path>) -> anyhow::Result<()> {
    let text = match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => page(&charts)?,
        Some("json") => perfetto(&charts).to_string(),
        _ => bail!(
            "cannot draw into {}: its name must end in .html for a page or in .json for Perfetto",
            path.display()
        ),
    };
    let mut file = output::create(path, measured.as_slice())?;
    file.write_all(text.as_bytes()).map_err(output::cannot_write(path))
}

/// Draws for the terminal.
pub fn text(charts: Vec<Chart>) -> String {
    terminal(&charts, COLUMNS)
}
