//! What a step takes on given hardware: seconds of every action of a program, for the simulator.
//!
//! Products, attention and everything else run at the rates that the hardware's file gives for their
//! shapes; what is communicated takes its bytes over its links. `docs/simulator.md` says what each
//! term is and where its figures come from.

mod layer;
mod mesh;
mod sequence;
mod spent;

pub use mesh::{Group, Mesh};
pub use sequence::SequenceCosts;
pub use spent::Spent;

use slimpipe_pipeline::schedule::Action::{VocabEmbed, VocabEmbedBackward, VocabHead};
use slimpipe_pipeline::schedule::{Action, Exchange, Pass, Schedule, Unit, Weights};
use slimpipe_pipeline::simulate::{Costs, Layers, Link, Shipment};

use self::layer::Layer;
use super::memory::runtime::Rank;
use super::{Setup, Workload};
use crate::hardware::{Hardware, Wire};

/// Seconds of every action of a setup's programs.
pub struct StepCosts {
    /// Of one layer, by slice.
    forward: Vec<f64>,
    backward: Vec<f64>,
    /// Gradients of weights of one layer, of a slice.
    weights: f64,
    /// Attention of one layer to half a slice: forward, backward.
    half_chunk: [f64; 2],
    /// Of one layer, before attention and after it: in forward, and by slice in backward.
    around_forward: (f64, f64),
    around_backward: Vec<(f64, f64)>,
    /// Bytes of queries of a slice, of log-sum-exps, of keys and values of half a slice.
    exchanged: [f64; 3],
    ranks: Vec<RankCosts>,
    /// Rank and chunk of the first and of the last stage.
    ends: [(u32, u32); 2],
    embed: f64,
    head: f64,
    is_vocabulary_shared: bool,
    optimizer: f64,
    link: Wire,
    /// Bytes of a slice's hidden states on a rank.
    hidden: f64,
    /// Bytes of the gradient of an embedding that both ends of the model share.
    tied: f64,
    spent: Spent,
}

/// What differs between pipeline ranks.
struct RankCosts {
    /// Layers, by chunk.
    layers: Vec<f64>,
    /// Seconds that the reduction of gradients takes, by chunk.
    reductions: Vec<f64>,
    /// And of the vocabulary's.
    vocabulary: f64,
}

impl RankCosts {
    fn new(of: &Rank<'_>, mesh: &Mesh<'_>) -> Self {
        let reduce = |chunk| {
            let (shared, experts) = of.chunk_weights(chunk);
            mesh.all_gather(mesh.copies(), 4.0 * shared)
                + mesh.all_gather(mesh.expert_copies(), 4.0 * experts)
        };
        Self {
            layers: (0..of.chunks()).map(|chunk| of.chunk_layers(chunk)).collect(),
            reductions: (0..of.chunks()).map(reduce).collect(),
            vocabulary: mesh.all_gather(mesh.copies(), 4.0 * of.tables()),
        }
    }
}

/// AdamW on a rank's share of its weights, and everyone's new weights to everyone with a copy.
fn update(of: &Rank<'_>, mesh: &Mesh<'_>, hardware: &Hardware) -> Spent {
    let (shared, experts) = (of.shared(), of.experts());
    let (copies, expert_copies) = (mesh.copies(), mesh.expert_copies());
    let own = shared / copies.size + experts / expert_copies.size;
    // Reads gradient, weight and two moments in f32; writes the last three, and the weight in bf16.
    let elementwise = hardware.gpu.memory_seconds(30.0 * own);
    let communication =
        mesh.all_gather(copies, 2.0 * shared) + mesh.all_gather(expert_copies, 2.0 * experts);
    Spent { elementwise, communication, ..Spent::default() }
}

