//! The weights of a folder: one safetensors file, or shards that an index file names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use slimpipe_runtime::DType;

use super::json::read_text;
use super::{HubError, LlamaConfig, Result, SafetensorsFile, TensorInfo};

/// A folder's tensors, open for reading; threads may read from it at once.
#[derive(Debug)]
pub struct Weights {
    dir: PathBuf,
    files: Vec<SafetensorsFile>,
    /// The file each tensor is in.
    index: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Opens `model.safetensors` in `dir`, or the shards that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// Neither is there, or a file is damaged, or the index does not fit the shards.
    pub fn open(dir: &Path) -> Result<Self> {
        let whole = dir.join("model.safetensors");
        if whole.exists() {
            let file = SafetensorsFile::open(&whole)?;
            let index = file.tensors().map(|(name, _)| (name.to_owned(), 0)).collect();
            return Ok(Self { dir: dir.to_owned(), files: vec![file], index });
        }
        let path = dir.join("model.safetensors.index.json");
        if !path.exists() {
            let torch = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
            let remedy = if torch.iter().any(|name| dir.join(name).exists()) {
                "its pickled weights are not read: load it with transformers and save_pretrained it"
            } else {
                "give a folder that transformers' save_pretrained or a training run wrote"
            };
            return Err(HubError::NoWeights { dir: dir.to_owned(), remedy });
        }
        Self::open_shards(dir, &path)
    }

    fn open_shards(dir: &Path, path: &Path) -> Result<Self> {
        let Index { weight_map } = serde_json::from_str(&read_text(path)?)
            .map_err(|error| HubError::corrupt(path, format!("not an index of shards: {error}")))?;
        let names: BTreeSet<&str> = weight_map.values().map(String::as_str).collect();
        let mut files = Vec::with_capacity(names.len());
        let mut numbers = BTreeMap::new();
        for name in names {
            let mut parts = Path::new(name).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                let what = format!("names the shard {name:?}, which is not a file of this folder");
                return Err(HubError::corrupt(path, what));
            }
            numbers.insert(name, files.len());
            files.push(SafetensorsFile::open(&dir.join(name))?);
        }
        let mut index = BTreeMap::new();
        for (tensor, file) in &weight_map {
            let number = numbers[file.as_str()];
            files[number].tensor(tensor)?;
            index.insert(tensor.clone(), number);
        }
        Ok(Self { dir: dir.to_owned(), files, index })
    }

    /// The tensors' names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.index.keys().map(String::as_str)
    }

    fn file(&self, name: &str) -> Result<&SafetensorsFile> {
        let number = self.index.get(name).ok_or_else(|| {
            let what = "is missing; the folder is incomplete, or of another model";
            HubError::tensor(&self.dir, name, what)
        })?;
        Ok(&self.files[*number])
    }

    /// Shape and dtype of the tensor `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        self.file(name)?.tensor(name)
    }

    /// The dtype of the tensor `name`, which holds floats of `shape`.
    ///
    /// # Errors
    /// No such tensor, another shape, or elements that are not f32, bf16 or f16.
    pub fn float_dtype(&self, name: &str, shape: &[usize]) -> Result<DType> {
        let file = self.file(name)?;
        let info = file.tensor(name)?;
        if info.shape() != shape {
            let what = format!("has shape {:?}, config.json means {shape:?}", info.shape());
            return Err(HubError::tensor(file.path(), name, what));
        }
        info.dtype().filter(|dtype| dtype.is_float()).ok_or_else(|| {
            let what = format!("is {}; save the model as f32, bf16 or f16", info.dtype_name());
            HubError::tensor(file.path(), name, what)
        })
    }

    /// Reads the bytes of the tensor `name` into `out`, which is exactly as long.
    ///
    /// # Errors
    /// No such tensor, another length, or the file cannot be read (any more).
    pub fn read_into(&self, name: &str, out: &mut [u8]) -> Result<()> {
        self.file(name)?.read_into(name, out)
    }

    /// Fills `out` with bytes of the tensor `name`, from its byte `start` on.
    ///
    /// # Errors
    /// No such tensor, fewer bytes, or the file cannot be read (any more).
    pub fn read_from(&self, name: &str, start: u64, out: &mut [u8]) -> Result<()> {
        self.file(name)?.read_from(name, start, out)
    }

    /// Checks that these are the weights of `config`: every tensor is there in its shape, and there
    /// is none that the model would silently leave out.
    ///
    /// # Errors
    /// Names the first tensor that is missing, has another shape, or is too much.
    pub fn check(&self, config: &LlamaConfig) -> Result<()> {
        let mut known = BTreeSet::new();
        for (name, shape) in config.tensors() {
            self.float_dtype(&name, &shape)?;
            known.insert(name);
        }
        let harmless = |name: &str| {
            // Older files hold the rotary frequencies, and a tied head next to the embedding.
            name.ends_with("rotary_emb.inv_freq")
                || (name == "lm_head.weight" && config.tie_word_embeddings)
        };
        match self.names().find(|name| !known.contains(*name) && !harmless(name)) {
            None => Ok(()),
            Some(name) => {
                let path = self.file(name)?.path();
                let what = match name.ends_with(".bias") {
                    true => "is a bias, and biases are not supported",
                    false => "is no tensor of the Llama that config.json describes",
                };
                Err(HubError::tensor(path, name, what))
            }
        }
    }
}
