use std::sync::Arc;

use super::builders::{Builder, SlimPipe, builder};
use super::exchange::{Exchange, Table};
use super::lock_step::LockStep;
use super::program::{Order, Program};
use super::size::Size;
use super::vocabulary::Collectives;
use super::weave::Weave;
use super::{Placement, ScheduleError, ScheduleKind, Slices, TokenCost};

/// A pipeline schedule: what every rank runs in one step.
#[derive(Clone, Debug)]
pub struct Schedule {
    kind: ScheduleKind,
    size: Size,
    builder: Arc<dyn Builder>,
    placement: Placement,
    exchange: Exchange,
    /// None where nothing is exchanged.
    moves: Option<Arc<Table>>,
    vocabulary: bool,
    /// Ranks that run every program, each on microbatches of its own.
    data_ranks: u32,
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        let key = |of: &Self| (of.kind, of.size, of.exchange, of.vocabulary, of.data_ranks);
        key(self) == key(other)
    }
}

impl Eq for Schedule {}

impl Schedule {
    /// The schedule `kind` for `ranks` pipeline ranks (p), `slices` per sequence (n), `microbatches`
    /// per step (m) and `chunks` of the model per rank (v).
    ///
    /// # Errors
    /// A combination the schedule does not run; the message says which are.
    pub fn new(
        kind: ScheduleKind,
        ranks: u32,
        slices: u32,
        microbatches: u32,
        chunks: u32,
    ) -> Result<Self, ScheduleError> {
        let size = Size { ranks, slices, microbatches, chunks };
        let builder = builder(kind, size)?;
        let placement = builder.placement(size);
        let (exchange, moves, vocabulary) = (Exchange::Off, None, false);
        let data_ranks = 1;
        Ok(Self { kind, size, builder, placement, exchange, moves, vocabulary, data_ranks })
    }

    /// The same schedule on `data_ranks` times as many ranks (d), with as many times the microbatches:
    /// each program runs on d ranks, which add their gradients.
    ///
    /// # Errors
    /// None, or more ranks in all than are numbered.
    pub fn with_data_ranks(mut self, data_ranks: u32) -> Result<Self, ScheduleError> {
        self.size.check_data_ranks(data_ranks)?;
        self.data_ranks = data_ranks;
        Ok(self)
    }

    /// Ranks that run each program, d: `microbatches` are those of one of them.
    pub fn data_ranks(&self) -> u32 {
        self.data_ranks
    }

    /// The same schedule with attention shared among ranks as `exchange` says.
    ///
    /// # Errors
    /// A schedule whose ranks do not run in lock step, or fewer slices than ranks: then units at the
    /// same step would have equal prefixes.
    pub fn with_exchange(mut self, exchange: Exchange) -> Result<Self, ScheduleError> {
        let Size { ranks, slices, .. } = self.size;
        self.moves = match exchange {
            Exchange::Off => None,
            _ if self.kind != ScheduleKind::SlimPipe => {
                return Err(ScheduleError::ExchangeKind { kind: self.kind.name() });
            }
            _ if slices < ranks => return Err(ScheduleError::ExchangeSlices { slices, ranks }),
            _ => Some(Arc::new(Table::new(exchange, self.size, SlimPipe::new(self.size)?))),
        };
        self.exchange = exchange;
        Ok(self)
    }

    /// How attention is shared among ranks.
    pub fn exchange(&self) -> Exchange {
        self.exchange
    }

    /// The same schedule with embedding, output layer and loss on all ranks, each with its part of the
    /// vocabulary, or (`false`) on those of the first and the last stage.
    ///
    /// # Errors
    /// A schedule whose ranks do not run in lock step: they would wait for each other at every unit.
    pub fn with_vocabulary(mut self, shared: bool) -> Result<Self, ScheduleError> {
        if shared && self.builder.in_step().is_none() {
            return Err(ScheduleError::VocabularyKind { kind: self.kind.name() });
        }
        self.vocabulary = shared;
        Ok(self)
    }

    /// Whether every rank has a part of the vocabulary.
    pub fn vocabulary(&self) -> bool {
        self.vocabulary
    }

    /// When ranks run what, as long as units cost the same; `None` for schedules that do not keep
    /// their ranks in lock step.
    pub fn lock_step(&self) -> Option<LockStep> {
        let ranks = self.size.ranks;
        let first = self.builder.in_step()?.warm_up(ranks - 1);
        Some(LockStep::new(ranks, first, self.size.units()))
    }

    /// Which schedule this is.
    pub fn kind(&self) -> ScheduleKind {
        self.kind
    }

    /// Pipeline ranks, p.
    pub fn ranks(&self) -> u32 {
        self.size.ranks
    }

    /// Slices per sequence, n.
    pub fn slices(&self) -> u32 {
        self.size.slices
    }

    /// Microbatches per step, m.
    pub fn microbatches(&self) -> u32 {
        self.size.microbatches
    }

    /// Model chunks per rank, v.
    pub fn chunks(&self) -> u32 {
        self.size.chunks
    }

    /// Which rank runs which stage.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// How the schedule cuts sequences of `seq_len` tokens that cost `cost`: into equal lengths, or,
    /// if that is what it is named for, into equal work.
    ///
    /// # Errors
    /// Slices that do not divide the sequence, or more than it has tokens.
    pub fn cut(&self, seq_len: usize, cost: TokenCost) -> Result<Slices, ScheduleError> {
        match self.kind {
            ScheduleKind::Seq1F1BBalanced => Slices::balanced(seq_len, self.slices(), cost),
            _ => Slices::equal(seq_len, self.slices()),
        }
    }

    /// Units a rank runs in a step, m n v.
    pub fn units(&self) -> u64 {
        self.size.units()
    }

    /// Units a chunk runs in a step, m n.
    pub(super) fn units_of_chunk(&self) -> u64 {
        self.units() / u64::from(self.chunks())
    }

    /// The most units in flight on `rank`: its memory. A unit is in flight from its forward to the
    /// last part of its backward.
    pub fn in_flight_peak(&self, rank: u32) -> u64 {
        self.builder.in_flight_peak(rank)
    }

    /// The messages of one kind that must fit between two ranks: then no rank waits to send as long
    /// as forwards cost the same, and backwards, and parts of backwards.
    pub fn channel_capacity(&self) -> usize {
        self.builder.backlog() as usize
    }

    /// The order in which `rank` runs forwards and backwards, without messages.
    pub fn order(&self, rank: u32) -> Order<'_> {
        self.builder.order(rank)
    }

    /// The program of `rank`: its order, with messages where a neighbouring stage is on another rank
    /// (a neighbour on the same rank hands over in memory), what ranks do together, and what ends a
    /// step.
    pub fn program(&self, rank: u32) -> Program<'_> {
        let moves = self.moves.as_deref();
        let together = moves.is_some() || self.vocabulary;
        let clock = self.lock_step().filter(|_| together);
        let weave = clock.map(|clock| {
            let order = self.builder.in_step().filter(|_| self.vocabulary);
            let vocabulary = order.map(|order| Collectives::new(clock, order, &self.placement));
            Weave::new(clock, rank, moves, vocabulary)
        });
        Program::new(self, rank, weave)
    }
}
