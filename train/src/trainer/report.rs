//! What ranks tell rank 0 after a step, and what it makes of it.

use std::time::Duration;

use super::Run;
use super::rank::{Outcome, Rank};
use crate::Result;
use crate::config::Job;
use crate::metrics::{RankMetrics, StepMetrics};

/// One rank's figures of a step.
#[derive(Clone, Debug)]
pub(super) struct Report {
    metrics: RankMetrics,
    busy: Duration,
    extent: (Duration, Duration),
}

/// The highest figures of a rank over a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RankSummary {
    /// Most units in flight at once.
    pub in_flight_peak: u64,
    /// What the schedule's formula says.
    pub in_flight_expected: u64,
    /// Most live bytes.
    pub active_peak: u64,
    /// Most live bytes of activations.
    pub activation_peak: u64,
    /// Most committed bytes.
    pub reserved_peak: u64,
    /// Unplanned allocations inside units, over all steps.
    pub overflow_hits: u64,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The last step; `None` if there was nothing left to do.
    pub last: Option<StepMetrics>,
    /// By rank.
    pub ranks: Vec<RankSummary>,
    /// Whether the run was asked to stop.
    pub stopped: bool,
}

impl Report {
    pub(super) fn of(rank: &mut Rank, outcome: &Outcome) -> Result<Self> {
        let stats = rank.memory().stats();
        let metrics = RankMetrics {
            rank: rank.comm().rank(),
            in_flight_peak: stats.units_in_flight.peak,
            active_peak_bytes: stats.total.active.peak,
            activation_peak_bytes: stats.activations.peak,
            reserved_peak_bytes: stats.total.reserved.peak,
            overflow_hits: stats.overflow_hits,
        };
        Ok(Self { metrics, busy: outcome.busy, extent: outcome.extent })
    }

    /// Nine numbers, as they are in memory: ranks of one run are one program.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let m = &self.metrics;
        let nanos = |time: Duration| time.as_nanos() as u64;
        let numbers = [
            u64::from(m.rank),
            m.in_flight_peak,
            m.active_peak_bytes,
            m.activation_peak_bytes,
            m.reserved_peak_bytes,
            m.overflow_hits,
            nanos(self.busy),
            nanos(self.extent.0),
            nanos(self.extent.1),
        ];
        bytemuck::cast_slice(&numbers).to_vec()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut numbers = bytes.chunks_exact(8).map(bytemuck::pod_read_unaligned::<u64>);
        let mut next = || numbers.next().unwrap_or(0);
        let metrics = RankMetrics {
            rank: next() as u32,
            in_flight_peak: next(),
            active_peak_bytes: next(),
            activation_peak_bytes: next(),
            reserved_peak_bytes: next(),
            overflow_hits: next(),
        };
        let mut time = || Duration::from_nanos(next());
        Self { metrics, busy: time(), extent: (time(), time()) }
    }
}

impl RankSummary {
    /// Six numbers, as they are in memory.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let numbers = [
            self.in_flight_peak,
            self.in_flight_expected,
            self.active_peak,
            self.activation_peak,
            self.reserved_peak,
            self.overflow_hits,
        ];
        bytemuck::cast_slice(&numbers).to_vec()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut numbers = bytes.chunks_exact(8).map(bytemuck::pod_read_unaligned::<u64>);
        let mut next = || numbers.next().unwrap_or(0);
        Self {
            in_flight_peak: next(),
            in_flight_expected: next(),
            active_peak: next(),
            activation_peak: next(),
            reserved_peak: next(),
            overflow_hits: next(),
        }
    }

    pub(super) fn add(&mut self, report: &Report) {
        let metrics = &report.metrics;
        self.in_flight_peak = self.in_flight_peak.max(metrics.in_flight_peak);
        self.active_peak = self.active_peak.max(metrics.active_peak_bytes);
        self.activation_peak = self.activation_peak.max(metrics.activation_peak_bytes);
        self.reserved_peak = self.reserved_peak.max(metrics.reserved_peak_bytes);
        self.overflow_hits += metrics.overflow_hits;
    }
}

/// All ranks' figures of a step in one. The bubble is the part of the time between the first start
/// and the last end of any rank in which ranks did not compute.
pub(super) fn combine(
    job: &Job,
    step: u64,
    outcome: &Outcome,
    reports: &[Report],
    seconds: f64,
    run: &Run<'_>,
) -> StepMetrics {
    let start = reports.iter().map(|report| report.extent.0).min().unwrap_or_default();
    let end = reports.iter().map(|report| report.extent.1).max().unwrap_or_default();
    let busy: Duration = reports.iter().map(|report| report.busy).sum();
    let available = (end - start).as_secs_f64() * reports.len() as f64;
    let settings = &job.config.train;
    let tokens = f64::from(settings.microbatches) * settings.seq_len as f64;
    let (rate, flops) = (tokens / seconds, run.flops_per_token());
    StepMetrics {
        step,
        loss: outcome.loss,
        grad_norm: outcome.grad_norm,
        lr: outcome.lr,
        tokens_per_second: rate,
        mfu: rate * flops.causal / run.peak_flops,
        mfu_noncausal: rate * flops.noncausal / run.peak_flops,
        bubble_fraction: 1.0 - busy.as_secs_f64() / available.max(f64::MIN_POSITIVE),
        ranks: reports.iter().map(|report| report.metrics.clone()).collect(),
    }
}
