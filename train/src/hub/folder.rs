//! Writing a folder: `config.json` and `model.safetensors`.

use std::fs;
use std::path::{Path, PathBuf};

use slimpipe_runtime::DType;

use super::{HubError, LlamaConfig, NewFile, Result, SafetensorsWriter, TensorSpec};

/// A folder being written. Both files appear when it is finished, after all their bytes are on the
/// disk; dropping it before leaves what was there.
pub struct FolderWriter {
    config: NewFile,
    weights: SafetensorsWriter,
    /// Last, so that it is dropped after the files in it.
    created: Created,
}

/// A folder that goes again if nothing comes into it.
struct Created(Option<PathBuf>);

impl FolderWriter {
    /// Begins the folder `dir`, made if need be, for a model `config` with weights of type `dtype`.
    ///
    /// # Errors
    /// The configuration is not valid, or the folder cannot be written.
    pub fn create(dir: &Path, config: &LlamaConfig, dtype: DType) -> Result<Self> {
        let path = dir.join("config.json");
        config.validate().map_err(|error| HubError::Config { path: path.clone(), error })?;
        let created = Created((!dir.exists()).then(|| dir.to_owned()));
        fs::create_dir_all(dir).map_err(HubError::io("create", dir))?;
        let tensors = config.tensors().map(|(name, shape)| TensorSpec { name, shape, dtype });
        // transformers wants to know which framework's layout it reads.
        let metadata = [("format", "pt")];
        let weights =
            SafetensorsWriter::create(&dir.join("model.safetensors"), tensors, &metadata)?;
        let mut file = NewFile::create(&path)?;
        file.append(config.to_json(dtype).as_bytes())?;
        Ok(Self { config: file, weights, created })
    }

    /// Writes all bytes of the tensor `name`; tensors may come in any order.
    ///
    /// # Errors
    /// A full disk; a tensor that the model does not have, or that was written before.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.weights.write(name, bytes)
    }

    /// Writes the next bytes of the tensor `name`, which comes in pieces.
    ///
    /// # Errors
    /// A full disk; a tensor that the model does not have, or that has fewer bytes left.
    pub fn append(&mut self, name: &str, piece: &[u8]) -> Result<()> {
        self.weights.append(name, piece)
    }

    /// Ends the folder.
    ///
    /// # Errors
    /// A tensor was not written in full, or the disk is full.
    pub fn finish(self) -> Result<()> {
        // Bindings are dropped in reverse, the folder last.
        let Self { mut created, config, weights } = self;
        let weights = weights.complete()?;
        config.sync()?;
        weights.commit()?;
        created.0 = None;
        config.commit()
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        if let Some(dir) = &self.0 {
            // Fails where something else came into the folder, which is then left alone.
            let _ = fs::remove_dir(dir);
        }
    }
}

/// Writes a folder whose tensors are all at hand.
///
/// # Errors
/// As [`FolderWriter`].
pub fn write_folder<'a>(
    dir: &Path,
    config: &LlamaConfig,
    dtype: DType,
    tensors: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<()> {
    let mut folder = FolderWriter::create(dir, config, dtype)?;
    for (name, bytes) in tensors {
        folder.write(name, bytes)?;
    }
    folder.finish()
}
