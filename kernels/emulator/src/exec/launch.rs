//! A kernel, its sizes and its parameters.

use super::policy::Policy;
use super::report::Report;
use super::setup::{Dimensions, constants};
use super::worker::Job;
use crate::fault::{Fault, FaultKind};
use crate::memory::Memory;
use crate::program::Kernel;

/// A launch of a kernel.
///
/// Fields that a launch does not care about come from [`Launch::new`]:
/// `Launch { shared: 1024, ..Launch::new(&kernel, grid, block, &params) }`.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z.
    pub block: [u32; 3],
    /// Blocks of a cluster; `None` leaves it to the kernel.
    pub cluster: Option<[u32; 3]>,
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// Parameters, laid out as the kernel's [`params`](Kernel::params) say.
    pub params: &'a [u8],
    /// In which order things happen.
    pub policy: Policy,
    /// Threads of the host that execute blocks. The results of kernels without atomics do not
    /// depend on it.
    pub threads: usize,
}

/// Most shared memory of a block, static and dynamic together.
const MOST_SHARED: u32 = 227 * 1024;
/// Most blocks of a cluster.
const MOST_CLUSTER: u32 = 16;

impl<'a> Launch<'a> {
    /// A launch without dynamic shared memory, eager, on one thread.
    pub fn new(kernel: &'a Kernel, grid: [u32; 3], block: [u32; 3], params: &'a [u8]) -> Self {
        Self {
            kernel,
            grid,
            block,
            cluster: None,
            shared: 0,
            params,
            policy: Policy::Eager,
            threads: 1,
        }
    }

    /// Executes all blocks.
    ///
    /// # Errors
    /// The first fault that is found.
    pub fn run(&self, memory: &Memory) -> Result<Report, Box<Fault>> {
        let dimensions = self.check().map_err(|what| {
            Box::new(Fault {
                kind: FaultKind::Launch,
                what,
                kernel: self.kernel.name().to_string(),
                block: None,
                warp: None,
                thread: None,
                line: 0,
                text: String::new(),
            })
        })?;
        let program = &*self.kernel.0;
        let constants = constants(program, memory, &dimensions);
        let job = Job::new(program, memory, self.params, &dimensions, constants, self.policy);
        if self.threads <= 1 {
            return job.work();
        }
        let mut report = Report::default();
        let results = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads).map(|_| scope.spawn(|| job.work())).collect();
            workers.into_iter().map(|w| w.join()).collect::<Vec<_>>()
        });
        for result in results {
            match result {
                Ok(worker) => report.add(&worker?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(report)
    }

    fn check(&self) -> Result<Dimensions, String> {
        let program = &*self.kernel.0;
        let product = |sizes: [u32; 3]| sizes.iter().map(|&s| u64::from(s)).product::<u64>();
        let threads = product(self.block);
        if product(self.grid) == 0 || threads == 0 {
            return Err("a grid or block of no threads".into());
        }
        if self.grid[1] > 65_535 || self.grid[2] > 65_535 || self.grid[0] > i32::MAX as u32 {
            return Err(format!("the grid {:?} is too large", self.grid));
        }
        if let Some(required) = program.required_threads
            && required != self.block
        {
            return Err(format!("the kernel needs blocks of {required:?}, not {:?}", self.block));
        }
        if threads > u64::from(self.kernel.max_threads()) {
            let most = self.kernel.max_threads();
            return Err(format!("{threads} threads in a block; the kernel allows {most}"));
        }
        if self.params.len() != self.kernel.param_bytes() {
            let (given, needed) = (self.params.len(), self.kernel.param_bytes());
            return Err(format!("{given} bytes of parameters; the kernel has {needed}"));
        }
        if let (Some(a), Some(b)) = (self.cluster, program.cluster)
            && a != b
        {
            return Err(format!("the kernel has clusters of {b:?}, the launch of {a:?}"));
        }
        let explicit = self.cluster.or(program.cluster);
        let cluster = explicit.unwrap_or([1; 3]);
        let divides = (0..3).all(|i| cluster[i] > 0 && self.grid[i].is_multiple_of(cluster[i]));
        if !divides || product(cluster) > u64::from(MOST_CLUSTER) {
            return Err(format!("clusters of {cluster:?} do not fit the grid {:?}", self.grid));
        }
        let shared = match self.shared {
            0 => program.static_shared,
            dynamic => program.dynamic_start.saturating_add(dynamic),
        };
        if shared > MOST_SHARED {
            return Err(format!("{shared} bytes of shared memory; a block has {MOST_SHARED}"));
        }
        Ok(Dimensions {
            grid: self.grid,
            block: self.block,
            cluster,
            explicit_cluster: explicit.is_some(),
            shared,
            dynamic: self.shared,
        })
    }
}