impl StepCosts {
    /// Of `setup`, whose schedule is `schedule`.
    pub fn new(work: &Workload, setup: &Setup, schedule: &Schedule, hardware: &Hardware) -> Self {
        let (layer, mesh) = (Layer::new(work, setup, hardware), Mesh::new(setup.layout, hardware));
        let placement = schedule.placement();
        let [p, n, m] =
            [schedule.ranks(), schedule.slices(), schedule.microbatches()].map(f64::from);
        let slices = 0..schedule.slices();
        let forward: Vec<Spent> = slices.clone().map(|slice| layer.forward(slice)).collect();
        let mut backward: Vec<Spent> = slices.map(|slice| layer.backward(slice)).collect();
        let (head, embed) = (layer.head(), layer.embed());
        let ranks: Vec<Rank<'_>> =
            (0..schedule.ranks()).map(|rank| Rank::new(work, setup, schedule, rank)).collect();
        // While one unit runs forward and one backward, one leaves and one comes back.
        let away = setup.offload * ranks[0].saved_unit(0) / ranks[0].chunk_layers(0);
        let travel = hardware.host.seconds(away) + hardware.host.latency();
        for (forward, backward) in forward.iter().zip(&mut backward).filter(|_| away > 0.0) {
            let wait = travel - forward.total() - backward.total();
            backward.communication += wait.max(0.0);
        }
        let updates = ranks.iter().map(|rank| update(rank, &mesh, hardware));
        let update = updates.max_by(|a, b| a.total().total_cmp(&b.total())).unwrap_or_default();
        // Shared, every rank does its part of the head; else one of them all of it.
        let heads = if setup.vocabulary { p } else { 1.0 };
        let layers = work.model.dense.num_hidden_layers as f64;
        let through = forward.iter().chain(&backward).fold(Spent::default(), |sum, &of| sum + of);
        let spent = through * (m * layers / p) + (head * heads + embed) * (m * n / p) + update;
        let seconds = |all: &[Spent]| all.iter().map(Spent::total).collect();
        let tied =
            if work.model.dense.tie_word_embeddings { work.model.table_weights() } else { 0 };
        let mut costs = Self {
            forward: seconds(&forward),
            backward: seconds(&backward),
            weights: layer.weights(),
            half_chunk: [layer.half_chunk(false), layer.half_chunk(true)],
            around_forward: (layer.before().total(), layer.after().total()),
            around_backward: (0..schedule.slices())
                .map(|slice| (layer.back_before(slice).total(), layer.back_after().total()))
                .collect(),
            exchanged: layer.exchanged_bytes(),
            ranks: ranks.iter().map(|rank| RankCosts::new(rank, &mesh)).collect(),
            ends: [0, placement.stages() - 1].map(|stage| placement.locate(stage)),
            embed: embed.total(),
            head: head.total(),
            is_vocabulary_shared: setup.vocabulary,
            optimizer: update.total(),
            link: mesh.pipeline(),
            hidden: layer.hidden_bytes(),
            tied: 4.0 * tied as f64 / f64::from(setup.layout.tensor),
            spent,
        };
        if setup.vocabulary {
            let unit = Unit { microbatch: 0, slice: 0, chunk: 0 };
            let meetings = [VocabEmbed(unit), VocabHead(unit), VocabEmbedBackward(unit)];
            let links = meetings.map(|action| costs.link(0, 0, action));
            let each: f64 = links.iter().map(|link| link.occupied + link.latency).sum();
            costs.spent.communication += each * m * n;
        }
        costs
    }

    /// Where the time of an average rank goes, but for waiting.
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// Seconds that no step is shorter than, in whatever order units run: with attention exchanged at
    /// will it is as even as can be.
    pub fn least(&self, schedule: &Schedule, exchange: Exchange) -> f64 {
        if exchange != Exchange::Off {
            return self.spent.total();
        }
        // A rank waits for the first slice through all stages before it, and at the end for the last
        // gradient on its way down.
        let [n, m] = [schedule.slices(), schedule.microbatches()].map(f64::from);
        let layer: f64 = self.forward.iter().chain(&self.backward).sum();
        let first = self.forward[0] + self.backward[0];
        let mut before = 0.0;
        let mut least = 0.0f64;
        for (rank, of) in self.ranks.iter().enumerate() {
            let here = |end: usize| self.ends[end].0 == rank as u32;
            let mut work = of.layers.iter().sum::<f64>() * layer * m;
            if self.is_vocabulary_shared || here(1) {
                work += self.head * m * n;
            }
            if here(0) {
                work += self.embed * m * n;
            }
            least = least.max(before + work);
            before += of.layers[0] * first;
        }
        least + self.optimizer
    }

    fn unit(&self, rank: u32, unit: Unit, layer: f64) -> f64 {
        self.ranks[rank as usize].layers[unit.chunk as usize] * layer
    }

