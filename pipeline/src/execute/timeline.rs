//! What a rank did and when: the measured counterpart of a simulated schedule.

use std::time::{Duration, Instant};

use slimpipe_allocator::Memory;

use crate::schedule::{Pass, Unit, Weights};

/// What a span of time was spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A unit's forward.
    Forward(Unit),
    /// A unit's backward.
    Backward(Unit),
    /// The part of a unit's backward that gives the gradient of its input.
    BackwardInput(Unit),
    /// The rest of it.
    BackwardWeight(Unit),
    /// Waiting for a unit's input, and copying it.
    ReceiveActivation {
        /// The unit.
        unit: Unit,
        /// The pipeline rank that sends it.
        from: u32,
    },
    /// Waiting for a unit's output gradient, and copying it.
    ReceiveGradient {
        /// The unit.
        unit: Unit,
        /// The pipeline rank that sends it.
        from: u32,
    },
    /// Handing over a unit's output (waits only if the neighbour is far behind).
    SendActivation {
        /// The unit.
        unit: Unit,
        /// The pipeline rank that receives it.
        to: u32,
    },
    /// Handing over a unit's input gradient.
    SendGradient {
        /// The unit.
        unit: Unit,
        /// The pipeline rank that receives it.
        to: u32,
    },
    /// Attending for another rank's unit.
    AttendFor(Unit, Pass),
    /// Waiting for keys, queries or a partial result of a unit whose attention is shared, and copying
    /// them.
    ReceiveAttention(Unit),
    /// Waiting until a unit's activations are in the second memory, or back.
    AwaitCopy(Unit),
    /// Copying rows of the embedding, of a unit's input.
    VocabEmbed(Unit),
    /// Computing the output layer and the loss on a unit's output, with this rank's tokens.
    VocabHead(Unit),
    /// Waiting for the other ranks in it, and copying from them.
    VocabShare(Unit),
    /// Adding the gradient of a unit's input to the embedding's.
    VocabEmbedBackward(Unit),
    /// Adding tied gradients across ranks.
    ReduceTied,
    /// Adding gradients over the data ranks, beside the program.
    ReduceGradients(Weights),
    /// Getting the weights that other data ranks have updated, beside the program.
    GatherWeights(Weights),
    /// Waiting for either.
    AwaitData,
}

impl Work {
    /// Whether the rank computes, rather than waits or moves data.
    pub fn is_compute(self) -> bool {
        matches!(
            self,
            Self::Forward(_)
                | Self::Backward(_)
                | Self::BackwardInput(_)
                | Self::BackwardWeight(_)
                | Self::AttendFor(..)
                | Self::VocabEmbed(_)
                | Self::VocabHead(_)
                | Self::VocabEmbedBackward(_)
        )
    }

    /// The pipeline rank at the other end of a message.
    pub fn peer(self) -> Option<u32> {
        match self {
            Self::ReceiveActivation { from, .. } | Self::ReceiveGradient { from, .. } => Some(from),
            Self::SendActivation { to, .. } | Self::SendGradient { to, .. } => Some(to),
            _ => None,
        }
    }

    /// The span's label in traces, such as `F mb0 s3` or `B mb1 s0 c2`.
    pub fn label(self) -> String {
        let of = |what: &str, unit: Unit| {
            let Unit { microbatch, slice, chunk } = unit;
            let chunk = if chunk == 0 { String::new() } else { format!(" c{chunk}") };
            format!("{what} mb{microbatch} s{slice}{chunk}")
        };
        let of_weights = |weights: Weights| match weights {
            Weights::Chunk(chunk) => format!("c{chunk}"),
            Weights::Vocabulary => "vocabulary".to_owned(),
        };
        match self {
            Self::Forward(unit) => of("F", unit),
            Self::Backward(unit) => of("B", unit),
            Self::BackwardInput(unit) => of("I", unit),
            Self::BackwardWeight(unit) => of("W", unit),
            Self::ReceiveActivation { unit, .. } => of("recv act", unit),
            Self::ReceiveGradient { unit, .. } => of("recv grad", unit),
            Self::SendActivation { unit, .. } => of("send act", unit),
            Self::SendGradient { unit, .. } => of("send grad", unit),
            Self::AttendFor(unit, Pass::Forward) => of("attend for F", unit),
            Self::AttendFor(unit, Pass::Backward) => of("attend for B", unit),
            Self::ReceiveAttention(unit) => of("recv attn", unit),
            Self::AwaitCopy(unit) => of("await copy", unit),
            Self::VocabEmbed(unit) => of("embed", unit),
            Self::VocabHead(unit) => of("head", unit),
            Self::VocabShare(unit) => of("share head", unit),
            Self::VocabEmbedBackward(unit) => of("embed backward", unit),
            Self::ReduceTied => "reduce tied".to_owned(),
            Self::ReduceGradients(weights) => format!("data reduce {}", of_weights(weights)),
            Self::AwaitData => "await data".to_owned(),
            Self::GatherWeights(weights) => format!("data gather {}", of_weights(weights)),
        }
    }
}

