//! Checkpoints: everything a run needs to go on bit-identically.
//!
//! A checkpoint is a folder `step-<number>` with one safetensors file per rank: weights, f32 masters
//! and moments in the order of the rank's parameters. Learning rate and sampling are functions of
//! the step, so there is no other state. All ranks write into a hidden folder, which gets its name
//! when all of them have; a run killed at any moment leaves whole checkpoints only.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use slimpipe_pipeline::comm::Communicator;
use slimpipe_runtime::{Device, RawTensor};

use crate::hub::{SafetensorsFile, SafetensorsWriter, TensorSpec};
use crate::optimizer::{AdamW, State};
use crate::{Error, Result};

const PARTIAL: &str = ".partial";

/// Writes the checkpoint of `step` under `folder` and removes older ones. Called by every rank of
/// `comm`; each writes what it updates.
///
/// # Errors
/// The disk is full, or another rank failed; older checkpoints are still there.
pub fn write(
    folder: &Path,
    step: u64,
    optimizer: &AdamW,
    data_ranks: u32,
    comm: &mut dyn Communicator,
) -> Result<()> {
    let partial = folder.join(PARTIAL);
    if comm.rank() == 0 {
        begin(&partial)?;
    }
    comm.barrier()?;
    let about = [
        ("step", step.to_string()),
        ("ranks", comm.size().to_string()),
        ("data_ranks", data_ranks.to_string()),
    ];
    write_rank(&rank_file(&partial, comm.rank()), &about, optimizer)?;
    comm.barrier()?;
    if comm.rank() == 0 {
        finish(folder, &partial, step)?;
    }
    Ok(comm.barrier()?)
}

/// Removes what a checkpoint that failed has left. Called when no rank writes any more.
pub(crate) fn discard_partial(folder: &Path) {
    // The next checkpoint tries again, where this fails.
    let _ = fs::remove_dir_all(folder.join(PARTIAL));
    let _ = fs::remove_dir(folder); // succeeds if it is empty
}

fn begin(partial: &Path) -> Result<()> {
    if partial.exists() {
        fs::remove_dir_all(partial).map_err(Error::io("remove", partial))?;
    }
    fs::create_dir_all(partial).map_err(Error::io("make the folder", partial))
}

/// Gives the whole checkpoint its name, on the disk too; only then the others go.
fn finish(folder: &Path, partial: &Path, step: u64) -> Result<()> {
    let whole = step_folder(folder, step);
    if whole.exists() {
        fs::remove_dir_all(&whole).map_err(Error::io("remove", &whole))?;
    }
    fs::rename(partial, &whole).map_err(Error::io("rename", partial))?;
    fs::File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("sync", folder))?;
    for (other, path) in list(folder)? {
        if other != step {
            fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

fn step_folder(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("step-{step:08}"))
}

fn rank_file(folder: &Path, rank: u32) -> PathBuf {
    folder.join(format!("rank-{rank:04}.safetensors"))
}

/// What is stored of one parameter: a name, and the bytes of a tensor that this rank updates, which have
/// the shape of the moments.
fn parts<'a>(
    index: usize,
    state: &'a State,
    value: &'a RawTensor,
) -> impl Iterator<Item = (String, &'a RawTensor, Range<usize>)> {
    let moments = [("exp_avg", &state.exp_avg), ("exp_avg_sq", &state.exp_avg_sq)];
    let masters = state.master.as_ref().map(|master| ("master", master));
    let whole = moments.into_iter().chain(masters).map(|(name, all)| (name, all, 0..all.bytes()));
    let parts = std::iter::once(("value", value, bytes(state, value))).chain(whole);
    parts.map(move |(part, tensor, bytes)| {
        (format!("{index:05}.{}.{part}", state.parameter.name()), tensor, bytes)
    })
}

/// Where the elements of `value` that this rank updates are, in bytes.
fn bytes(State { share, .. }: &State, value: &RawTensor) -> Range<usize> {
    share.start * value.dtype().size()..share.end * value.dtype().size()
}

fn write_rank(path: &Path, about: &[(&str, String)], optimizer: &AdamW) -> Result<()> {
    let mut specs = Vec::new();
    for (index, state) in optimizer.states().iter().enumerate() {
        let value = state.parameter.value();
        for (name, tensor, _) in parts(index, state, &value) {
            let (shape, dtype) = (state.exp_avg.dims().to_vec(), tensor.dtype());
            specs.push(TensorSpec { name, shape, dtype });
        }
    }
    let about: Vec<(&str, &str)> = about.iter().map(|(key, text)| (*key, text.as_str())).collect();
    let mut writer = SafetensorsWriter::create(path, specs, &about)?;
    for (index, state) in optimizer.states().iter().enumerate() {
        let value = state.parameter.value();
        for (name, tensor, bytes) in parts(index, state, &value) {
            let host = tensor.to_device(Device::Cpu)?;
            writer.write(&name, &host.as_bytes("checkpoint")?[bytes])?;
        }
    }
    Ok(writer.finish()?)
}