    /// What the ends of the model do beside their layers, in forward: the loss brings its gradient.
    fn at_ends(&self, rank: u32, chunk: u32) -> f64 {
        if self.is_vocabulary_shared {
            return 0.0;
        }
        let is = |end: usize| self.ends[end] == (rank, chunk);
        let (embed, head) =
            (if is(0) { self.embed } else { 0.0 }, if is(1) { self.head } else { 0.0 });
        embed + head
    }

    fn message(&self, bytes: f64, times: f64) -> Link {
        Link { occupied: self.link.seconds(bytes), latency: times * self.link.latency() }
    }
}

impl Costs for StepCosts {
    fn seconds(&self, rank: u32, action: Action) -> f64 {
        match action {
            Action::Forward(unit) => {
                let forward = self.unit(rank, unit, self.forward[unit.slice as usize]);
                forward + self.at_ends(rank, unit.chunk)
            }
            Action::Backward(unit) => self.unit(rank, unit, self.backward[unit.slice as usize]),
            Action::BackwardInput(unit) => {
                let input = self.backward[unit.slice as usize] - self.weights;
                self.unit(rank, unit, input)
            }
            Action::BackwardWeight(unit) => self.unit(rank, unit, self.weights),
            Action::Ship { unit, part, pass, .. } | Action::Attend { unit, part, pass, .. } => {
                let half = self.half_chunk[pass as usize];
                self.unit(rank, unit, half * f64::from(part.len()))
            }
            VocabEmbed(_) if rank == self.ends[0].0 => self.embed,
            VocabHead(_) => self.head,
            Action::OptimizerStep => self.optimizer,
            _ => 0.0,
        }
    }

    fn link(&self, from: u32, _: u32, action: Action) -> Link {
        let p = self.ranks.len() as f64;
        let of = &self.ranks[from as usize];
        match action {
            Action::SendActivation { .. } | Action::SendGradient { .. } => {
                self.message(self.hidden, 1.0)
            }
            // Rows go from their owners to the first stage, and their gradients back.
            VocabEmbed(_) | VocabEmbedBackward(_) => self.message((p - 1.0) / p * self.hidden, 1.0),
            // Hidden states are scattered and gathered; their gradients, in f32, summed and collected;
            // three sums per row are gathered in between.
            VocabHead(_) => self.message(6.0 * (p - 1.0) / p * self.hidden, 5.0),
            Action::ReduceGradients(Weights::Chunk(chunk)) => {
                Link { occupied: of.reductions[chunk as usize], latency: 0.0 }
            }
            Action::ReduceGradients(Weights::Vocabulary) => {
                Link { occupied: of.vocabulary, latency: 0.0 }
            }
            Action::ReduceTied { .. } if self.tied > 0.0 => self.message(self.tied, 1.0),
            _ => Link::default(),
        }
    }

    fn layers(&self, rank: u32, action: Action) -> Option<Layers> {
        // Whoever exchanges has as many layers in every chunk.
        let layers = self.ranks[rank as usize].layers[0];
        let (before, after) = match action {
            Action::Forward(unit) => {
                let (before, after) = self.around_forward;
                (before, after + self.at_ends(rank, unit.chunk) / layers)
            }
            Action::Backward(unit) => self.around_backward[unit.slice as usize],
            _ => (0.0, 0.0),
        };
        Some(Layers { count: layers as usize, before: layers * before, after: layers * after })
    }

    fn exchange_link(&self, _: u32, _: u32, action: Action, what: Shipment) -> Link {
        let [queries, sums, half] = self.exchanged;
        let (Action::Ship { part, pass, .. } | Action::Attend { part, pass, .. }) = action else {
            return Link::default();
        };
        let keys = half * f64::from(part.len());
        self.message(
            match (what, pass) {
                (Shipment::Keys, _) => keys,
                (Shipment::Queries, Pass::Forward) => queries,
                (Shipment::Partial, Pass::Forward) => queries + sums,
                // Queries, outputs and their gradients; then gradients, those of keys and values in f32.
                (Shipment::Queries, Pass::Backward) => 3.0 * queries + sums,
                (Shipment::Partial, Pass::Backward) => queries + 2.0 * keys,
            },
            1.0,
        )
    }
}
