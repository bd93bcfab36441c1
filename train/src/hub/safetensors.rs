//! Reading one safetensors file: eight bytes of length, a JSON header, the tensors' bytes.
//!
//! The header is checked in full before any of it is believed, tensor by tensor, so that errors can
//! name the one that is wrong.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorInfo as Entry;
use serde::Deserialize;
use serde_json::{Map, Value};
use slimpipe_runtime::DType;

use super::{HubError, Result};

/// The format's own bound.
const MOST_HEADER_BYTES: u64 = 100_000_000;

/// What a file says about one of its tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    shape: Vec<usize>,
    dtype: Dtype,
    /// Its bytes' place in the file.
    bytes: Range<u64>,
}

impl TensorInfo {
    /// The extents.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The element type; `None` for those that tensors here cannot have (8-bit floats, for one).
    pub fn dtype(&self) -> Option<DType> {
        Some(match self.dtype {
            Dtype::F32 => DType::F32,
            Dtype::BF16 => DType::BF16,
            Dtype::F16 => DType::F16,
            Dtype::I32 => DType::I32,
            Dtype::U32 => DType::U32,
            Dtype::I64 => DType::I64,
            Dtype::U8 => DType::U8,
            _ => return None,
        })
    }

    /// The element type's name in the file.
    pub fn dtype_name(&self) -> String {
        self.dtype.to_string()
    }

    /// Number of bytes.
    pub fn byte_count(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }
}

/// A safetensors file, open for reading; threads may read from it at once.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    file: File,
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, TensorInfo>,
}

impl SafetensorsFile {
    /// Opens `path` and checks its header.
    ///
    /// # Errors
    /// A file that cannot be read, is truncated, or is not of this format.
    pub fn open(path: &Path) -> Result<Self> {
        let io = || HubError::io("read", path);
        let file = File::open(path).map_err(io())?;
        let about = file.metadata().map_err(io())?;
        if !about.is_file() {
            return Err(HubError::corrupt(path, "not a file"));
        }
        let corrupt = |what: String| HubError::corrupt(path, what);
        let len = about.len();
        if len < 8 {
            return Err(corrupt(format!("{len} bytes are not a safetensors file")));
        }
        let mut header_len = [0; 8];
        file.read_exact_at(&mut header_len, 0).map_err(io())?;
        let header_len = u64::from_le_bytes(header_len);
        if header_len > MOST_HEADER_BYTES {
            return Err(corrupt(format!(
                "not a safetensors file (a header of {header_len} bytes)"
            )));
        }
        let start = 8 + header_len;
        if start > len {
            let what = format!("truncated: the header takes {start} bytes, the file has {len}");
            return Err(corrupt(what));
        }
        let mut header = vec![0; header_len as usize];
        file.read_exact_at(&mut header, 8).map_err(io())?;
        let mut header: Map<String, Value> = serde_json::from_slice(&header)
            .map_err(|error| corrupt(format!("the header is not a JSON object: {error}")))?;
        let metadata = header.remove("__metadata__").map_or(Ok(BTreeMap::new()), |value| {
            BTreeMap::deserialize(value).map_err(|error| corrupt(format!("__metadata__: {error}")))
        })?;
        let mut tensors = BTreeMap::new();
        for (name, value) in header {
            let info = tensor(value, start)
                .map_err(|what| HubError::tensor(path, &name, format!("is damaged: {what}")))?;
            tensors.insert(name, info);
        }
        check_tiling(path, &tensors, start..len)?;
        Ok(Self { path: path.to_owned(), file, metadata, tensors })
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Texts that the writer left in the file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The tensors by name, in alphabetical order.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors.iter().map(|(name, info)| (name.as_str(), info))
    }

    /// What the file says about the tensor `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        let missing = || HubError::tensor(&self.path, name, "is missing");
        self.tensors.get(name).ok_or_else(missing)
    }

    /// Reads the tensor `name` into `out`, which is exactly as long.
    ///
    /// # Errors
    /// No such tensor, another length, or the file cannot be read (any more).
    pub fn read_into(&self, name: &str, out: &mut [u8]) -> Result<()> {
        let info = self.tensor(name)?;
        if info.byte_count() != out.len() as u64 {
            let what = format!("has {} bytes, expected {}", info.byte_count(), out.len());
            return Err(HubError::tensor(&self.path, name, what));
        }
        self.read_from(name, 0, out)
    }

    /// Fills `out` with bytes of the tensor `name`, from its byte `start` on.
    ///
    /// # Errors
    /// No such tensor, fewer bytes, or the file cannot be read (any more).
    pub fn read_from(&self, name: &str, start: u64, out: &mut [u8]) -> Result<()> {
        let info = self.tensor(name)?;
        if start.checked_add(out.len() as u64).is_none_or(|end| end > info.byte_count()) {
            let (has, len) = (info.byte_count(), out.len());
            let what = format!("has {has} bytes, not {len} from byte {start} on");
            return Err(HubError::tensor(&self.path, name, what));
        }
        let at = info.bytes.start + start;
        self.file.read_exact_at(out, at).map_err(HubError::io("read", &self.path))
    }
}

/// Checks one entry of the header by itself. Its bytes are counted from `start`.
fn tensor(value: Value, start: u64) -> Result<TensorInfo, String> {
    let entry = Entry::deserialize(value).map_err(|error| error.to_string())?;
    let Entry { dtype, shape, data_offsets: (begin, end) } = entry;
    let elements = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
    let bits = elements.and_then(|elements| elements.checked_mul(dtype.bitsize()));
    let bytes = bits.filter(|bits| bits.is_multiple_of(8)).map(|bits| bits / 8);
    if bytes.is_none() || end.checked_sub(begin) != bytes {
        return Err(format!("{dtype} of shape {shape:?} does not take bytes {begin}..{end}"));
    }
    let place = |offset: usize| start.checked_add(offset as u64);
    match (place(begin), place(end)) {
        (Some(begin), Some(end)) => Ok(TensorInfo { shape, dtype, bytes: begin..end }),
        _ => Err(format!("there are no bytes {begin}..{end}")),
    }
}

/// Checks that the tensors' bytes fill `data` without holes or overlaps.
fn check_tiling(
    path: &Path,
    tensors: &BTreeMap<String, TensorInfo>,
    data: Range<u64>,
) -> Result<()> {
    let mut in_order: Vec<_> = tensors.iter().collect();
    in_order.sort_by_key(|(_, info)| (info.bytes.start, info.bytes.end));
    let mut at = data.start;
    for (name, info) in in_order {
        if info.bytes.start != at {
            let what = "is damaged: its bytes do not follow those of the tensor before it";
            return Err(HubError::tensor(path, name, what));
        }
        at = info.bytes.end;
        if at > data.end {
            let what = format!("is truncated: it ends at byte {at}, the file at {}", data.end);
            return Err(HubError::tensor(path, name, what));
        }
    }
    if at != data.end {
        let what = format!("{} bytes at the end belong to no tensor", data.end - at);
        return Err(HubError::corrupt(path, what));
    }
    Ok(())
}
