//! What a run leaves behind: the timeline of its last step and the model's folder.

use slimpipe_pipeline::comm::{Payload, Tag};
use slimpipe_runtime::{Device, RawTensor};

use super::rank::Rank;
use crate::config::Job;
use crate::hub::{FolderWriter, NewFile};
use crate::run::RunDir;
use crate::{Error, Result, timeline};

/// Writes both; every rank takes part. Without a step there is no timeline to replace an earlier one.
pub(super) fn run(rank: &mut Rank, job: &Job, run: &RunDir) -> Result<()> {
    write_timeline(rank, run)?;
    write_model(rank, job, run)?;
    Ok(rank.memory().flush()?)
}

fn write_timeline(rank: &mut Rank, run: &RunDir) -> Result<()> {
    let failed = || Error::io("write", &run.timeline());
    let spans = timeline::portable(rank.pipeline.timeline().spans());
    let bytes = serde_json::to_vec(&spans).map_err(|e| failed()(e.into()))?;
    let Some(all) = rank.comm().gather(bytes)? else { return Ok(()) };
    let all: Vec<Vec<_>> = all
        .iter()
        .map(|bytes| serde_json::from_slice(bytes))
        .collect::<Result<_, _>>()
        .map_err(|e| failed()(e.into()))?;
    if all.iter().all(Vec::is_empty) {
        return Ok(());
    }
    let text = timeline::chrome_trace(&all).to_string();
    Ok(NewFile::write_all(&run.timeline(), text.as_bytes())?)
}

/// A parameter's value on its way to rank 0.
struct Value(RawTensor);

impl Payload for Value {
    fn bytes(&self) -> Result<&[u8], String> {
        self.0.as_bytes("save").map_err(|error| error.to_string())
    }
}

/// Parameters go to rank 0 one by one, rank after rank; it writes each as it comes.
fn write_model(rank: &mut Rank, job: &Job, run: &RunDir) -> Result<()> {
    let own: Vec<_> =
        rank.pipeline.parameters().into_iter().filter(|p| rank.pipeline.owns(p)).collect();
    let names: Vec<&str> = own.iter().map(|parameter| parameter.name()).collect();
    let all = rank.comm().gather(names.join("\n").into_bytes())?;
    let Some(all) = all else {
        for (number, parameter) in own.iter().enumerate() {
            let payload = Box::new(Value(parameter.value()));
            rank.comm().send(0, Tag::Block(number as u64), payload)?;
        }
        return Ok(rank.comm().barrier()?);
    };
    let memory = rank.memory().clone();
    let _entered = memory.enter();
    let shapes: std::collections::HashMap<String, Vec<usize>> = job.model.tensors().collect();
    let mut folder = FolderWriter::create(&run.model(), &job.model, job.dtype)?;
    for parameter in &own {
        folder.write(parameter.name(), parameter.value().as_bytes("save")?)?;
    }
    for (from, names) in all.iter().enumerate().skip(1) {
        let names = String::from_utf8_lossy(names);
        for (number, name) in names.lines().enumerate() {
            let shape = shapes.get(name).map_or(&[][..], Vec::as_slice);
            let mut value = RawTensor::empty(shape, job.dtype, Device::Cpu, "save")?;
            rank.comm().recv(
                from as u32,
                Tag::Block(number as u64),
                value.as_bytes_mut("save")?,
            )?;
            folder.write(name, value.as_bytes("save")?)?;
        }
    }
    folder.finish()?;
    Ok(rank.comm().barrier()?)
}
