//! Checkpoints: everything a run needs to go on bit-identically.
//!
//! A checkpoint is a folder `step-<number>` with one safetensors file per rank: weights, f32 masters
//! and moments in the order of the rank's parameters. Learning rate and sampling are functions of
//! the step, so there is no other state. All ranks write into a hidden folder, which gets its name
//! when all of them have; a run killed at any moment leaves whole checkpoints only.

use std::path::{Path, PathBuf};

use slimpipe_pipeline::comm::Communicator;
use slimpipe_runtime::RawTensor;

use crate::hub::{SafetensorsFile, SafetensorsWriter, TensorSpec};
use crate::optimizer::{AdamW, State};
use crate::{Error, Result};

const PARTIAL: &str = ".partial";

/// Writes the checkpoint of `step` under `folder` and removes older ones. Called by every rank.
///
/// # Errors
/// The disk is full, or another rank failed; older checkpoints are still there.
pub fn write(
    folder: &Path,
    step: u64,
    optimizer: &AdamW,
    comm: &mut dyn Communicator,
) -> Result<()> {
    let partial = folder.join(PARTIAL);
    if comm.rank() == 0 {
        if partial.exists() {
            std::fs::remove_dir_all(&partial).map_err(Error::io("remove", &partial))?;
        }
        std::fs::create_dir_all(&partial).map_err(Error::io("make the folder", &partial))?;
    }
    comm.barrier()?;
    write_rank(&rank_file(&partial, comm.rank()), step, optimizer)?;
    comm.barrier()?;
    if comm.rank() == 0 {
        let whole = step_folder(folder, step);
        if whole.exists() {
            std::fs::remove_dir_all(&whole).map_err(Error::io("remove", &whole))?;
        }
        std::fs::rename(&partial, &whole).map_err(Error::io("rename", &partial))?;
        for (other, path) in list(folder)? {
            if other != step {
                std::fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
            }
        }
    }
    Ok(comm.barrier()?)
}

fn step_folder(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("step-{step:08}"))
}

fn rank_file(folder: &Path, rank: u32) -> PathBuf {
    folder.join(format!("rank-{rank:04}.safetensors"))
}

/// What is stored of one parameter: a name and the tensor.
fn parts<'a>(index: usize, state: &'a State, value: &'a RawTensor) -> Vec<(String, &'a RawTensor)> {
    let name = |part: &str| format!("{index:05}.{}.{part}", state.parameter.name());
    let mut parts = vec![
        (name("value"), value),
        (name("exp_avg"), &state.exp_avg),
        (name("exp_avg_sq"), &state.exp_avg_sq),
    ];
    parts.extend(state.master.as_ref().map(|master| (name("master"), master)));
    parts
}

fn write_rank(path: &Path, step: u64, optimizer: &AdamW) -> Result<()> {
    let mut specs = Vec::new();
    for (index, state) in optimizer.states().iter().enumerate() {
        let value = state.parameter.value();
        for (name, tensor) in parts(index, state, &value) {
            specs.push(TensorSpec { name, shape: tensor.dims().to_vec(), dtype: tensor.dtype() });
        }
    }
    let step = step.to_string();
    let mut writer = SafetensorsWriter::create(path, specs, &[("step", &step)])?;
    for (index, state) in optimizer.states().iter().enumerate() {
        let value = state.parameter.value();
        for (name, tensor) in parts(index, state, &value) {
            writer.write(&name, tensor.as_bytes("checkpoint")?)?;
        }
    }
    Ok(writer.finish()?)
}

/// The checkpoints under `folder` with their steps.
fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let failed = || Error::io("read the folder", folder);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(step) = name.strip_prefix("step-").and_then(|number| number.parse().ok()) {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

/// The newest checkpoint under `folder` and its step.
///
/// # Errors
/// There is none.
pub fn latest(folder: &Path) -> Result<(u64, PathBuf)> {
    let none = || {
        Error::Checkpoint {
        path: folder.to_owned(),
        what: "there is no checkpoint to resume from; set train.checkpoint_every so that a run writes some".to_owned(),
    }
    };
    if !folder.is_dir() {
        return Err(none());
    }
    list(folder)?.pop().ok_or_else(none)
}

/// Restores `rank`'s parameters and optimizer from the checkpoint of `step` at `path`.
///
/// # Errors
/// A damaged file, or one of another model or layout.
pub fn read(path: &Path, step: u64, rank: u32, optimizer: &mut AdamW) -> Result<()> {
    let file = rank_file(path, rank);
    let mismatch = |what: String| Error::Checkpoint { path: file.clone(), what };
    let stored = SafetensorsFile::open(&file)?;
    if stored.metadata().get("step") != Some(&step.to_string()) {
        return Err(mismatch(format!("is not a checkpoint of step {step}")));
    }
    let mut count = 0;
    for (index, state) in optimizer.states_mut().iter_mut().enumerate() {
        let name = state.parameter.name().to_owned();
        let State { parameter, master, exp_avg, exp_avg_sq } = state;
        let mut value = parameter.value_mut();
        let tensors = [
            ("value", Some(&mut *value)),
            ("exp_avg", Some(exp_avg)),
            ("exp_avg_sq", Some(exp_avg_sq)),
            ("master", master.as_mut()),
        ];
        for (part, tensor) in tensors.into_iter().filter_map(|(part, t)| Some((part, t?))) {
            let name = format!("{index:05}.{name}.{part}");
            let fits = stored.tensor(&name).is_ok_and(|info| {
                info.shape() == tensor.dims() && info.dtype() == Some(tensor.dtype())
            });
            if !fits {
                return Err(mismatch(format!(
                    "has no `{name}` of shape {} and dtype {}; resume with the model, parallel.pipeline, parallel.chunks and train.dtype it was written with",
                    tensor.shape(),
                    tensor.dtype()
                )));
            }
            stored.read_into(&name, tensor.as_bytes_mut("resume")?)?;
            count += 1;
        }
    }
    if stored.tensors().count() != count {
        return Err(mismatch(format!(
            "holds {} tensors, the run has {count}; it is of another layout",
            stored.tensors().count()
        )));
    }
    optimizer.set_steps(step);
    Ok(())
}
