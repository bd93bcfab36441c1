//! The planner counts what the allocator shows.

use crate::support::{Layout, Setup, run};
use slimpipe::allocator::Region;
use slimpipe::pipeline::comm::{Axis, Mesh};
use slimpipe::prelude::*;
use slimpipe::train::config::Precision;
use slimpipe::train::model::Recompute;
use slimpipe::train::plan::memory::runtime::of_rank;
use slimpipe::train::plan::{self, Model, Workload};

/// A model wide enough that pages and single numbers do not count.
fn setup(layers: usize) -> Setup {
    let mut setup = Setup::tiny();
    let model = &mut setup.model;
    (model.vocab_size, model.hidden_size, model.intermediate_size) = (512, 64, 192);
    (model.head_dim, model.num_hidden_layers) = (16, layers);
    (setup.seq_len, setup.steps) = (1024, 1);
    setup
}

fn planned(setup: &Setup, layout: Layout) -> (Workload, plan::Setup) {
    let model = Model { name: "tiny".to_owned(), dense: setup.model.clone(), experts: None };
    let (batch, gpus) = (layout.data * layout.microbatches, layout.data * layout.ranks);
    let dtype = if layout.dtype == DType::F32 { Precision::F32 } else { Precision::Bf16 };
    let work = Workload { model, context: setup.seq_len as u64, batch, gpus, dtype };
    let dealt = plan::Layout {
        tensor: 1,
        context: 1,
        pipeline: layout.ranks,
        expert: 1,
        data: layout.data,
        slices: layout.slices,
        chunks: layout.chunks,
    };
    let recompute = layout.recompute[0];
    let (exchange, vocabulary) = (layout.exchange, layout.vocabulary);
    let offload = layout.offload.unwrap_or_default();
    let plain = plan::Setup::new(dealt, layout.kind);
    (work, plan::Setup { recompute, offload, exchange, vocabulary, ..plain })
}

/// Compares every rank of a run, region by region and all together.
fn check(layers: usize, layout: Layout) {
    let setup = setup(layers);
    let (work, dealt) = planned(&setup, layout);
    let mesh = Mesh::new(layout.data, layout.ranks);
    for (rank, (stats, _)) in (0..).zip(&run(&setup, layout).unwrap().memory) {
        let plan = of_rank(&work, &dealt, mesh.coordinate(rank, Axis::Pipeline)).unwrap();
        let is = |what: &str, planned: f64, peak: u64, within: f64| {
            let off = planned / peak as f64 - 1.0;
            assert!(
                off.abs() <= within,
                "{layout:?}, {layers} layers, rank {rank}: {what} {planned}, was {peak} ({off:+.4})"
            );
        };
        let of = |region: Region| stats.region(region).active.peak;
        is("persistent", plan.params_grads + plan.optimizer, of(Region::Persistent), 0.002);
        // Whole tensors travel: those that come closest to the ratio.
        let slots = if layout.offload.is_some() { 0.02 } else { 0.002 };
        is("slots", plan.activations, of(Region::Slot), slots);
        is("K/V", plan.kv_cache, of(Region::Kv), 1e-9);
        is("K/V gradients", plan.kv_grad, of(Region::KvGrad), 1e-9);
        is("all", plan.peak, stats.total.active.peak, 0.02);
    }
}

const BOTH: [DType; 2] = [DType::F32, DType::BF16];

#[test]
fn every_rank_peaks_where_the_planner_says() {
    use ScheduleKind::{GPipe, Interleaved, OneFOneB, Seq1F1B, SlimPipe, TeraPipe};
    for (kind, p, n, m, v, layers) in [
        (SlimPipe, 1, 4, 1, 1, 8),
        (SlimPipe, 2, 4, 2, 2, 8),
        (SlimPipe, 2, 4, 1, 1, 7),
        (SlimPipe, 4, 8, 2, 1, 8),
        (SlimPipe, 4, 8, 1, 2, 16),
        (SlimPipe, 4, 4, 2, 2, 13),
        (OneFOneB, 4, 1, 4, 1, 16),
        (Interleaved, 2, 1, 4, 2, 12),
        (GPipe, 2, 1, 3, 1, 8),
        (TeraPipe, 2, 4, 2, 1, 8),
        (Seq1F1B, 4, 4, 2, 1, 8),
    ] {
        let ways = if kind == SlimPipe { &Recompute::ALL[..] } else { &[Recompute::None] };
        for recompute in ways.iter().map(|way| [*way; 2]) {
            for dtype in BOTH {
                check(layers, Layout { kind, dtype, recompute, ..Layout::slimpipe(p, n, m, v) });
            }
        }
    }
}

#[test]
fn so_do_ranks_that_share_attention_and_vocabulary_or_offload() {
    for (p, n, m, v, layers) in [(2, 4, 2, 2, 8), (4, 8, 1, 2, 16), (4, 8, 2, 1, 12)] {
        for (exchange, vocabulary, offload) in [
            (Exchange::Paper, false, None),
            (Exchange::Balanced, false, None),
            (Exchange::Off, true, None),
            (Exchange::Off, false, Some(0.5)),
            (Exchange::Balanced, true, Some(1.0)),
        ] {
            for dtype in BOTH {
                let plain = Layout { dtype, ..Layout::slimpipe(p, n, m, v) };
                let layout = Layout { exchange, vocabulary, offload, ..plain };
                check(layers, layout);
            }
        }
    }
}

#[test]
fn so_do_data_ranks_that_share_optimizer_state() {
    for (data, p, n, m, v, layers) in [(2, 1, 4, 1, 1, 8), (2, 2, 4, 2, 2, 8), (4, 2, 4, 1, 1, 12)]
    {
        for (dtype, vocabulary) in
            BOTH.into_iter().flat_map(|dtype| [(dtype, false), (dtype, true)])
        {
            let plain = Layout::slimpipe(p, n, m, v);
            check(layers, Layout { data, dtype, vocabulary: vocabulary && p > 1, ..plain });
        }
    }
}