/// The checkpoints under `folder` with their steps.
fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let failed = || Error::io("read the folder", folder);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed())? {
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
        let what = "there is none to resume from: the run ended before it wrote one; begin a new run, with train.checkpoint_every set";
        Error::Checkpoint { path: folder.to_owned(), what: what.to_owned() }
    };
    if !folder.is_dir() {
        return Err(none());
    }
    list(folder)?.pop().ok_or_else(none)
}

/// Checks that the checkpoint of `step` at `path` has a sound file for each of `data` times `pipeline`
/// ranks, before any of them begins.
///
/// # Errors
/// A file that is damaged or missing, or a checkpoint of another number of ranks.
pub fn check(path: &Path, step: u64, data: u32, pipeline: u32) -> Result<()> {
    let file = open(path, step, 0)?;
    let number = |key: &str| file.metadata().get(key)?.parse().ok();
    let written_data: u32 = number("data_ranks").unwrap_or(1).max(1);
    let (written, ranks): (u32, u32) = (number("ranks").unwrap_or(0), data * pipeline);
    if (written, written_data) != (ranks, data) {
        let mut what = format!(
            "was written by {written} ranks, the run has {ranks}; resume with parallel.pipeline={}",
            written / written_data
        );
        if data > 1 || written_data > 1 {
            what += &format!(" and parallel.data={written_data}");
        }
        return Err(Error::Checkpoint { path: path.to_owned(), what });
    }
    (1..ranks).try_for_each(|rank| open(path, step, rank).map(drop))
}

/// Opens one rank's file.
fn open(path: &Path, step: u64, rank: u32) -> Result<SafetensorsFile> {
    let path = rank_file(path, rank);
    let damaged = |what: String| {
        let what = format!(
            "is damaged: {what}; restore it, or begin a new run from weights that are left (model.path)"
        );
        Error::Checkpoint { path: path.clone(), what }
    };
    let file = SafetensorsFile::open(&path).map_err(|error| damaged(error.to_string()))?;
    if file.metadata().get("step") != Some(&step.to_string()) {
        return Err(damaged(format!("it is not of step {step}")));
    }
    Ok(file)
}

/// Restores `rank`'s parameters and optimizer from the checkpoint of `step` at `path`.
///
/// # Errors
/// A damaged file, or one of another model or layout.
pub fn read(path: &Path, step: u64, rank: u32, optimizer: &mut AdamW) -> Result<()> {
    let stored = open(path, step, rank)?;
    let mismatch = |what: String| Error::Checkpoint { path: stored.path().to_owned(), what };
    let mut count = 0;
    for (index, state) in optimizer.states_mut().iter_mut().enumerate() {
        let parameter = state.parameter.clone();
        let mut value = parameter.value_mut();
        let share = bytes(state, &value);
        let State { master, exp_avg, exp_avg_sq, .. } = state;
        let shape = *exp_avg.shape();
        let tensors = [
            ("value", Some(&mut *value), share),
            ("exp_avg", Some(exp_avg), 0..4 * shape.elem_count()),
            ("exp_avg_sq", Some(exp_avg_sq), 0..4 * shape.elem_count()),
            ("master", master.as_mut(), 0..4 * shape.elem_count()),
        ];
        let tensors = tensors.into_iter().filter_map(|(part, t, share)| Some((part, t?, share)));
        for (part, tensor, share) in tensors {
            let name = format!("{index:05}.{}.{part}", parameter.name());
            let fits = stored.tensor(&name).is_ok_and(|info| {
                info.shape() == shape.dims() && info.dtype() == Some(tensor.dtype())
            });
            if !fits {
                return Err(mismatch(format!(
                    "has no `{name}` of shape {shape} and dtype {}; resume with the model, parallel.pipeline, parallel.chunks, parallel.vocabulary and train.dtype it was written with",
                    tensor.dtype()
                )));
            }
            tensor.fill_bytes(share, "resume", |bytes| {
                Ok::<_, Error>(stored.read_into(&name, bytes)?)
            })?;
            count += 1;
        }
    }
    if stored.tensors().count() != count {
        return Err(mismatch(format!(
            "holds {} tensors, the run has {count}; resume with the model and the layout it was written with",
            stored.tensors().count()
        )));
    }
    optimizer.set_steps(step);
    Ok(())
}
