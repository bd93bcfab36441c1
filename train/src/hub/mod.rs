//! Hugging Face folders for Llama: `config.json` and safetensors, in and out.
//!
//! ```
//! use slimpipe_runtime::DType;
//! use slimpipe_train::hub::{self, LlamaConfig};
//! let config = LlamaConfig::from_json(
//!     r#"{"model_type": "llama", "vocab_size": 4, "hidden_size": 4, "intermediate_size": 4,
//!         "num_hidden_layers": 1, "num_attention_heads": 1, "tie_word_embeddings": true}"#,
//! )?;
//! let dir = tempfile::tempdir()?;
//! let mut folder = hub::FolderWriter::create(dir.path(), &config, DType::F32)?;
//! for (name, shape) in config.tensors() {
//!     folder.write(&name, &vec![0; 4 * shape.iter().product::<usize>()])?;
//! }
//! folder.finish()?;                                     // until here the folder had no file
//! let (again, weights) = hub::open(dir.path())?;
//! assert_eq!((again, weights.names().count()), (config, 11));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Everything read is distrusted: a damaged or hostile file is an error that names the file and the
//! field or tensor. Files are read at offsets rather than mapped: bytes go straight into a tensor's
//! memory, none are held beside it, and a file that shrinks meanwhile is an error, not a signal.
//!
//! | module | owns |
//! |---|---|
//! | `config`, `rope` | [`LlamaConfig`], what it implies, and what is valid |
//! | `json` | `config.json` in the spellings of transformers 4 and 5 |
//! | `safetensors`, `weights` | reading one file, and a folder of them |
//! | `writer`, `folder`, `new_file` | writing, all or nothing |

mod config;
mod error;
mod folder;
mod json;
mod new_file;
mod rope;
mod safetensors;
mod weights;
mod writer;

use std::path::Path;

pub use config::LlamaConfig;
pub use error::{FieldError, HubError};
pub use folder::{FolderWriter, write_folder};
pub use new_file::NewFile;
pub use rope::RopeScaling;
pub use safetensors::{SafetensorsFile, TensorInfo};
pub use weights::Weights;
pub use writer::{SafetensorsWriter, TensorSpec};

/// Shorthand for a result of this module.
pub type Result<T, E = HubError> = std::result::Result<T, E>;

/// Opens the folder `dir`: its configuration, and weights that were checked to be those of it.
///
/// # Errors
/// Files that are missing, damaged, not a Llama's, or that do not fit each other.
pub fn open(dir: &Path) -> Result<(LlamaConfig, Weights)> {
    let config = LlamaConfig::read(dir)?;
    let weights = Weights::open(dir)?;
    weights.check(&config)?;
    Ok((config, weights))
}
