//! The best ways to train, found among all there are.

use slimpipe_pipeline::schedule::Exchange;

use super::cost::StepCosts;
use super::{Layout, Memory, Plan, Setup, Site, Space};
use crate::model::Recompute;
use crate::{Error, Result};

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The fastest plans that fit, best first, no two of one layout.
    pub plans: Vec<Plan>,
    /// If none fits, how near the nearest came.
    pub closest: Option<Closest>,
    /// Setups that were considered.
    pub considered: usize,
    /// Of these, those that fit.
    pub fitting: usize,
    /// How many were simulated, each way to exchange attention by itself: others are slower even if nobody ever waits.
    pub simulated: usize,
}

/// How near setups come to fitting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Closest {
    /// The one that needs least.
    pub setup: Setup,
    /// What it holds.
    pub memory: Memory,
    /// Bytes of weights, gradients and optimizer in the setup where they take least.
    pub fixed: f64,
}

/// Shares of activations that are tried in the host's memory.
const OFFLOADS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// A setup that fits, and what its step takes at least.
struct Candidate {
    setup: Setup,
    memory: Memory,
    least: f64,
}

impl Site<'_> {
    /// The `count` fastest setups of `space` that fit.
    ///
    /// # Errors
    /// A simulation that fails; setups that cannot be are passed over.
    pub fn search(&self, space: &Space, count: usize) -> Result<Found> {
        let mut found = Found::default();
        let mut candidates = Vec::new();
        for setup in self.setups(space) {
            self.add(space, setup, &mut candidates, &mut found);
        }
        if candidates.is_empty() {
            found.closest = self.closest(space);
            return Ok(found);
        }
        candidates.sort_by(|a, b| a.least.total_cmp(&b.least));
        // Some at a time, each on a core.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for batch in candidates.chunks(2 * cores) {
            let worst = found.plans.last().filter(|_| found.plans.len() >= count);
            let bound = worst.map_or(f64::INFINITY, |worst| worst.seconds);
            let batch: Vec<_> = batch.iter().filter(|of| of.least < bound).collect();
            if batch.is_empty() {
                break;
            }
            found.simulated += batch.len();
            let share = batch.len().div_ceil(cores);
            let plans: Result<Vec<Vec<Plan>>> = std::thread::scope(|scope| {
                let of = |part: &[&Candidate]| {
                    part.iter().map(|of| self.plan_with(&of.setup, of.memory)).collect()
                };
                let parts = batch.chunks(share).map(|part| scope.spawn(move || of(part)));
                let threads: Vec<_> = parts.collect();
                threads
                    .into_iter()
                    .map(|thread| {
                        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                    })
                    .collect()
            });
            plans?.into_iter().flatten().for_each(|plan| found.keep(plan, count));
        }
        Ok(found)
    }

    /// All setups of `space` that can run, before anything is computed again or offloaded.
    fn setups(&self, space: &Space) -> impl Iterator<Item = Setup> {
        let pairs = space.layouts(self).into_iter().flat_map(|layout| {
            space.schedules.iter().map(move |&schedule| Setup::new(layout, schedule))
        });
        let setups = pairs.flat_map(|setup| {
            let shared = setup.shared(self.work);
            let ends = Setup { vocabulary: false, ..shared };
            std::iter::once(ends).chain((shared != ends).then_some(shared))
        });
        setups.filter(|setup| self.runs(space, setup))
    }

    fn runs(&self, space: &Space, setup: &Setup) -> bool {
        setup.order(self.work).is_ok() && space.allows(self, setup)
    }

    /// The ways to hold less with `setup`: for each way to recompute, more and more offload.
    fn ways(&self, space: &Space, setup: Setup) -> impl Iterator<Item = Setup> {
        let offloads =
            move |recompute| OFFLOADS.map(|offload| Setup { recompute, offload, ..setup });
        let ways = Recompute::ALL.into_iter().flat_map(offloads);
        ways.filter(|way| way.offload == 0.0 || (space.offload && self.runs(space, way)))
    }

    /// Adds the ways to run `setup` that fit: for each way to recompute with as little offload as
    /// does; none beyond the first that fits without.
    fn add(&self, space: &Space, setup: Setup, into: &mut Vec<Candidate>, found: &mut Found) {
        let mut fits = None;
        for setup in self.ways(space, setup) {
            if fits == Some(setup.recompute) {
                continue;
            }
            let Ok(memory) = space.memory(self, &setup) else { return };
            found.considered += 1;
            // Weights alone are too much: nothing else helps.
            if memory.fixed() > self.room() {
                return;
            }
            if memory.peak > self.room() {
                continue;
            }
            found.fitting += 1;
            self.add_exchanges(setup, memory, into);
            if setup.offload == 0.0 {
                return;
            }
            fits = Some(setup.recompute);
        }
    }

    /// How near the setups of `space` come to fitting.
    fn closest(&self, space: &Space) -> Option<Closest> {
        let ways = self.setups(space).flat_map(|setup| self.ways(space, setup));
        let all = ways.filter_map(|setup| Some((setup, space.memory(self, &setup).ok()?)));
        all.fold(None, |closest: Option<Closest>, (setup, memory)| {
            let fixed = closest.map_or(f64::INFINITY, |of| of.fixed).min(memory.fixed());
            let nearest = closest.filter(|of| of.memory.peak <= memory.peak);
            Some(Closest { fixed, ..nearest.unwrap_or(Closest { setup, memory, fixed }) })
        })
    }

    fn add_exchanges(&self, setup: Setup, memory: Memory, into: &mut Vec<Candidate>) {
        let ways = match setup.exchange {
            Exchange::Off => &[Exchange::Off][..],
            _ => &Exchange::ALL,
        };
        let Ok(order) = setup.order(self.work) else { return };
        let costs = StepCosts::new(self.work, &setup, &order, self.hardware);
        for &exchange in ways {
            let least = costs.least(&order, exchange);
            into.push(Candidate { setup: Setup { exchange, ..setup }, memory, least });
        }
    }

    /// That no setup fits, told by what the closest one lacks.
    pub fn nothing_fits(&self, closest: Option<Closest>) -> Error {
        let Some(Closest { setup, memory, fixed }) = closest else {
            let what = format!(
                "{} does not divide into a layout for {} with {} sequences in a step; another number, or another --batch, may",
                self.work.gpus,
                self.work.model.short_name(),
                self.work.batch
            );
            return Error::setting("--gpus", what);
        };
        let gib = |bytes: f64| bytes / super::memory::GIB;
        let room = gib(self.room());
        let needs = format!(
            "the closest, {setup}, needs {:.2} GiB of a GPU's {room:.2} and lacks {:.2}",
            gib(memory.peak),
            gib(memory.peak - self.room()),
        );
        if fixed > self.room() {
            let what = format!(
                "nothing fits: weights, gradients and optimizer alone take {:.2} GiB of a GPU's {room:.2}; {needs}. More GPUs, or larger ones, may do",
                gib(fixed)
            );
            return Error::setting("--gpus", what);
        }
        let terms = &memory.terms()[..7];
        let most = terms.iter().max_by(|a, b| a.1.total_cmp(&b.1)).map_or("", |term| term.0);
        let what = format!(
            "nothing fits: {needs}; most of it is {} ({:.2} GiB). More GPUs, larger ones, or a shorter --context may do",
            most.replace('_', " + "),
            gib(terms.iter().map(|term| term.1).fold(0.0, f64::max)),
        );
        Error::setting("--gpus", what)
    }
}

impl Found {
    /// Keeps `plan` if it is among the fastest; of one layout the fastest.
    fn keep(&mut self, plan: Plan, count: usize) {
        let same = |other: &Plan| {
            (other.setup.layout, other.setup.schedule) == (plan.setup.layout, plan.setup.schedule)
        };
        match self.plans.iter().position(same) {
            Some(at) if self.plans[at].seconds <= plan.seconds => return,
            Some(at) => {
                self.plans.remove(at);
            }
            None => {}
        }
        let at = self.plans.partition_point(|other| other.seconds <= plan.seconds);
        self.plans.insert(at, plan);
        self.plans.truncate(count);
    }
}

/// All sizes that `number` can be divided into: 1, and so on to itself.
pub(super) fn divisors(number: u32) -> impl Iterator<Item = u32> + Clone {
    (1..=number).filter(move |&size| number.is_multiple_of(size))
}

/// The layout with one chunk and one slice.
pub(super) fn mesh(tensor: u32, context: u32, pipeline: u32, expert: u32, data: u32) -> Layout {
    Layout { tensor, context, pipeline, expert, data, slices: 1, chunks: 1 }
}
