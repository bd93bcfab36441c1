//! A run's settings as the planner sees them.

use super::{Layout, Model, Setup, Workload};
use crate::config::Job;
use crate::model::Recompute;

/// What `job` trains, and how. Where layers differ in what they make again, the first counts.
pub fn of_job(job: &Job) -> (Workload, Setup) {
    let (settings, schedule) = (&job.config, &job.schedule);
    let (data, pipeline) = (schedule.data_ranks(), schedule.ranks());
    let work = Workload {
        model: Model { name: "the run's".to_owned(), dense: job.model.clone(), experts: None },
        context: settings.train.seq_len as u64,
        batch: settings.train.microbatches,
        gpus: data * pipeline,
        dtype: settings.train.dtype,
    };
    let layout = Layout {
        tensor: 1,
        context: 1,
        pipeline,
        expert: 1,
        data,
        slices: schedule.slices(),
        chunks: schedule.chunks(),
    };
    let setup = Setup {
        layout,
        schedule: schedule.kind(),
        recompute: job.recompute.first().copied().unwrap_or(Recompute::None),
        offload: settings.memory.offload,
        exchange: schedule.exchange(),
        vocabulary: schedule.vocabulary(),
    };
    (work, setup)
}
