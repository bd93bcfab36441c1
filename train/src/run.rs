//! The folder of a run and the files in it.

use std::path::{Path, PathBuf};

use crate::hub::NewFile;
use crate::{Config, Error, Result};

/// `runs/<name>/` and what is written there.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Whether this run made the folder, and may take it away again if it never begins.
    created: bool,
}

impl RunDir {
    /// Makes the folder `path`; without one, the first free `runs/train-<number>`.
    ///
    /// # Errors
    /// It cannot be made, or holds another run.
    pub fn create(path: Option<&Path>) -> Result<Self> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => {
                let name = |number: &u32| PathBuf::from(format!("runs/train-{number}"));
                let free = (1..).find(|number| !name(number).exists()).unwrap_or(1);
                name(&free)
            }
        };
        let run = Self { created: !path.exists(), path };
        if run.config().exists() {
            let what = format!(
                "{} holds another run; name another folder, or continue that run with --resume",
                run.path.display()
            );
            return Err(Error::setting("--out", what));
        }
        std::fs::create_dir_all(&run.path).map_err(Error::io("make the folder", &run.path))?;
        Ok(run)
    }

    /// The folder of a run that is to be continued.
    ///
    /// # Errors
    /// There is no run in it.
    pub fn open(path: &Path) -> Result<Self> {
        let run = Self { path: path.to_owned(), created: false };
        if !run.config().is_file() {
            let what =
                format!("{} is not the folder of a run: it has no config.toml", path.display());
            return Err(Error::setting("--resume", what));
        }
        Ok(run)
    }

    /// Writes the settings, by which the folder is known as a run's.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write_config(&self, config: &Config) -> Result<()> {
        Ok(NewFile::write_all(&self.config(), config.to_toml().as_bytes())?)
    }

    /// Takes the folder away, if this run made it.
    pub fn discard(self) {
        if self.created {
            // A folder that cannot be removed is no worse than the error that led here.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The settings.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// One object per step.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// Each rank's program.
    pub fn schedule(&self) -> PathBuf {
        self.path.join("schedule.txt")
    }

    /// The last step's timeline, for Perfetto.
    pub fn timeline(&self) -> PathBuf {
        self.path.join("timeline.json")
    }

    /// What happened to the ranks' memory.
    pub fn memory_events(&self) -> PathBuf {
        self.path.join("memory.events")
    }

    /// The weights, as a Hugging Face folder.
    pub fn model(&self) -> PathBuf {
        self.path.join("model")
    }

    /// What a resume begins with.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoint")
    }
}
