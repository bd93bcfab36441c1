//! Writing one safetensors file, tensor by tensor.
//!
//! Names, dtypes and shapes are known before the first byte, so the header goes first and every
//! tensor has its place: tensors can come in any order, from one rank after the other, whole or in
//! pieces, and nothing but the piece at hand is in memory.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo as Entry;
use serde_json::{Map, Value, json};
use slimpipe_runtime::DType;

use super::{HubError, NewFile, Result};

/// A tensor that a file is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name, unique in the file.
    pub name: String,
    /// Its extents.
    pub shape: Vec<usize>,
    /// Its element type.
    pub dtype: DType,
}

/// A safetensors file being written; it appears when it is finished and leaves nothing otherwise.
pub struct SafetensorsWriter {
    file: NewFile,
    /// Place and length of what is still to come of each tensor.
    missing: HashMap<String, (u64, usize)>,
}

impl SafetensorsWriter {
    /// Begins the file `path`, which will hold `tensors`, and the texts `metadata`.
    ///
    /// # Errors
    /// The file cannot be created, or a name occurs twice.
    pub fn create(
        path: &Path,
        tensors: impl IntoIterator<Item = TensorSpec>,
        metadata: &[(&str, &str)],
    ) -> Result<Self> {
        let mut tensors: Vec<TensorSpec> = tensors.into_iter().collect();
        // Wide elements first: then all are aligned, for readers that map the file.
        tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.size()));
        let metadata: Map<String, Value> =
            metadata.iter().map(|&(key, text)| (key.to_owned(), json!(text))).collect();
        let mut header = Map::from_iter([("__metadata__".to_owned(), Value::Object(metadata))]);
        let mut places = HashMap::with_capacity(tensors.len());
        let mut at = 0;
        for TensorSpec { name, shape, dtype } in tensors {
            let len = shape.iter().product::<usize>() * dtype.size();
            let entry = Entry { dtype: stored(dtype), shape, data_offsets: (at, at + len) };
            if header.insert(name.clone(), json!(entry)).is_some() {
                return Err(HubError::tensor(path, &name, "occurs twice"));
            }
            places.insert(name, (at as u64, len));
            at += len;
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');

        let mut file = NewFile::create(path)?;
        file.append(&(header.len() as u64).to_le_bytes())?;
        file.append(&header)?;
        let start = 8 + header.len() as u64;
        places.values_mut().for_each(|(place, _)| *place += start);
        Ok(Self { file, missing: places })
    }

    /// Writes all bytes of the tensor `name`.
    ///
    /// # Errors
    /// A full disk; a tensor that was not announced, has another length, or was written before.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        match self.missing.get(name) {
            Some(&(_, len)) if len != bytes.len() => {
                let what = format!("takes {len} bytes, got {}", bytes.len());
                Err(HubError::tensor(self.file.path(), name, what))
            }
            _ => self.append(name, bytes),
        }
    }

    /// Writes the next bytes of the tensor `name`, which comes in pieces.
    ///
    /// # Errors
    /// A full disk; a tensor that was not announced, or has fewer bytes left.
    pub fn append(&mut self, name: &str, piece: &[u8]) -> Result<()> {
        let path = self.file.path();
        let Some((place, left)) = self.missing.get_mut(name) else {
            let what = "was not announced, or was written before";
            return Err(HubError::tensor(path, name, what));
        };
        if piece.len() > *left {
            let what = format!("has {left} bytes left, got {}", piece.len());
            return Err(HubError::tensor(path, name, what));
        }
        self.file.file().write_all_at(piece, *place).map_err(HubError::io("write", path))?;
        (*place, *left) = (*place + piece.len() as u64, *left - piece.len());
        if *left == 0 {
            self.missing.remove(name);
        }
        Ok(())
    }

    /// Ends the file, without giving it its name yet.
    pub(super) fn complete(self) -> Result<NewFile> {
        if let Some(name) = self.missing.keys().min() {
            return Err(HubError::tensor(self.file.path(), name, "was never written in full"));
        }
        self.file.sync()?;
        Ok(self.file)
    }

    /// Ends the file: it is on the disk under its name.
    ///
    /// # Errors
    /// A tensor was not written in full, or the disk is full; what was there before is as it was.
    pub fn finish(self) -> Result<()> {
        self.complete()?.commit()
    }
}

fn stored(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        DType::I32 => Dtype::I32,
        DType::U32 => Dtype::U32,
        DType::I64 => Dtype::I64,
        DType::U8 => Dtype::U8,
    }
}
