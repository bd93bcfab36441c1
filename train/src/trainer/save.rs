//! What a run leaves behind: the timeline of its last step and the model's folder.

use std::ops::Range;
use std::time::SystemTime;

use slimpipe_allocator::AllocError;
use slimpipe_autograd::Parameter;
use slimpipe_pipeline::comm::{Axis, Bytes, Payload, Tag};
use slimpipe_runtime::{Device, RawTensor};

use super::rank::Rank;
use crate::config::Job;
use crate::draw::{self, Chart};
use crate::hub::{FolderWriter, NewFile};
use crate::run::RunDir;
use crate::{Error, Result};

/// Writes both; every rank takes part. Without a step there is no timeline to replace an earlier one.
pub(super) fn run(rank: &mut Rank, job: &Job, run: &RunDir) -> Result<()> {
    write_timeline(rank, job, run)?;
    // The data ranks have the same weights.
    if job.mesh().coordinate(rank.comm().rank(), Axis::Data) == 0 {
        write_model(rank, job, run)?;
    }
    rank.comm().barrier()?;
    rank.memory().flush().map_err(|error| match error {
        AllocError::Trace { path, source } => Error::io("write", path.as_ref())(source),
        other => other.into(),
    })
}

fn write_timeline(rank: &mut Rank, job: &Job, run: &RunDir) -> Result<()> {
    let failed = || Error::io("write", &run.timeline());
    let (own, mesh) = (rank.comm().rank(), job.mesh());
    let timeline = rank.pipeline.timeline();
    // Memory logs tell the time of day: what they say can be laid beside this.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let origin = now.saturating_sub(timeline.now()).as_nanos() as u64;
    let mut spans = draw::portable(&timeline.all());
    for peer in spans.iter_mut().filter_map(|span| span.peer.as_mut()) {
        *peer = mesh.beside(own, Axis::Pipeline, *peer);
    }
    let bytes = serde_json::to_vec(&spans).map_err(|e| failed()(e.into()))?;
    let Some(all) = rank.comm().gather(bytes)? else { return Ok(()) };
    let all: Vec<Vec<_>> = all
        .iter()
        .map(|bytes| serde_json::from_slice(bytes))
        .collect::<Result<_, _>>()
        .map_err(|e| failed()(e.into()))?;
    if all.iter().all(Vec::is_empty) {
        // A file that is begun and dropped takes with it what a killed run has left of one.
        drop(NewFile::create(&run.timeline())?);
        return Ok(());
    }
    let chart = Chart::measured("slimpipe".to_owned(), all, Some(origin));
    let text = draw::perfetto(&[chart]).to_string();
    Ok(NewFile::write_all(&run.timeline(), text.as_bytes())?)
}

/// Bytes of a piece in which a parameter travels: saving shall not need memory that training did not.
const PIECE: usize = 1 << 18;

/// A piece of a parameter's value on its way to rank 0.
struct Piece(RawTensor, Range<usize>);

impl Payload for Piece {
    fn bytes(&self) -> Result<Bytes<'_>, String> {
        let bytes = self.0.as_bytes("save").map_err(|error| error.to_string())?;
        Ok(Bytes::Host(&bytes[self.1.clone()]))
    }
}

/// The pieces of a value of `len` bytes.
fn pieces(len: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(PIECE).map(move |start| start..len.min(start + PIECE))
}

/// Parameters of a pipeline go to rank 0 one by one, rank after rank; it writes each as it comes. Those of which
/// every rank has some rows are written in this order too, which is that of the rows.
fn write_model(rank: &mut Rank, job: &Job, run: &RunDir) -> Result<()> {
    let own: Vec<_> =
        rank.pipeline.parameters().into_iter().filter(|p| rank.pipeline.owns(p)).collect();
    let about =
        |parameter: &Parameter| format!("{} {}", parameter.value().bytes(), parameter.name());
    let names: Vec<String> = own.iter().map(about).collect();
    let mut tags = (0..).map(Tag::Block);
    let Some(all) = rank.pipeline.pipeline_comm().gather(names.join("\n").into_bytes())? else {
        for parameter in &own {
            // Where it lies if that is on the host; of a GPU's a copy.
            let value = parameter.value().to_device(Device::Cpu)?;
            for (piece, tag) in pieces(value.bytes()).zip(&mut tags) {
                rank.pipeline.pipeline_comm().send(
                    0,
                    tag,
                    Box::new(Piece(value.clone(), piece)),
                )?;
            }
        }
        return Ok(rank.pipeline.pipeline_comm().barrier()?);
    };
    let mut folder = FolderWriter::create(&run.model(), &job.model, job.dtype)?;
    for parameter in &own {
        let value = parameter.value().to_device(Device::Cpu)?;
        folder.append(parameter.name(), value.as_bytes("save")?)?;
    }
    let mut buffer = vec![0; PIECE];
    for (from, names) in all.iter().enumerate().skip(1) {
        let mut tags = (0..).map(Tag::Block);
        for parameter in String::from_utf8_lossy(names).lines() {
            let (len, name) = parameter.split_once(' ').unwrap_or_default();
            let len = len.parse().unwrap_or(0);
            for (piece, tag) in pieces(len).zip(&mut tags) {
                let piece = &mut buffer[..piece.len()];
                rank.pipeline.pipeline_comm().recv(from as u32, tag, (&mut *piece).into())?;
                folder.append(name, piece)?;
            }
        }
    }
    folder.finish()?;
    if let Some(tokenizer) = job.config.tokenizer() {
        // The model's tokens are those of this tokenizer: whoever evaluates it needs both.
        let bytes = std::fs::read(&tokenizer).map_err(Error::io("read", &tokenizer))?;
        NewFile::write_all(&run.model().join("tokenizer.json"), &bytes)?;
    }
    Ok(rank.pipeline.pipeline_comm().barrier()?)
}
