//! Data parallelism with a sharded optimizer (ZeRO-1, arXiv 1910.02054): every data rank runs the
//! same program on microbatches of its own; gradients are added so that each rank has the sums of its
//! share of the weights, which it alone updates and then gives to the others.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use slimpipe_autograd::Parameter;
use slimpipe_kernels::cuda::{self, Event};
use slimpipe_runtime::stream::{self, Streams};
use slimpipe_runtime::{DType, Device, RawTensor};

use super::payload::{room, room_in};
use super::stream::Stream;
use super::{Result, Stage, StageSpec, Timeline, VocabularyPart, Work};
use crate::comm::{BytesMut, Communicator, Reduction, pieces, share};
use crate::schedule::Weights;

/// Parameters that are reduced and gathered together: those of a chunk that have one dtype. They are
/// one flat space, of which every rank owns an even share.
struct Bucket {
    weights: Weights,
    parameters: Vec<Parameter>,
    /// This rank's part of each parameter.
    owned: Vec<Range<usize>>,
    dtype: DType,
}

impl Bucket {
    fn new(
        weights: Weights,
        parameters: Vec<Parameter>,
        dtype: DType,
        size: u32,
        rank: u32,
    ) -> Self {
        let lens: Vec<usize> = parameters.iter().map(|p| p.value().elem_count()).collect();
        let mut owned = vec![0..0; lens.len()];
        for (index, range) in pieces(lens.iter().copied(), share(lens.iter().sum(), size, rank)) {
            owned[index] = range;
        }
        Self { weights, parameters, owned, dtype }
    }

    fn reduce(&self, comm: &mut dyn Communicator, streams: Option<&Streams>) -> Result<()> {
        let mut gradients: Vec<_> = self.parameters.iter().map(Parameter::grad).collect();
        let gradients = gradients.iter_mut().filter_map(|gradient| gradient.get_mut());
        let part = |gradient| beside(gradient, streams);
        let mut parts: Vec<BytesMut<'_>> = gradients.map(part).collect::<Result<_, _>>()?;
        Ok(comm.reduce_scatter_f32(Reduction::Sum, &mut parts)?)
    }

    fn gather(&self, comm: &mut dyn Communicator, streams: Option<&Streams>) -> Result<()> {
        let mut values: Vec<_> = self.parameters.iter().map(Parameter::value_mut).collect();
        let values = values.iter_mut().map(|value| beside(value, streams));
        let mut parts: Vec<BytesMut<'_>> = values.collect::<Result<_, _>>()?;
        Ok(comm.all_gather(self.dtype.size(), &mut parts)?)
    }
}

/// A tensor as others reduce or fill it beside the program: on a GPU in the order of the communication stream.
fn beside<'a>(tensor: &'a mut RawTensor, streams: Option<&Streams>) -> Result<BytesMut<'a>> {
    Ok(match streams {
        Some(streams) => room_in(tensor, streams.communication())?,
        None => room(tensor)?,
    })
}

/// Has `after` wait for what `before` was given so far.
fn follow(before: &cuda::Stream, after: &cuda::Stream) -> Result<()> {
    let mark = || {
        let mark = Event::pooled(before.context())?;
        before.record(&mark)?;
        after.wait(&mark)
    };
    Ok(mark().map_err(slimpipe_runtime::Error::from)?)
}

/// The data ranks that run a rank's program.
pub(super) struct DataRanks {
    comm: Box<dyn Communicator>,
    stream: Stream,
    buckets: Vec<Arc<Bucket>>,
    /// The rank's streams, on a GPU.
    streams: Option<Streams>,
}

