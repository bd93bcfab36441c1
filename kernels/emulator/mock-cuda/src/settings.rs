//! What the machine that the mock imitates looks like, and what goes wrong on it.

use std::{
    env,
    sync::{LazyLock, RwLock, RwLockReadGuard},
};

use slimpipe_emulator::Policy;
use slimpipe_mock_protocol::{
    order::Order,
    settings::{read, read_bytes, read_optional, variable},
    trigger::Trigger,
};

/// Environment variables are called `SLIMPIPE_MOCK_CUDA_DEVICES` and so on.
const PREFIX: &str = "SLIMPIPE_MOCK_CUDA";

/// Multiprocessors of an H200.
const MULTIPROCESSORS: usize = 132;

/// The most devices there can be.
pub const MOST_DEVICES: usize = 16;

/// Settings of the mock driver.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many devices there are.
    pub devices: usize,
    /// Compute capability, as major and minor.
    pub capability: (i32, i32),
    /// Multiprocessors of each device. Few of them have kernels whose blocks stay take several turns
    /// on small problems.
    pub multiprocessors: usize,
    /// Bytes of memory of each device.
    pub memory: usize,
    /// The driver's version, as `cuDriverGetVersion` tells it.
    pub driver_version: i32,
    /// When operations on streams begin.
    pub order: Order,
    /// How the emulator schedules a kernel: `eager`, `random:SEED` or `latest:SEED`.
    pub policy: Policy,
    /// Threads of the host that execute the blocks of a kernel.
    pub threads: usize,
    /// Which allocation of device memory fails for want of memory.
    pub fail_allocation: Option<Trigger>,
    /// Which launch ends in a fault of its context.
    pub fail_launch: Option<Trigger>,
    /// Which operation on a stream never ends.
    pub hang: Option<Trigger>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            devices: 4,
            capability: (9, 0),
            multiprocessors: MULTIPROCESSORS,
            memory: 8 << 30,
            driver_version: 13000,
            order: Order::Eager,
            policy: Policy::Eager,
            threads: 1,
            fail_allocation: None,
            fail_launch: None,
            hang: None,
        }
    }
}

impl Settings {
    /// Names of all settings.
    const NAMES: [&str; 11] = [
        "devices",
        "capability",
        "multiprocessors",
        "memory",
        "driver_version",
        "order",
        "policy",
        "threads",
        "fail_allocation",
        "fail_launch",
        "hang",
    ];

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "devices" => match read(name, value)? {
                n if n <= MOST_DEVICES => self.devices = n,
                n => return Err(format!("devices = {n}: at most {MOST_DEVICES}")),
            },
            "capability" => {
                let (major, minor) = value
                    .split_once('.')
                    .ok_or_else(|| format!("capability = {value:?}: expected 9.0 or the like"))?;
                self.capability = (read(name, major)?, read(name, minor)?);
            }
            "multiprocessors" => self.multiprocessors = read(name, value)?,
            "memory" => self.memory = read_bytes(name, value)?,
            "driver_version" => self.driver_version = read(name, value)?,
            "order" => self.order = read(name, value)?,
            "policy" => self.policy = policy(value)?,
            "threads" => self.threads = read(name, value)?,
            "fail_allocation" => self.fail_allocation = read_optional(name, value)?,
            "fail_launch" => self.fail_launch = read_optional(name, value)?,
            "hang" => self.hang = read_optional(name, value)?,
            _ => return Err(format!("no setting is called {name:?}")),
        }
        Ok(())
    }

    /// Defaults and what the environment says.
    fn from_environment() -> Result<Settings, String> {
        let mut settings = Settings::default();
        for name in Settings::NAMES {
            if let Ok(value) = env::var(variable(PREFIX, name)) {
                settings.set(name, &value)?;
            }
        }
        Ok(settings)
    }
}

/// Reads how kernels are scheduled.
fn policy(value: &str) -> Result<Policy, String> {
    match value.split_once(':') {
        None if value == "eager" => Ok(Policy::Eager),
        Some(("random", seed)) => Ok(Policy::Random { seed: read("policy", seed)? }),
        Some(("latest", seed)) => Ok(Policy::Latest { seed: read("policy", seed)? }),
        _ => Err(format!("policy = {value:?}: expected eager, random:SEED or latest:SEED")),
    }
}

/// Settings that are in force, or why the environment's could not be read.
static SETTINGS: LazyLock<RwLock<Result<Settings, String>>> =
    LazyLock::new(|| RwLock::new(Settings::from_environment()));

/// Reads something off the settings; defaults stand in for settings that could not be read, which
/// [`check`] has told.
pub fn with<T>(look: impl FnOnce(&Settings) -> T) -> T {
    match &*lock() {
        Ok(settings) => look(settings),
        Err(_) => look(&Settings::default()),
    }
}

/// Whether the environment's settings could be read.
///
/// # Errors
/// What is wrong with them.
pub fn check() -> Result<(), String> {
    lock().as_ref().map(|_| ()).map_err(String::clone)
}

/// Changes one setting.
///
/// # Errors
/// An unknown name or a value that it cannot have.
pub fn set(name: &str, value: &str) -> Result<(), String> {
    let mut settings = SETTINGS.write().unwrap_or_else(|e| e.into_inner());
    settings.as_mut().map_err(|e| e.clone())?.set(name, value)
}

/// Goes back to what the environment says.
pub fn reset() {
    *SETTINGS.write().unwrap_or_else(|e| e.into_inner()) = Settings::from_environment();
}

/// Counts one thing called `name` for a planted fault, and says whether it strikes.
pub fn strikes(fault: fn(&mut Settings) -> &mut Option<Trigger>, name: &str) -> bool {
    let mut settings = SETTINGS.write().unwrap_or_else(|e| e.into_inner());
    settings.as_mut().is_ok_and(|s| fault(s).as_mut().is_some_and(|t| t.strikes(name)))
}

fn lock() -> RwLockReadGuard<'static, Result<Settings, String>> {
    SETTINGS.read().unwrap_or_else(|e| e.into_inner())
}
