//! Everything around the engine that a training run needs: models, optimizer, data, configuration,
//! checkpoints, metrics, and the loop that puts them together.
//!
//! ```
//! use slimpipe_train::{Config, lr};
//! let config = Config::parse("[parallel]\npipeline = 2\n", &["train.steps=10".to_owned()])?;
//! assert_eq!((config.parallel.pipeline, config.train.steps), (2, 10));
//! assert!(lr::at(&config.train, 1) < lr::at(&config.train, 10));     // warm-up, then a cosine
//! let error = Config::parse("", &["train.setps=10".to_owned()]).unwrap_err();
//! assert!(error.to_string().contains("did you mean `train.steps`"));
//! # Ok::<(), slimpipe_train::Error>(())
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`config`] | the settings, their file, and what they resolve to |
//! | [`model`] | Llama on the public tensor API |
//! | [`hub`] | Hugging Face folders: `config.json` and safetensors |
//! | [`data`] | tokens from text and token files, and which of them a step sees |
//! | [`optimizer`], [`lr`] | AdamW, clipping, learning rates |
//! | [`checkpoint`] | resuming bit-identically |
//! | [`metrics`] | what a run reports |
//! | [`draw`] | pictures of schedules, simulated or measured |
//! | [`trainer`] | the ranks of a run |
//! | [`trace`] | memory event logs: read, replayed, summed up |
//! | [`hardware`] | what GPUs and their links can do, for plans |
//! | [`eval`] | loss of a model on data |

pub mod checkpoint;
pub mod config;
pub mod data;
pub mod draw;
mod error;
pub mod eval;
pub mod flops;
pub mod hardware;
pub mod hub;
pub mod lr;
pub mod metrics;
pub mod model;
pub mod optimizer;
mod page;
pub mod plan;
pub mod run;
pub mod trace;
pub mod trainer;

pub use config::Config;
pub use error::{Error, Result};
