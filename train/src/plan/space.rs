//! What a search looks at.

use slimpipe_pipeline::schedule::ScheduleKind;

use super::search::{divisors, mesh};
use super::{Accounting, Layout, Memory, Setup, Site, Workload};
use crate::Result;
use crate::model::Recompute;

/// The setups that are searched.
#[derive(Clone, Debug)]
pub struct Space {
    /// Schedules.
    pub schedules: Vec<ScheduleKind>,
    /// Slices per sequence, as multiples of the pipeline's ranks; none takes sequences whole.
    pub multiples: Vec<u32>,
    /// Whether activations may wait in the host's memory.
    pub offload: bool,
    /// What layers keep for backward.
    pub format: Format,
    /// Whether only what `slimpipe train` runs today counts.
    pub runnable: bool,
}

/// What layers keep for backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// What the site's accounting says.
    Slices,
    /// The same, but for keys and values of layers that are made again: only later slices need them.
    Whole,
    /// What Megatron-LM keeps, as the authors of SlimPipe count it: outputs of norms and activations too.
    Megatron,
}

/// The least tokens of a slice on a rank that are worth a product.
const LEAST_ROWS: u64 = 256;

impl Space {
    /// SlimPipe in all its ways.
    pub fn slimpipe() -> Self {
        Self {
            schedules: vec![ScheduleKind::SlimPipe],
            multiples: vec![1, 2, 4, 8, 16],
            offload: true,
            format: Format::Slices,
            runnable: false,
        }
    }

    /// What Megatron-LM offers: 1F1B, plain or interleaved, on whole sequences.
    pub fn megatron() -> Self {
        Self {
            schedules: vec![ScheduleKind::OneFOneB, ScheduleKind::Interleaved],
            multiples: Vec::new(),
            offload: false,
            format: Format::Whole,
            runnable: false,
        }
    }

    /// All layouts of the site's GPUs: tensor parallelism within a machine, stages of equal numbers of
    /// layers, everything in whole parts.
    pub(super) fn layouts(&self, site: &Site<'_>) -> Vec<Layout> {
        let work = site.work;
        let layers = work.model.dense.num_hidden_layers as u32;
        let experts = work.model.experts.map_or(1, |experts| experts.count);
        let in_node = site.hardware.node.gpus.min(work.gpus);
        let mut layouts = Vec::new();
        for tensor in divisors(in_node).filter(|t| work.gpus.is_multiple_of(*t)) {
            for context in divisors(work.gpus / tensor) {
                for pipeline in divisors(work.gpus / tensor / context) {
                    let data = work.gpus / tensor / context / pipeline;
                    if !work.batch.is_multiple_of(data) || !layers.is_multiple_of(pipeline) {
                        continue;
                    }
                    for expert in divisors(experts) {
                        let mesh = mesh(tensor, context, pipeline, expert, data);
                        self.cut(mesh, layers / pipeline, site, &mut layouts);
                    }
                }
            }
        }
        layouts
    }

    /// Adds the ways to cut sequences and the model along the pipeline of `mesh`.
    fn cut(&self, mesh: Layout, layers: u32, site: &Site<'_>, into: &mut Vec<Layout>) {
        let sliced = self.multiples.iter().map(|multiple| multiple * mesh.pipeline);
        let whole = self.multiples.is_empty().then_some(1);
        for slices in sliced.chain(whole) {
            let rows = site.work.context / (u64::from(slices) * u64::from(mesh.context));
            if rows < LEAST_ROWS {
                continue;
            }
            let cuts = divisors(layers).map(|chunks| Layout { slices, chunks, ..mesh });
            into.extend(cuts.filter(|layout| layout.check(site.work).is_ok()));
        }
    }

    /// What `setup` holds.
    pub(super) fn memory(&self, site: &Site<'_>, setup: &Setup) -> Result<Memory> {
        let memory = site.memory(setup)?;
        Ok(match self.format {
            Format::Slices => memory,
            Format::Whole => without_kv(memory, setup, site.work),
            Format::Megatron => {
                let kept = Accounting::Paper.memory(site.work, setup)?;
                let more = kept.activations - memory.activations - memory.kv_cache;
                let (activations, peak) = (kept.activations, memory.peak + more);
                Memory { activations, kv_cache: 0.0, peak, ..memory }
            }
        })
    }

    /// Whether `setup` is one of those that count.
    pub(super) fn allows(&self, site: &Site<'_>, setup: &Setup) -> bool {
        !self.runnable || setup.check_trained(site).is_ok()
    }
}

/// Where whole layers are made again, with the keys and values of one only.
pub(super) fn without_kv(memory: Memory, setup: &Setup, work: &Workload) -> Memory {
    if setup.recompute != Recompute::Full {
        return memory;
    }
    let layers = work.model.dense.num_hidden_layers as f64 / setup.layout.stages() as f64;
    let gone = memory.kv_cache * (1.0 - 1.0 / layers);
    Memory { kv_cache: memory.kv_cache - gone, peak: memory.peak - gone, ..memory }
}
