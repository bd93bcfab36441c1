//! SlimPipe beside what a user would choose instead, by simulation.

use slimpipe_pipeline::schedule::{Exchange, ScheduleKind};

use super::{Accounting, Format, Layout, Model, Plan, Setup, Site, Space, Workload};
use crate::Result;
use crate::hardware::Hardware;
use crate::model::Recompute;

/// The best plans for a workload.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Of SlimPipe.
    pub slimpipe: Option<Plan>,
    /// Of what else can be downloaded: Megatron-LM and DeepSpeed.
    pub as_they_are: Vec<Baseline>,
    /// Of the same ideas with our kernels, loss and memory.
    pub as_they_could_be: Vec<Baseline>,
}

/// Another way to train.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// What it is called.
    pub name: &'static str,
    /// Its fastest plan that fits.
    pub plan: Option<Plan>,
    /// Its fastest plan on GPUs with endless memory.
    pub unbounded: Option<Plan>,
}

/// What makes a ratio of step times, as parts of it beyond 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gain {
    /// The baseline's step over SlimPipe's.
    pub ratio: f64,
    /// From computing less again.
    pub recompute: f64,
    /// From waiting less.
    pub bubble: f64,
    /// From less communication that nothing hides.
    pub communication: f64,
    /// From kernels on larger or smaller pieces.
    pub kernels: f64,
    /// Of all of these, what the baseline would have too if memory had no end.
    pub memory: f64,
}

/// Finds the best plan of a kind at a site.
type Best = fn(&Site<'_>) -> Result<Option<Plan>>;

/// What can be downloaded: Megatron-LM, which keeps what the paper's authors count for it, and DeepSpeed,
/// with Ulysses in a machine and whole layers recomputed, as they ran it.
const AS_THEY_ARE: [(&str, Best); 2] = [
    ("Megatron-LM", |site| site.best(&Space { format: Format::Megatron, ..Space::megatron() })),
    ("DeepSpeed", |site| site.ulysses(site.hardware.node.gpus, &[Recompute::Full])),
];

/// The same ideas with everything else as it is here: the memory format, the fused loss, a choice of what
/// is recomputed, and Ulysses across machines.
const AS_THEY_COULD_BE: [(&str, Best); 2] = [
    ("interleaved 1F1B", |site| site.best(&Space::megatron())),
    ("ZeRO-3 with Ulysses", |site| site.ulysses(u32::MAX, &Recompute::ALL)),
];

impl Site<'_> {
    fn best(&self, space: &Space) -> Result<Option<Plan>> {
        Ok(self.search(space, 1)?.plans.first().copied())
    }

    /// Searches SlimPipe, with activations in the host's memory only if `offload`, and what else there
    /// is.
    ///
    /// # Errors
    /// As [`Site::search`].
    pub fn compare(&self, offload: bool) -> Result<Comparison> {
        let mut hardware = self.hardware.clone();
        hardware.gpu.memory_gib = f64::INFINITY;
        let endless = Site { hardware: &hardware, ..*self };
        let all = |kinds: [(&'static str, Best); 2]| -> Result<Vec<Baseline>> {
            let of = |(name, best): (_, Best)| {
                Ok(Baseline { name, plan: best(self)?, unbounded: best(&endless)? })
            };
            kinds.into_iter().map(of).collect()
        };
        Ok(Comparison {
            slimpipe: self.best(&Space { offload, ..Space::slimpipe() })?,
            as_they_are: all(AS_THEY_ARE)?,
            as_they_could_be: all(AS_THEY_COULD_BE)?,
        })
    }
}

impl Gain {
    /// What `slimpipe` gains over `other`.
    pub fn of(slimpipe: &Plan, other: &Plan) -> Self {
        let (theirs, own) = (other.times(), slimpipe.times());
        let [products, attention, elementwise, recompute, communication, bubble] =
            std::array::from_fn(|i| (theirs[i].1 - own[i].1) / slimpipe.seconds);
        let kernels = products + attention + elementwise;
        let ratio = other.seconds / slimpipe.seconds;
        Self { ratio, recompute, bubble, communication, kernels, memory: 0.0 }
    }
}

impl Baseline {
    /// What `slimpipe` gains over its plan, if it has one.
    pub fn gain(&self, slimpipe: &Plan) -> Option<Gain> {
        let plan = self.plan?;
        let unbounded = self.unbounded.map_or(plan.seconds, |unbounded| unbounded.seconds);
        let memory = (plan.seconds - unbounded) / slimpipe.seconds;
        Some(Gain { memory, ..Gain::of(slimpipe, &plan) })
    }
}

/// The longest context of a schedule in the setting of Fig. 2 of the SlimPipe paper: Llama 7B on 64
/// GPUs, tensor 8, pipeline 8, nothing recomputed or offloaded.
///
/// # Errors
/// An accounting that does not know the schedule.
pub fn longest_context(
    schedule: ScheduleKind,
    accounting: Accounting,
    hardware: &Hardware,
) -> Result<u64> {
    let (slices, chunks, batch) = match schedule {
        ScheduleKind::SlimPipe => (64, 4, 2),
        ScheduleKind::Interleaved => (1, 4, 16),
        ScheduleKind::ZbV | ScheduleKind::VHalf => (1, 2, 16),
        _ => (1, 1, 16),
    };
    let layout = Layout { tensor: 8, context: 1, pipeline: 8, expert: 1, data: 1, slices, chunks };
    // In steps that all layouts can cut.
    const STEP: u64 = 1 << 10;
    let model = Model::open("llama-7b")?;
    let fits = |steps: u64| -> Result<bool> {
        let work = Workload::new(model.clone(), steps * STEP, Some(batch), 64)?;
        let setup = Setup::new(layout, schedule).shared(&work);
        let site = Site { work: &work, hardware, accounting };
        Ok(site.memory(&setup)?.peak <= site.room())
    };
    let (mut low, mut high) = (0, 4096);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if fits(middle)? { low = middle } else { high = middle }
    }
    Ok(low * STEP)
}

