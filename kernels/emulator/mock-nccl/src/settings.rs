//! How the mock behaves, and what goes wrong.

use std::{
    env,
    str::FromStr,
    sync::{LazyLock, RwLock},
};

use slimpipe_mock_protocol::{
    order::Order,
    settings::{read, read_optional, variable},
};

use crate::fault::Fault;

/// Environment variables are called `SLIMPIPE_MOCK_NCCL_SEND` and so on.
const PREFIX: &str = "SLIMPIPE_MOCK_NCCL";

/// When a send is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendMode {
    /// When its bytes are on their way, whether somebody receives them or not.
    Buffered,
    /// When its receive has begun.
    Rendezvous,
}

impl FromStr for SendMode {
    type Err = String;

    fn from_str(text: &str) -> Result<SendMode, String> {
        match text {
            "buffered" => Ok(SendMode::Buffered),
            "rendezvous" => Ok(SendMode::Rendezvous),
            _ => Err("expected buffered or rendezvous".into()),
        }
    }
}

/// Settings of the mock NCCL.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The version that `ncclGetVersion` tells.
    pub version: i32,
    /// When a send is done.
    pub send: SendMode,
    /// `eager`, or `random:SEED:MICROSECONDS` to delay operations and messages.
    pub order: Order,
    /// Whether several ranks may use one device, as `NCCL_MULTI_RANK_GPU_ENABLE=1` allows.
    pub share_devices: bool,
    /// Whether calls on communicators that do not block are put off, and answer
    /// `ncclInProgress`, as they may.
    pub deferred: bool,
    /// What goes wrong.
    pub fault: Option<Fault>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            version: 23007,
            send: SendMode::Buffered,
            order: Order::Eager,
            share_devices: false,
            deferred: false,
            fault: None,
        }
    }
}

impl Settings {
    const NAMES: [&str; 6] = ["version", "send", "order", "share_devices", "deferred", "fault"];

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "version" => self.version = read(name, value)?,
            "send" => self.send = read(name, value)?,
            "order" => match read(name, value)? {
                Order::Late { .. } => {
                    return Err("order = late: the driver's streams have it".into());
                }
                order => self.order = order,
            },
            "share_devices" => self.share_devices = read(name, value)?,
            "deferred" => self.deferred = read(name, value)?,
            "fault" => self.fault = read_optional(name, value)?,
            _ => return Err(format!("no setting is called {name:?}")),
        }
        Ok(())
    }

    /// Defaults and what the environment says.
    fn from_environment() -> Settings {
        let share_devices = env::var("NCCL_MULTI_RANK_GPU_ENABLE").is_ok_and(|v| v == "1");
        let mut settings = Settings { share_devices, ..Settings::default() };
        for name in Settings::NAMES {
            if let Ok(value) = env::var(variable(PREFIX, name))
                && let Err(wrong) = settings.set(name, &value)
            {
                eprintln!("mock NCCL: {wrong}");
            }
        }
        settings
    }
}

static SETTINGS: LazyLock<RwLock<Settings>> =
    LazyLock::new(|| RwLock::new(Settings::from_environment()));

/// Reads something off the settings.
pub fn with<T>(look: impl FnOnce(&Settings) -> T) -> T {
    look(&SETTINGS.read().unwrap_or_else(|e| e.into_inner()))
}

/// Changes one setting.
///
/// # Errors
/// An unknown name or a value that it cannot have.
pub fn set(name: &str, value: &str) -> Result<(), String> {
    SETTINGS.write().unwrap_or_else(|e| e.into_inner()).set(name, value)
}

/// Goes back to what the environment says.
pub fn reset() {
    *SETTINGS.write().unwrap_or_else(|e| e.into_inner()) = Settings::from_environment();
}

/// What the planted fault does to an operation of a rank, and counts it.
pub fn strike(rank: usize) -> Option<crate::fault::Kind> {
    let mut settings = SETTINGS.write().unwrap_or_else(|e| e.into_inner());
    settings.fault.as_mut()?.strike(rank)
}