/// A piece of work with its start and end, since the timeline's origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// What was done.
    pub work: Work,
    /// When it began.
    pub start: Duration,
    /// When it ended.
    pub end: Duration,
    /// Bytes of the rank's memory that were in use when it ended; 0 if the timeline watches none.
    pub held: u64,
}

/// The spans of one rank in the order they happened.
#[derive(Clone)]
pub struct Timeline {
    origin: Instant,
    spans: Vec<Span>,
    beside: Vec<Span>,
    memory: Option<Memory>,
}

impl Timeline {
    /// An empty timeline; `origin` should be the same on all ranks.
    pub fn new(origin: Instant) -> Self {
        Self { origin, spans: Vec::new(), beside: Vec::new(), memory: None }
    }

    /// The same, which also notes how much of `memory` is in use.
    pub fn watching(self, memory: &Memory) -> Self {
        Self { memory: Some(memory.clone()), ..self }
    }

    /// Runs `f` and records it as `work`.
    pub fn record<R>(&mut self, work: Work, f: impl FnOnce() -> R) -> R {
        let start = self.origin.elapsed();
        let result = f();
        let held = self.memory.as_ref().map_or(0, |memory| memory.stats().total.active.current);
        self.spans.push(Span { work, start, end: self.origin.elapsed(), held });
        result
    }

    /// Adds spans that were recorded elsewhere, later than all here.
    pub(super) fn extend(&mut self, spans: Vec<Span>) {
        self.spans.extend(spans);
    }

    /// Cuts the last span around `spans`, which happened in it, in order.
    pub(super) fn interrupt(&mut self, spans: Vec<Span>) {
        let Some(whole @ Span { mut start, held, .. }) = self.spans.pop() else { return };
        for span in spans {
            self.spans.push(Span { start, end: span.start, ..whole });
            start = span.end;
            self.spans.push(Span { held, ..span });
        }
        self.spans.push(Span { start, ..whole });
    }

    /// Adds what was done beside the program.
    pub(super) fn extend_beside(&mut self, spans: Vec<Span>) {
        self.beside.extend(spans);
    }

    /// What the program did, one after the other.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The same with what went on beside the program, in the order in which it ended.
    pub fn all(&self) -> Vec<Span> {
        let mut all = [&*self.spans, &*self.beside].concat();
        all.sort_by_key(|span| span.end);
        all
    }

    /// Time since the origin.
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Forgets all spans.
    pub fn clear(&mut self) {
        self.spans.clear();
        self.beside.clear();
    }

    /// The time spent computing.
    pub fn busy(&self) -> Duration {
        self.spans
            .iter()
            .filter(|span| span.work.is_compute())
            .map(|span| span.end - span.start)
            .sum()
    }

    /// First start and last end; `None` if nothing was recorded.
    pub fn extent(&self) -> Option<(Duration, Duration)> {
        Some((self.spans.first()?.start, self.spans.last()?.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_forward_and_backward_count_as_busy() {
        let unit = Unit { microbatch: 1, slice: 2, chunk: 0 };
        let mut timeline = Timeline::new(Instant::now());
        let receive = Work::ReceiveActivation { unit, from: 0 };
        timeline.record(receive, || std::thread::sleep(Duration::from_millis(2)));
        assert_eq!(timeline.busy(), Duration::ZERO);
        timeline.record(Work::Forward(unit), || std::thread::sleep(Duration::from_millis(2)));
        assert!(timeline.busy() >= Duration::from_millis(2));
        let (start, end) = timeline.extent().unwrap();
        assert!(end - start >= timeline.busy());
        assert_eq!(Work::Backward(unit).label(), "B mb1 s2");
    }
}