/// What the authors of SlimPipe ran Llama 70B with on 128 H800: context in K, SlimPipe's layout and its
/// recomputation, Megatron-LM's. From the configurations of their artifact.
const PUBLISHED: [(u64, &str, Recompute, &str, Recompute); 4] = [
    (64, "t=4,p=4,d=8,n=4,v=20", Recompute::Partial, "t=8,c=2,p=4,d=2,v=20", Recompute::Partial),
    (128, "t=4,c=2,p=4,d=4,n=4,v=20", Recompute::Partial, "t=8,p=8,d=2,v=10", Recompute::Full),
    (256, "t=4,c=2,p=8,d=2,n=16,v=10", Recompute::Partial, "t=4,c=8,p=4,v=20", Recompute::Full),
    (512, "t=4,c=2,p=16,n=32,v=5", Recompute::Partial, "t=8,c=4,p=4,v=20", Recompute::Full),
];

/// The configurations that SlimPipe's authors published for Llama 70B on 128 GPUs, simulated: context
/// in tokens, SlimPipe with the paper's exchange, Megatron-LM interleaved.
///
/// # Errors
/// None.
pub fn published(hardware: &Hardware) -> Result<Vec<(u64, Plan, Plan)>> {
    let model = Model::open("llama-70b")?;
    let row = |(context, slimpipe, keeps, megatron, recomputes): (u64, &str, _, &str, _)| {
        let work = Workload::new(model.clone(), context << 10, None, 128)?;
        let site = Site { work: &work, hardware, accounting: Accounting::Runtime };
        let sliced = Setup::new(slimpipe.parse()?, ScheduleKind::SlimPipe).shared(&work);
        let sliced = Setup { recompute: keeps, exchange: Exchange::Paper, ..sliced };
        let whole = Setup::new(megatron.parse()?, ScheduleKind::Interleaved);
        let whole = Setup { recompute: recomputes, ..whole };
        Ok((context << 10, site.plan(&sliced)?, site.plan(&whole)?))
    };
    PUBLISHED.into_iter().map(row).collect()
}
