//! What one way to train comes to.

use slimpipe_pipeline::schedule::{Formulas, ScheduleKind};
use slimpipe_pipeline::simulate::simulate;

use super::cost::{Spent, StepCosts};
use super::memory::GIB;
use super::{Accounting, Memory, Setup, Workload};
use crate::hardware::Hardware;
use crate::{Error, Result};

/// What a rank reserves of memory for every byte that is active, at most (`docs/status.md`).
const RESERVED: f64 = 1.02;

/// A workload on hardware: what setups are evaluated against.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// What is to be trained.
    pub work: &'a Workload,
    /// On which GPUs.
    pub hardware: &'a Hardware,
    /// Whose memory is counted.
    pub accounting: Accounting,
}

/// A setup, evaluated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// The setup.
    pub setup: Setup,
    /// What the GPU that holds most holds.
    pub memory: Memory,
    /// Bytes that are left on it; negative if it does not fit.
    pub left: f64,
    /// Seconds of a step.
    pub seconds: f64,
    /// Where the time of an average GPU goes.
    pub spent: Spent,
    /// The share of GPUs' time in which they wait for other pipeline ranks; with the paper's
    /// accounting (p - 1) / (m n v + p - 1), as if all units were alike.
    pub bubble: f64,
    /// Model FLOPs utilisation: the arithmetic that the model needs, causal attention counted once, over
    /// what the GPUs' peak would do in the time.
    pub mfu: f64,
    /// Tokens per second and GPU.
    pub speed: f64,
}

impl Plan {
    /// Whether a GPU holds it.
    pub fn fits(&self) -> bool {
        self.left >= 0.0
    }

    /// The step's seconds by what an average GPU does in them.
    pub fn times(&self) -> [(&'static str, f64); 6] {
        let Spent { products, attention, elementwise, recompute, communication } = self.spent;
        [
            ("products", products),
            ("attention", attention),
            ("elementwise", elementwise),
            ("recompute", recompute),
            ("communication", communication),
            ("bubble", self.seconds - self.spent.total()),
        ]
    }
}

impl Site<'_> {
    /// Bytes that a plan may hold on a GPU: its memory less what the driver and libraries keep.
    pub fn room(&self) -> f64 {
        let gpu = &self.hardware.gpu;
        (gpu.memory_gib - gpu.runtime_gib) * GIB / RESERVED
    }

    /// What `setup` holds.
    ///
    /// # Errors
    /// The schedule does not run this.
    pub fn memory(&self, setup: &Setup) -> Result<Memory> {
        self.accounting.memory(self.work, setup)
    }

    /// Simulates a step of `setup`.
    ///
    /// # Errors
    /// A layout that is not one, a schedule that does not run this.
    pub fn plan(&self, setup: &Setup) -> Result<Plan> {
        setup.layout.check(self.work)?;
        if setup.schedule == ScheduleKind::Seq1F1BBalanced {
            let what = format!(
                "plans are made for slices of equal length, not for {}; seq1f1b has them",
                setup.schedule
            );
            return Err(Error::setting("--schedule", what));
        }
        self.plan_with(setup, self.memory(setup)?)
    }

    /// The same, of a setup that can be and holds `memory`.
    pub(super) fn plan_with(&self, setup: &Setup, memory: Memory) -> Result<Plan> {
        let schedule = setup.schedule(self.work)?;
        let costs = StepCosts::new(self.work, setup, &schedule, self.hardware);
        let seconds = simulate(&schedule, &costs)?.makespan;
        let spent = costs.spent();
        let bubble = match self.accounting {
            Accounting::Runtime => 1.0 - spent.total() / seconds,
            Accounting::Paper => Formulas::of(&schedule).bubble_fraction,
        };
        Ok(self.rate(*setup, memory, seconds, spent, bubble))
    }

    /// The plan, with the rates that follow from its seconds and bytes.
    pub(super) fn rate(
        &self,
        setup: Setup,
        memory: Memory,
        seconds: f64,
        spent: Spent,
        bubble: f64,
    ) -> Plan {
        let Workload { model, context, batch, gpus, .. } = self.work;
        let tokens = *context as f64 * f64::from(*batch);
        let speed = tokens / (seconds * f64::from(*gpus));
        let peak = self.hardware.gpu.peak_tflops * 1e12;
        let mfu = model.flops_per_token(*context) * speed / peak;
        let left = self.room() - memory.peak;
        Plan { setup, memory, left, seconds, spent, bubble, mfu, speed }
    }
}