impl DataRanks {
    /// Those of `comm`, which run `stages` (by chunk) too. `rank` is this rank's number among all, which
    /// computes on `device`, and `origin` the zero of timelines. All of them must call this.
    ///
    /// # Errors
    /// Another rank failed, or there can be no more threads.
    pub(super) fn new<S: Stage>(
        mut comm: Box<dyn Communicator>,
        stages: &[(StageSpec, S)],
        (rank, device): (u32, Device),
        origin: Instant,
    ) -> Result<Self> {
        let (at, size) = (comm.rank(), comm.size());
        let mut groups: Vec<((Weights, bool, DType), Vec<Parameter>)> = Vec::new();
        for (chunk, (_, stage)) in (0..).zip(stages) {
            let (tied, part) = (stage.tied(), stage.vocabulary());
            for parameter in stage.parameters() {
                let is = |other: &Parameter| other.name() == parameter.name();
                let in_part = |part: &VocabularyPart| is(&part.embedding) || is(&part.head);
                let weights = match part.as_ref().is_some_and(in_part) {
                    true => Weights::Vocabulary,
                    false => Weights::Chunk(chunk),
                };
                // A tied table is alone: so both ranks that have it have the same share of it.
                let key = (weights, tied.as_ref().is_some_and(is), parameter.value().dtype());
                match groups.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, group)) => group.push(parameter),
                    None => groups.push((key, vec![parameter])),
                }
            }
        }
        let bucket = |((weights, _, dtype), parameters)| {
            Arc::new(Bucket::new(weights, parameters, dtype, size, at))
        };
        let buckets = groups.into_iter().map(bucket).collect();
        let stream = Stream::new(comm.split(0, at)?, rank, origin)?;
        let streams = match device {
            Device::Cuda(ordinal) => Some(stream::current(ordinal)?),
            Device::Cpu | Device::Meta => None,
        };
        Ok(Self { comm, stream, buckets, streams })
    }

    /// The part of `parameter` that this rank updates.
    pub(super) fn owned(&self, parameter: &Parameter) -> Range<usize> {
        let of = |bucket: &Bucket| {
            let index = bucket.parameters.iter().position(|p| p.name() == parameter.name());
            index.map(|index| bucket.owned[index].clone())
        };
        self.buckets.iter().find_map(|bucket| of(bucket)).unwrap_or(0..0)
    }

    /// The sum of `value` over the data ranks.
    pub(super) fn sum(&mut self, value: f64) -> Result<f64> {
        let mut values = [value];
        self.comm.all_reduce_sum_f64(&mut values)?;
        Ok(values[0])
    }

    /// Begins to add the gradients of `weights`, which are complete here.
    pub(super) fn reduce(&mut self, weights: Weights) -> Result<()> {
        for bucket in self.buckets.iter().filter(|bucket| bucket.weights == weights) {
            // What this rank's microbatches did not need, others' may have.
            bucket.parameters.iter().try_for_each(Parameter::complete_grad)?;
            self.begin_beside()?;
            let (bucket, streams) = (bucket.clone(), self.streams.clone());
            let reduce = move |comm: &mut dyn Communicator| bucket.reduce(comm, streams.as_ref());
            self.stream.run(Work::ReduceGradients(weights), reduce);
        }
        Ok(())
    }

    /// Has what is begun next wait for what the rank has computed.
    fn begin_beside(&self) -> Result<()> {
        match &self.streams {
            Some(streams) => follow(streams.compute(), streams.communication()),
            None => Ok(()),
        }
    }

    /// Waits for all that was begun; on a GPU computation does.
    pub(super) fn wait(&mut self, timeline: &mut Timeline) -> Result<()> {
        if self.stream.is_idle() {
            return Ok(());
        }
        let spans = timeline.record(Work::AwaitData, || self.stream.wait())?;
        timeline.extend_beside(spans);
        match &self.streams {
            Some(streams) => follow(streams.communication(), streams.compute()),
            None => Ok(()),
        }
    }

    /// Gives every rank the weights that the others have updated.
    pub(super) fn gather(&mut self, timeline: &mut Timeline) -> Result<()> {
        self.begin_beside()?;
        for bucket in &self.buckets {
            let (work, bucket) = (Work::GatherWeights(bucket.weights), bucket.clone());
            let streams = self.streams.clone();
            self.stream.run(work, move |comm| bucket.gather(comm, streams.as_ref()));
        }
        self.wait(timeline)
    }

    /// Ends the groups.
    pub(super) fn end(&mut self) -> Result<()> {
        self.stream.run(Work::AwaitData, |comm| Ok(comm.finish()?));
        self.stream.wait()?;
        Ok(self.comm.finish()?)
    }
}
