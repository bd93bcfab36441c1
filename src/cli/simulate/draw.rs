//! Where pictures go.

use std::path::Path;

use anyhow::{Context, bail};
use slimpipe::train::draw::{Chart, page, perfetto, terminal};

/// Columns that a chart in the terminal takes.
const COLUMNS: usize = 100;

/// Draws into a file, in the format that its name says.
pub fn write(charts: Vec<Chart>, path: &Path) -> anyhow::Result<()> {
    let text = match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => page(&charts)?,
        Some("json") => perfetto(&charts).to_string(),
        _ => bail!(
            "cannot draw into {}: its name must end in .html for a page or in .json for Perfetto",
            path.display()
        ),
    };
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Draws for the terminal.
pub fn text(charts: Vec<Chart>) -> String {
    terminal(&charts, COLUMNS)
}
