//! Modules and the functions in them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use cudarc::driver::sys::CUresult;
use slimpipe_emulator::{self as emulator, Kernel};

use crate::{context::Context, facts, settings};

/// PTX that was loaded into a context.
pub struct Module {
    /// Where it was loaded.
    pub context: Arc<Context>,
    /// PTX version times ten, as functions tell it.
    pub version: u32,
    decoded: emulator::Module,
    /// Handles of functions that were asked for, by name.
    pub handles: Mutex<HashMap<String, usize>>,
}

/// Why an image was not loaded.
#[derive(Debug)]
pub struct Refused {
    /// What the driver answers.
    pub code: CUresult,
    /// What is wrong with the image.
    pub text: String,
}

impl Refused {
    fn new(code: CUresult, text: impl Into<String>) -> Refused {
        Refused { code, text: text.into() }
    }
}

impl Module {
    /// Decodes PTX for a device of the settings' kind.
    ///
    /// # Errors
    /// Text that is no PTX or uses what the emulator does not know, for a newer driver, or for
    /// another device.
    pub fn load(context: Arc<Context>, text: &str) -> Result<Module, Refused> {
        let version = directive(text, ".version").unwrap_or_default();
        let version = version.replace('.', "").parse::<u32>().unwrap_or(0);
        let newest = newest_ptx(settings::with(|s| s.driver_version));
        if version > newest {
            let text = format!("PTX version {version}, and the driver takes up to {newest}");
            return Err(Refused::new(CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION, text));
        }
        let decoded = emulator::Module::parse(text)
            .map_err(|e| Refused::new(CUresult::CUDA_ERROR_INVALID_PTX, e.to_string()))?;
        let target = directive(text, ".target").unwrap_or_default();
        let (major, minor) = settings::with(|s| s.capability);
        if !runs_on(target, (10 * major + minor) as u32) {
            let text = format!("PTX for {target} on a device of capability {major}.{minor}");
            return Err(Refused::new(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU, text));
        }
        Ok(Module { context, version, decoded, handles: Mutex::default() })
    }

    /// A kernel by name.
    pub fn function(self: &Arc<Self>, name: &str) -> Option<Function> {
        let kernel = self.decoded.kernel(name).ok()?;
        let dynamic = facts::SHARED_PER_BLOCK as u32 - kernel.static_shared();
        Some(Function {
            module: self.clone(),
            kernel,
            most_dynamic_shared: AtomicU32::new(dynamic),
            non_portable_cluster: AtomicBool::new(false),
        })
    }
}

/// The first word behind a directive at the beginning of a line.
fn directive<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name))?;
    line.split([' ', ',', '\t']).find(|word| !word.is_empty())
}

/// The newest PTX version, times ten, that a driver takes.
fn newest_ptx(driver: i32) -> u32 {
    match driver {
        13000.. => 90 + (driver as u32 - 13000) / 10,
        12080.. => 87 + (driver as u32 - 12080) / 10,
        12050.. => 85,
        12000.. => 80 + (driver as u32 - 12000) / 10,
        _ => 75,
    }
}

/// Whether code for `target` runs on a device of a capability: `sm_80` on all from 8.0 on, `sm_90a`
/// on 9.0 alone.
fn runs_on(target: &str, capability: u32) -> bool {
    let name = target.strip_prefix("sm_").unwrap_or(target);
    match name.strip_suffix('a') {
        Some(exact) => exact.parse() == Ok(capability),
        None => name.trim_end_matches('f').parse().is_ok_and(|least: u32| least <= capability),
    }
}

/// A kernel of a module, with the attributes that programs set on it.
pub struct Function {
    /// The module it is in.
    pub module: Arc<Module>,
    /// Its code.
    pub kernel: Kernel,
    /// Bytes of dynamic shared memory that a launch may ask for.
    pub most_dynamic_shared: AtomicU32,
    /// Whether clusters may be larger than every device of the generation can run.
    pub non_portable_cluster: AtomicBool,
}

/// The sizes of a launch.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Blocks of a cluster along x, y, z, if the launch says so.
    pub cluster: Option<[u32; 3]>,
    /// Bytes of dynamic shared memory of a block.
    pub shared: u32,
}

