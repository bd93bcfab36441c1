//! The settings of a run: one TOML file, `--set section.key=value` on top, defaults for the rest.
//!
//! What is unknown is an error with a suggestion, what has the wrong type an error that names the
//! setting. [`Config::resolve`] then checks everything that can be checked before anything runs.

mod built;
mod bytes;
mod edit;
mod exchange;
mod job;
mod layers;
mod ranks;
mod settings;
mod vocabulary;

pub use bytes::ByteSize;
pub use job::Job;
pub use layers::Layers;
pub use ranks::Ranks;
pub use settings::{
    DataSettings, MemorySettings, ModelSettings, ParallelSettings, Precision, TrainSettings,
};

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// All settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The model.
    pub model: ModelSettings,
    /// What it is trained on.
    pub data: DataSettings,
    /// How.
    pub train: TrainSettings,
    /// On which ranks, in which order.
    pub parallel: ParallelSettings,
    /// With how much memory.
    pub memory: MemorySettings,
}

impl Config {
    /// Reads the file, if one is given, and applies `overrides` of the form `section.key=value`.
    ///
    /// # Errors
    /// A file that cannot be read or is not TOML, an unknown setting, a value of the wrong type.
    pub fn load(path: Option<&Path>, overrides: &[String]) -> Result<Self> {
        let Some(path) = path else { return Self::parse("", overrides) };
        let text = std::fs::read_to_string(path).map_err(|error| {
            let what =
                format!("cannot read {}: {error}; name a TOML file of settings", path.display());
            Error::setting("--config", what)
        })?;
        Self::parse(&text, overrides).map_err(|error| match error {
            Error::Toml { what, .. } => Error::Toml { path: path.display().to_string(), what },
            other => other,
        })
    }

    /// As [`Config::load`], from text.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, overrides: &[String]) -> Result<Self> {
        let toml = |error: toml::de::Error| Error::Toml {
            path: "the configuration".to_owned(),
            what: error.to_string(),
        };
        let mut table: toml::Table = text.parse().map_err(toml)?;
        for text in overrides {
            edit::set(&mut table, text)?;
        }
        edit::check_keys(&table)?;
        edit::check_values(&table)?;
        table.try_into().map_err(toml)
    }

    /// The settings as TOML, to be read again.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# {error}\n"))
    }

    /// The tokenizer that text is read by: the one that is set, or the model's own.
    pub fn tokenizer(&self) -> Option<PathBuf> {
        let own = || self.model.path.as_ref().map(|path| path.join("tokenizer.json"));
        self.data.tokenizer.clone().or_else(|| own().filter(|path| path.is_file()))
    }

    /// The same settings with paths that mean the same in every working directory.
    ///
    /// # Errors
    /// The working directory is not there any more.
    pub fn absolute(&self) -> Result<Self> {
        let mut config = self.clone();
        let Self { data, model, memory, .. } = &mut config;
        let folders = model.path.iter_mut().chain(&mut memory.offload_folder);
        for path in data.paths.iter_mut().chain(&mut data.tokenizer).chain(folders) {
            *path = std::path::absolute(&*path).map_err(Error::io("find", path))?;
        }
        Ok(config)
    }

    /// Changes single settings, as `--set` does.
    ///
    /// # Errors
    /// An unknown setting or a value of the wrong type.
    pub fn with(&self, overrides: &[String]) -> Result<Self> {
        Self::parse(&self.to_toml(), overrides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Result<Config> {
        Config::parse("", &[text.to_owned()])
    }

    #[test]
    fn a_configuration_reads_back_as_written() {
        let mut config = Config::default();
        config.memory.limit = Some(ByteSize(3 << 19));
        config.memory.recompute = crate::model::Recompute::Partial;
        config.memory.recompute_layers = "0-2,5".parse().ok();
        config.memory.offload = 0.75;
        config.memory.offload_folder = Some("disk".into());
        config.parallel.exchange = Some("paper".to_owned());
        config.model.path = Some("some/folder".into());
        assert_eq!(Config::parse(&config.to_toml(), &[]).unwrap(), config);
    }

    #[test]
    fn overrides_take_any_toml_value_and_bare_words() {
        assert_eq!(set("train.lr=3e-3").unwrap().train.lr, 3e-3);
        assert_eq!(set("parallel.schedule=1f1b").unwrap().parallel.schedule, "1f1b");
        assert_eq!(set("train.dtype = bf16").unwrap().train.dtype, Precision::Bf16);
        assert_eq!(set("data.paths=[\"a\", \"b\"]").unwrap().data.paths.len(), 2);
        assert_eq!(set("data.paths=a.txt").unwrap().data.paths.len(), 1);
        assert_eq!(set("memory.limit=64 MiB").unwrap().memory.limit, Some(ByteSize(64 << 20)));
    }

    #[test]
    fn mistakes_name_the_setting_and_what_was_probably_meant() {
        for (text, expected) in [
            ("train.setps=3", "did you mean `train.steps`"),
            ("parallel.slice=3", "did you mean `parallel.slices`"),
            ("trian.steps=3", "did you mean `train.steps`"),
            ("steps=3", "did you mean `train.steps`"),
            ("foo.bar=3", "no such setting; the README"),
            ("train.steps=many", "setting `train.steps`: is \"many\"; it must be a whole number"),
            ("train.steps=-1", "setting `train.steps`: is -1; it must be a whole number from 0"),
            ("train.lr=true", "setting `train.lr`: is true; it must be a number"),
            ("train.dtype=f64", "`f32` or `bf16`"),
            ("train.dtype=3", "integer `3`, expected a string"),
            ("memory.limit=lots", "setting `memory.limit`"),
            ("memory.limit=true", "a size such as `512 MiB`"),
            ("train.steps", "section.key=value"),
        ] {
            let error = set(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = Config::parse("[train]\nsteps = \n", &[]).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
