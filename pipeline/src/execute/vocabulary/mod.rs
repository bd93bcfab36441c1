//! Embedding, output layer and loss where all ranks share the vocabulary: each holds the rows of its
//! own tokens, and works on every slice.
//!
//! * **Embedding.** Every rank sends the rows that a slice needs of it to the first stage's rank, which
//!   puts them together in the unit's own memory. Rows are copied, never added: nothing is rounded.
//! * **Output layer and loss.** The last stage's rank spreads the slice's hidden states. Each rank
//!   computes the logits of its tokens; three numbers per row and rank (the largest logit, the sum of
//!   exponentials, the label's logit) give the loss and let each rank turn its logits into gradients.
//!   Its part of the input's gradient is added up on the last stage's rank, in rank order. No logits
//!   are kept, and a rank never holds more than those of its own tokens for one slice.
//! * **The embedding's gradient** goes from the first stage's rank to whoever has the row.
//!
//! [`crate::schedule`] says when each rank takes part.

mod deal;
mod embed;
mod head;
mod rows;

use slimpipe_allocator::{Memory, Recorder, Region, Task, scope};
use slimpipe_autograd::Parameter;
use slimpipe_ops::cross_entropy::block_rows;
use slimpipe_runtime::{DType, Device, RawTensor};

pub use deal::VocabularyDeal;
use head::Scratch;

use super::{Error, Result, Stage, StageSpec, routes};
use crate::comm::Communicator;
use crate::schedule::Schedule;

/// The name of rows of the vocabulary in traces and errors.
const ROWS: &str = "vocabulary_rows";

/// What a stage holds of a vocabulary that all ranks share.
#[derive(Clone, Debug)]
pub struct VocabularyPart {
    /// The embedding's rows of the rank's tokens, [tokens, width].
    pub embedding: Parameter,
    /// The output layer's; the same parameter where they are tied.
    pub head: Parameter,
    /// Which tokens which rank has.
    pub deal: VocabularyDeal,
}

/// A rank's side of a shared vocabulary.
pub(super) struct Vocabulary {
    /// The pipeline's ranks, with lanes and collectives of their own.
    comm: Box<dyn Communicator>,
    part: VocabularyPart,
    /// Ranks of the first and of the last stage.
    first: u32,
    last: u32,
    /// Elements per token, and their dtype.
    hidden: (usize, DType),
    /// Where the rank computes.
    device: Device,
    /// Memory for numbers of rows, one for each token of a slice.
    numbers: RawTensor,
    /// Rows of the longest slice, and those that the output layer works on at a time.
    longest: usize,
    block: usize,
    /// What the output layer allocates, and of which memory.
    head: Task,
    memory: Memory,
}

impl Vocabulary {
    /// The side of the rank of `comm`, whose stages are `stages`, if the schedule has the vocabulary
    /// shared; plans its memory. All ranks must call this, with memory entered.
    ///
    /// # Errors
    /// A model whose stages do not share the vocabulary, out of memory, a failed peer.
    pub(super) fn join<S: Stage>(
        schedule: &Schedule,
        comm: &mut dyn Communicator,
        memory: &Memory,
        stages: &[(StageSpec, S)],
    ) -> Result<Option<Self>> {
        if !schedule.vocabulary() {
            return Ok(None);
        }
        let part = stages.iter().find_map(|(_, stage)| stage.vocabulary());
        let (Some(part), Some((spec, stage))) = (part, stages.first()) else {
            return Err(Error::NoVocabularyPart);
        };
        let (hidden, own) = (stage.hidden(), part.deal.tokens(comm.rank()).len());
        for parameter in [&part.embedding, &part.head] {
            let value = parameter.value();
            if value.dims() != [own, hidden.0] || value.dtype() != hidden.1 {
                let (name, got) = (parameter.name().to_owned(), value.dims().to_vec());
                let expected = vec![own, hidden.0];
                return Err(Error::WrongVocabularyPart { name, got, expected });
            }
        }
        let (longest, placement) = (spec.slice_len, schedule.placement());
        let block = block_rows(longest, part.deal.most());
        let recorder = Recorder::new();
        let phase = recorder.forward();
        drop(Scratch::new((longest, block), own, schedule.ranks(), hidden, Device::Meta)?);
        drop(phase);
        let device = Device::from(memory.space());
        let persistent = scope::place(Region::Persistent);
        let numbers = RawTensor::empty(longest, DType::U32, device, ROWS)?;
        drop(persistent);
        let (mut comm, first) = (comm.split(0, comm.rank())?, placement.locate(0).0);
        comm.open(routes::of_vocabulary(schedule.ranks(), first))?;
        Ok(Some(Self {
            comm,
            part,
            first,
            last: placement.locate(placement.stages() - 1).0,
            hidden,
            device,
            numbers,
            longest,
            block,
            head: memory.install_task(recorder.finish())?,
            memory: memory.clone(),
        }))
    }

    /// Waits until all messages of a step were read, and frees this rank's.
    pub(super) fn settle(&mut self) -> Result<()> {
        Ok(self.comm.barrier()?)
    }

    /// Ends the rank's side.
    pub(super) fn end(&mut self) -> Result<()> {
        Ok(self.comm.finish()?)
    }

    /// Memory for a message of `rows` rows.
    fn message(&self, rows: usize) -> Result<RawTensor> {
        let _message = scope::place(Region::Comm);
        let (width, dtype) = self.hidden;
        Ok(RawTensor::empty((rows, width), dtype, self.device, ROWS)?)
    }

    /// `rows` for operations to read; valid until the next call.
    fn numbers(&mut self, rows: impl Iterator<Item = usize>) -> Result<RawTensor> {
        let rows: Vec<u32> = rows.map(|row| row as u32).collect();
        let bytes: &[u8] = bytemuck::cast_slice(&rows);
        self.numbers.fill_bytes(0..bytes.len(), ROWS, |into| -> Result<()> {
            into.copy_from_slice(bytes);
            Ok(())
        })?;
        Ok(self.numbers.narrow(0, 0, rows.len())?)
    }
}
