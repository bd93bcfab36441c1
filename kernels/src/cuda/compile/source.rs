//! Kernel texts, embedded in the program.
//!
//! For those who write kernels: texts of the folder that `SLIMPIPE_KERNEL_SOURCES` names are taken in place of
//! embedded ones, so that a change takes effect without a build.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::cuda::error::{CudaError, Result};

/// A CUDA C++ text with one or more kernels. It includes nothing but [headers] of ours.
///
/// [headers]: HEADERS
#[derive(Debug)]
pub struct Source {
    /// Its file in `kernels/cuda`.
    pub name: &'static str,
    /// The text.
    pub text: &'static str,
}

/// Embeds a file of `kernels/cuda`.
macro_rules! source {
    ($name:literal) => {
        $crate::cuda::compile::Source {
            name: $name,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/cuda/", $name)),
        }
    };
}
pub(in crate::cuda) use source;

/// What sources and headers may include, by the name they use: the path below `kernels/cuda`.
pub const HEADERS: &[Source] = &[
    source!("ptx/barrier.cuh"),
    source!("ptx/bf16.cuh"),
    source!("ptx/fence.cuh"),
    source!("ptx/math.cuh"),
    source!("ptx/matrix.cuh"),
    source!("ptx/mbarrier.cuh"),
    source!("ptx/registers.cuh"),
    source!("ptx/tma.cuh"),
    source!("ptx/types.cuh"),
    source!("ptx/wgmma.cuh"),
    source!("tile/attention_merge.cuh"),
    source!("tile/chunks.cuh"),
    source!("tile/column_sums.cuh"),
    source!("tile/float.cuh"),
    source!("tile/fragment.cuh"),
    source!("tile/grid.cuh"),
    source!("tile/head_rows.cuh"),
    source!("tile/labels.cuh"),
    source!("tile/math.cuh"),
    source!("tile/pack.cuh"),
    source!("tile/panels.cuh"),
    source!("tile/plain_attention.cuh"),
    source!("tile/product.cuh"),
    source!("tile/ring.cuh"),
    source!("tile/row.cuh"),
    source!("tile/softmax.cuh"),
    source!("tile/staging.cuh"),
    source!("tile/sum_exp.cuh"),
    source!("tile/tensors.cuh"),
    source!("tile/tile_order.cuh"),
    source!("tile/walk.cuh"),
    source!("tile/walk_packs.cuh"),
];

impl Source {
    /// The text to compile: that of the file of its name in `SLIMPIPE_KERNEL_SOURCES`, or the embedded one.
    pub fn text(&self) -> &'static str {
        let folder =
            std::env::var_os("SLIMPIPE_KERNEL_SOURCES").filter(|folder| !folder.is_empty());
        let file = folder.map(|folder| PathBuf::from(folder).join(self.name));
        match file.and_then(|file| std::fs::read_to_string(file).ok()) {
            // As often as someone who writes kernels compiles them.
            Some(text) => text.leak(),
            None => self.text,
        }
    }

    /// The headers it includes, directly or through others, each once.
    ///
    /// # Errors
    /// One of them is not embedded.
    pub fn headers(&self) -> Result<Vec<&'static Source>> {
        let mut found: Vec<&'static Source> = Vec::new();
        let mut unread = vec![(self.name, self.text())];
        while let Some((name, text)) = unread.pop() {
            for wanted in includes(text) {
                let header = HEADERS.iter().find(|header| header.name == wanted);
                let header = header.ok_or_else(|| CudaError::NoHeader {
                    source_name: name.to_owned(),
                    header: wanted.to_owned(),
                })?;
                if !found.iter().any(|other| other.name == header.name) {
                    found.push(header);
                    unread.push((header.name, header.text()));
                }
            }
        }
        found.sort_by_key(|header| header.name);
        Ok(found)
    }

    /// Adds its text and its headers' to a hash.
    pub(super) fn hash(&self, hash: &mut Sha256) -> Result<()> {
        let headers = self.headers()?;
        for source in std::iter::once(self).chain(headers) {
            for part in [source.name, source.text()] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
        Ok(())
    }
}

/// The names that a text includes.
fn includes(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let name = line.trim().strip_prefix("#include")?.trim();
        name.strip_prefix('"')?.split('"').next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_is_not_embedded_is_named() {
        let source = Source { name: "a.cu", text: "  #include \"ptx/none.cuh\" // why\nint x;" };
        let error = source.headers().unwrap_err().to_string();
        assert_eq!(error, "a.cu includes ptx/none.cuh, which is no embedded header");
    }
}
