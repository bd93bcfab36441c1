//! The folder of a run and the files in it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::hub::NewFile;
use crate::{Config, Error, Result};

/// `runs/<name>/` and what is written there.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
    /// The folders this run made, innermost first; it may take them away if it never begins.
    made: Vec<PathBuf>,
}

impl RunDir {
    /// Makes the folder `path`; without one, the first free `runs/train-<number>`.
    ///
    /// # Errors
    /// It cannot be made, or holds something.
    pub fn create(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Self::numbered() };
        if Self::is_run(path) {
            let what = format!(
                "{} holds another run; name another folder, or continue that run with --resume",
                path.display()
            );
            return Err(Error::setting("--out", what));
        }
        Self::clear_logs(path);
        let occupied = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) => error.kind() != ErrorKind::NotFound,
        };
        if occupied {
            let what = format!("{} is not an empty folder; name a new one", path.display());
            return Err(Error::setting("--out", what));
        }
        let missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let made = path.ancestors().take_while(missing).map(Path::to_owned).collect();
        fs::create_dir_all(path).map_err(Error::io("make the folder", path))?;
        Ok(Self { path: path.to_owned(), made })
    }

    /// Takes away the logs of a run that ended in its first step for want of memory, where they are all
    /// that is there: it is tried again with other settings in the same folder.
    fn clear_logs(path: &Path) {
        let run = Self { path: path.to_owned(), made: Vec::new() };
        let names = |folder: &Path| -> Vec<PathBuf> {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect()
        };
        let logs = run.memory_events();
        let is_log = |file: &PathBuf| file.extension().is_some_and(|is| is == "events");
        if names(path) == [logs.clone()] && names(&logs).iter().all(is_log) {
            // What cannot be removed is found to occupy the folder.
            let _ = fs::remove_dir_all(logs);
        }
    }

    /// Takes a number: of two runs that begin at once, each gets its own.
    fn numbered() -> Result<Self> {
        let runs = Path::new("runs");
        let mut made = Vec::from_iter((!runs.exists()).then(|| runs.to_owned()));
        fs::create_dir_all(runs).map_err(Error::io("make the folder", runs))?;
        let mut number = 1u64;
        loop {
            let path = runs.join(format!("train-{number}"));
            match fs::create_dir(&path) {
                Ok(()) => {
                    made.insert(0, path.clone());
                    return Ok(Self { path, made });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(Error::io("make the folder", &path)(error)),
            }
        }
    }

    /// The folder `path` of a run, which another process makes.
    pub fn made_by_another(path: &Path) -> Self {
        Self { path: path.to_owned(), made: Vec::new() }
    }

    /// The folder of a run that is to be continued.
    ///
    /// # Errors
    /// There is no run in it.
    pub fn open(path: &Path) -> Result<Self> {
        let run = Self { path: path.to_owned(), made: Vec::new() };
        if !run.config().is_file() {
            let what = format!(
                "{} is not the folder of a run: it has no config.toml; name a folder that `train` wrote",
                path.display()
            );
            return Err(Error::setting("--resume", what));
        }
        Ok(run)
    }

    /// Whether `path` is the folder of a run.
    pub fn is_run(path: &Path) -> bool {
        let run = Self { path: path.to_owned(), made: Vec::new() };
        run.config().is_file() && run.metrics().is_file()
    }

    /// Whether `file` is one that training writes in the folder of a run.
    pub fn has(file: &Path) -> bool {
        let own = |path: &Path| {
            let run = Self { path: path.to_owned(), made: Vec::new() };
            let folders = [run.memory_events(), run.model(), run.checkpoints()];
            let files = [run.config(), run.metrics(), run.tensorboard(), run.schedule()];
            Self::is_run(path)
                && (folders.iter().any(|folder| file.starts_with(folder))
                    || files.iter().chain([&run.timeline()]).any(|own| own == file))
        };
        file.ancestors().skip(1).any(own)
    }

    /// Writes the settings, by which the folder is known as a run's. Paths are written in full, for
    /// a run may be resumed from another working directory.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write_config(&self, config: &Config) -> Result<()> {
        Ok(NewFile::write_all(&self.config(), config.absolute()?.to_toml().as_bytes())?)
    }

    /// Takes away what a run that never began has written, and the folders it made; its memory logs stay
    /// if they explain what ended it.
    pub fn discard(&self, logs_stay: bool) {
        // What cannot be removed is no worse than the error that led here. Folders that hold
        // something else stay.
        for file in [self.config(), self.metrics(), self.tensorboard(), self.schedule()] {
            let _ = fs::remove_file(file);
        }
        let _ = fs::remove_dir_all(self.rendezvous());
        if !logs_stay {
            let _ = fs::remove_dir_all(self.memory_events());
        }
        for folder in &self.made {
            let _ = fs::remove_dir(folder);
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

    /// The same for TensorBoard, which looks for `tfevents` in names.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join("events.out.tfevents.slimpipe")
    }

    /// Each rank's program.
    pub fn schedule(&self) -> PathBuf {
        self.path.join("schedule.txt")
    }

    /// The last step's timeline, for Perfetto.
    pub fn timeline(&self) -> PathBuf {
        self.path.join("timeline.json")
    }

    /// What happened to the ranks' memory: a log per rank, and another each time a run goes on.
    pub fn memory_events(&self) -> PathBuf {
        self.path.join("memory.events")
    }

    /// The log of `rank` that begins with step `step`.
    pub fn memory_log(&self, rank: u32, step: u64) -> PathBuf {
        self.memory_events().join(format!("rank-{rank:04}.step-{step:08}.events"))
    }

    /// Where ranks that are processes meet; gone when they have.
    pub fn rendezvous(&self) -> PathBuf {
        self.path.join("rendezvous")
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
