//! Why not another: what becomes of a plan if one of its settings is changed.

use std::fmt::Write;

use slimpipe_pipeline::schedule::Exchange;

use super::memory::GIB;
use super::search::divisors;
use super::{Layout, Plan, Setup, Site};
use crate::model::Recompute;

/// A neighbour of a plan, and why it is not the plan.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// What is changed.
    pub change: String,
    /// What comes of it.
    pub verdict: String,
}

impl Site<'_> {
    /// What becomes of `plan` when one setting changes by one step: ranks moved from one axis to
    /// another, more or fewer slices and chunks, other ways to save memory.
    pub fn why(&self, plan: &Plan) -> Vec<Neighbour> {
        let of = |(change, setup): (String, Setup)| Neighbour {
            change,
            verdict: self.verdict(plan, &setup),
        };
        self.neighbours(&plan.setup).into_iter().map(of).collect()
    }

    fn verdict(&self, plan: &Plan, setup: &Setup) -> String {
        let other = match self.plan(setup) {
            Ok(other) => other,
            // Without the flag that it would be blamed on.
            Err(error) => {
                let error = error.to_string();
                return format!("cannot be: {}", error.split_once(": ").map_or(&*error, |of| of.1));
            }
        };
        if !other.fits() {
            return format!(
                "does not fit: lacks {:.2} GiB; {}",
                -other.left / GIB,
                grown(plan, &other)
            );
        }
        let slower = other.seconds / plan.seconds - 1.0;
        match slower {
            _ if slower > 5e-4 => {
                format!("{:.1} % slower: {}", 100.0 * slower, moved(plan, &other))
            }
            _ if slower < -5e-4 => format!("{:.1} % faster", -100.0 * slower),
            _ => {
                let more = (other.memory.peak - plan.memory.peak) / GIB;
                match more.abs() < 0.005 {
                    true => "equally fast, in as much memory".to_owned(),
                    false => format!("equally fast, {more:+.2} GiB"),
                }
            }
        }
    }

    fn neighbours(&self, setup: &Setup) -> Vec<(String, Setup)> {
        let Layout { slices, chunks, .. } = setup.layout;
        let mut all = Vec::new();
        let mut add = |change: String, setup: Setup| all.push((change, setup));
        let with = |layout: Layout| Setup { layout, ..*setup };
        // Ranks move by factors of two.
        for from in 0..4 {
            for to in (0..4).filter(|&to| to != from) {
                let mut layout = setup.layout;
                let axes = axes(&mut layout);
                if *axes[from].1 > 1 && axes[from].1.is_multiple_of(2) {
                    *axes[from].1 /= 2;
                    *axes[to].1 *= 2;
                    let change =
                        format!("{}={}, {}={}", axes[from].0, axes[from].1, axes[to].0, axes[to].1);
                    // As many slices as ranks at least.
                    let sliced = slices > 1;
                    layout.slices = if sliced { slices.max(layout.pipeline) } else { 1 };
                    let layers =
                        self.work.model.dense.num_hidden_layers as u32 / layout.pipeline.max(1);
                    layout.chunks =
                        divisors(layers.max(1)).filter(|&v| v <= chunks).last().unwrap_or(1);
                    add(change, with(layout));
                }
            }
        }
        if slices > 1 {
            for slices in [slices / 2, slices * 2] {
                add(format!("n={slices}"), with(Layout { slices, ..setup.layout }));
            }
        }
        let layers = self.work.model.dense.num_hidden_layers as u32 / setup.layout.pipeline;
        let fewer = divisors(layers).filter(|&v| v < chunks).last();
        let more = divisors(layers).find(|&v| v > chunks);
        for chunks in fewer.into_iter().chain(more) {
            add(format!("v={chunks}"), with(Layout { chunks, ..setup.layout }));
        }
        for recompute in Recompute::ALL.into_iter().filter(|&way| way != setup.recompute) {
            add(format!("recompute {recompute}"), Setup { recompute, ..*setup });
        }
        for offload in [setup.offload - 0.25, setup.offload + 0.25] {
            if (0.0..=1.0).contains(&offload) {
                add(format!("offload {offload}"), Setup { offload, ..*setup });
            }
        }
        if setup.shared(self.work).vocabulary {
            let vocabulary = !setup.vocabulary;
            let change =
                if vocabulary { "vocabulary on all ranks" } else { "vocabulary at the ends" };
            add(change.to_owned(), Setup { vocabulary, ..*setup });
        }
        if setup.exchange != Exchange::Off {
            for exchange in Exchange::ALL.into_iter().filter(|&way| way != setup.exchange) {
                add(format!("exchange {exchange}"), Setup { exchange, ..*setup });
            }
        }
        all
    }
}

fn axes(layout: &mut Layout) -> [(&'static str, &mut u32); 4] {
    let Layout { tensor, context, pipeline, data, .. } = layout;
    [("t", tensor), ("c", context), ("p", pipeline), ("d", data)]
}

/// The terms of memory that grew most.
fn grown(plan: &Plan, other: &Plan) -> String {
    let terms = plan.memory.terms().into_iter().zip(other.memory.terms()).take(7);
    let mut grown: Vec<_> = terms.map(|((name, a), (_, b))| (name, (b - a) / GIB)).collect();
    grown.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut text = String::new();
    for (name, gib) in grown.into_iter().take(2).filter(|(_, gib)| *gib > 0.005) {
        let comma = if text.is_empty() { "" } else { ", " };
        write!(text, "{comma}{} {gib:+.2}", name.replace('_', " + ")).ok();
    }
    text
}

/// Where the time went that the other takes longer, in percent of a step.
fn moved(plan: &Plan, other: &Plan) -> String {
    let mut moved = Vec::new();
    for ((name, a), (_, b)) in plan.times().into_iter().zip(other.times()) {
        moved.push((name, 100.0 * (b - a) / plan.seconds));
    }
    moved.sort_by(|a, b| b.1.total_cmp(&a.1));
    let told = moved.into_iter().filter(|(_, percent)| *percent >= 0.05).take(3);
    let told: Vec<String> = told.map(|(name, percent)| format!("{name} {percent:+.1}")).collect();
    told.join(", ")
}
