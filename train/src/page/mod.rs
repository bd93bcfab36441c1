//! Pages for a browser, each with everything it needs in it: what those of charts and of memory share.

use std::io::{self, Write};

use serde_json::Value;

const STYLE: &str = include_str!("shared.css");
const SCRIPT: &str = include_str!("shared.js");

/// A page: its text, and what goes where the text has `/*style*/`, `/*data*/` and `/*script*/`.
pub(crate) struct Page {
    pub text: &'static str,
    pub style: &'static str,
    /// One script: each part uses those before it, and what all pages share.
    pub script: &'static [&'static str],
}

impl Page {
    /// Writes the page with `data`, and what `columns` writes where its text has `<!--columns-->`.
    pub fn write<W: Write + ?Sized>(
        &self,
        data: &Value,
        columns: impl FnOnce(&mut W) -> io::Result<()>,
        out: &mut W,
    ) -> io::Result<()> {
        let (mut rest, mut columns) = (self.text, Some(columns));
        for mark in ["/*style*/", "/*data*/", "<!--columns-->", "/*script*/"] {
            let Some((before, after)) = rest.split_once(mark) else { continue };
            out.write_all(before.as_bytes())?;
            rest = after;
            match mark {
                "/*style*/" => [STYLE, self.style]
                    .iter()
                    .try_for_each(|part| out.write_all(part.as_bytes()))?,
                // Text in a script element ends at `</`, wherever that is.
                "/*data*/" => out.write_all(data.to_string().replace("</", "<\\/").as_bytes())?,
                "/*script*/" => {
                    let mut parts = [SCRIPT].iter().chain(self.script);
                    parts.try_for_each(|part| out.write_all(part.as_bytes()))?
                }
                _ => columns.take().map_or(Ok(()), |columns| columns(out))?,
            }
        }
        out.write_all(rest.as_bytes())
    }
}