impl Function {
    /// Registers of a thread. PTX does not tell what a compiler would take; this is what the kernel
    /// allows, or the most that lets a full block run.
    pub fn registers(&self) -> u32 {
        let most = (facts::REGISTERS / self.kernel.max_threads()).min(255);
        self.kernel.max_registers().unwrap_or(most)
    }

    /// Whether a launch of these sizes is one that the driver takes.
    ///
    /// # Errors
    /// The driver's code, and what is wrong.
    pub fn check(&self, sizes: &Sizes) -> Result<(), Refused> {
        let invalid = |text: String| Err(Refused::new(CUresult::CUDA_ERROR_INVALID_VALUE, text));
        let exceeds = |given: [u32; 3], most: [u32; 3]| {
            given.iter().zip(most).any(|(given, most)| !(1..=most).contains(given))
        };
        if exceeds(sizes.grid, facts::MOST_GRID) {
            return invalid(format!("a grid of {:?} blocks", sizes.grid));
        }
        if exceeds(sizes.block, facts::MOST_BLOCK) {
            return invalid(format!("blocks of {:?} threads", sizes.block));
        }
        let threads = product(sizes.block);
        if threads > u64::from(self.kernel.max_threads()) {
            let most = self.kernel.max_threads();
            return invalid(format!("{threads} threads in a block, and the kernel allows {most}"));
        }
        let most = self.most_dynamic_shared.load(Ordering::Relaxed);
        if sizes.shared > most {
            let wanted = sizes.shared;
            return invalid(format!(
                "{wanted} bytes of dynamic shared memory, and the function's attribute allows {most}"
            ));
        }
        self.check_cluster(sizes)
    }

    fn check_cluster(&self, sizes: &Sizes) -> Result<(), Refused> {
        let Some(cluster) = sizes.cluster.or(self.kernel.cluster()) else { return Ok(()) };
        let fixed = self.kernel.cluster().unwrap_or(cluster);
        let blocks = product(cluster);
        let most = match self.non_portable_cluster.load(Ordering::Relaxed) {
            true => facts::CLUSTER_NON_PORTABLE,
            false => facts::CLUSTER,
        };
        let divides = cluster.iter().zip(sizes.grid).all(|(c, g)| *c > 0 && g.is_multiple_of(*c));
        if divides && cluster == fixed && blocks <= u64::from(most) {
            return Ok(());
        }
        let text = format!(
            "clusters of {cluster:?} blocks in a grid of {:?} (at most {most}, the kernel says {:?})",
            sizes.grid,
            self.kernel.cluster()
        );
        Err(Refused::new(CUresult::CUDA_ERROR_INVALID_CLUSTER_SIZE, text))
    }

    /// Blocks of a size that run on one multiprocessor at the same time.
    pub fn occupancy(&self, threads: u32, dynamic_shared: usize) -> u32 {
        let threads = threads.max(1).next_multiple_of(facts::WARP);
        let shared = self.kernel.static_shared() as usize + dynamic_shared + facts::SHARED_RESERVED;
        let by_shared = facts::SHARED_PER_MULTIPROCESSOR / shared;
        let by_registers = facts::REGISTERS / (self.registers() * threads);
        let by_threads = facts::THREADS_PER_MULTIPROCESSOR / threads;
        let fits = by_threads.min(by_registers).min(by_shared as u32);
        fits.min(facts::BLOCKS_PER_MULTIPROCESSOR)
    }
}

fn product(sizes: [u32; 3]) -> u64 {
    sizes.iter().map(|&n| u64::from(n)).product()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_runs_on_the_devices_that_it_was_compiled_for() {
        assert!(runs_on("sm_90a", 90) && !runs_on("sm_90a", 100) && !runs_on("sm_90a", 80));
        assert!(runs_on("sm_80", 90) && !runs_on("sm_100", 90));
    }

    #[test]
    fn directives_are_read_off_the_beginning_of_lines() {
        let text = "// .version 1.0\n.version 9.0\n.target sm_90a, debug\n";
        assert_eq!(directive(text, ".version"), Some("9.0"));
        assert_eq!(directive(text, ".target"), Some("sm_90a"));
        assert_eq!((newest_ptx(13000), newest_ptx(12080), newest_ptx(12060)), (90, 87, 85));
    }
}
