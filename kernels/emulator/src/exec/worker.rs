//! Threads that execute clusters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::cluster::{Cluster, Slice};
use super::policy::Policy;
use super::report::Report;
use super::setup::Dimensions;
use super::step::Machine;
use crate::fault::Fault;
use crate::memory::{Memory, View};
use crate::program::Program;
use crate::registers::Constants;

/// What all workers of a launch share.
pub(super) struct Job<'a> {
    pub program: &'a Program,
    pub memory: &'a Memory,
    pub params: &'a [u8],
    pub dimensions: &'a Dimensions,
    pub constants: Vec<Arc<Constants>>,
    pub policy: Policy,
    next: AtomicU64,
    failed: AtomicBool,
}

/// Instructions after which a cluster lets others run: it may wait for what they write.
const SLICE: u64 = 200_000;
/// Most clusters that run at once, as on a device with one block on each multiprocessor.
const MOST_RESIDENT: usize = 132;

impl<'a> Job<'a> {
    pub(super) fn new(
        program: &'a Program,
        memory: &'a Memory,
        params: &'a [u8],
        dimensions: &'a Dimensions,
        constants: Vec<Arc<Constants>>,
        policy: Policy,
    ) -> Self {
        Self {
            program,
            memory,
            params,
            dimensions,
            constants,
            policy,
            next: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        }
    }

    /// Executes clusters until none is left or one failed.
    pub(super) fn work(&self) -> Result<Report, Box<Fault>> {
        let mut machine = Machine {
            program: self.program,
            view: View::new(self.memory),
            params: self.params,
            dimensions: self.dimensions,
            policy: self.policy,
            report: Report::default(),
            progress: 0,
        };
        let mut resident: Vec<Cluster> = Vec::new();
        let mut spare = Vec::new();
        loop {
            if resident.is_empty() && !self.admit(&mut resident, &mut spare) {
                return Ok(machine.report);
            }
            let mut finished = false;
            for i in (0..resident.len()).rev() {
                if self.failed.load(Ordering::Relaxed) {
                    return Ok(machine.report);
                }
                match resident[i].run(&mut machine, SLICE) {
                    Ok(Slice::Running) => {}
                    Ok(Slice::Finished) => {
                        spare.push(resident.remove(i));
                        finished = true;
                    }
                    Err(fault) => {
                        self.failed.store(true, Ordering::Relaxed);
                        return Err(fault);
                    }
                }
            }
            // Clusters that do not come to an end may wait for ones that have not begun.
            if !finished && resident.len() < MOST_RESIDENT {
                self.admit(&mut resident, &mut spare);
            }
        }
    }

    fn admit(&self, resident: &mut Vec<Cluster>, spare: &mut Vec<Cluster>) -> bool {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let all: u64 = self.dimensions.clusters().iter().map(|&n| u64::from(n)).product();
        if number >= all {
            return false;
        }
        let mut cluster: Cluster = spare.pop().unwrap_or_default();
        cluster.start(number, self.program, self.dimensions, &self.constants, self.policy);
        resident.push(cluster);
        true
    }
}
