//! The primary context of each device.

use std::sync::{Arc, Mutex, MutexGuard};

use cudarc::driver::sys::CUresult;

use super::Context;
use crate::settings::MOST_DEVICES;

/// A device's primary context and how often it was retained.
#[derive(Default)]
struct Primary {
    retained: u32,
    context: Option<Arc<Context>>,
}

static PRIMARIES: [Mutex<Primary>; MOST_DEVICES] =
    [const { Mutex::new(Primary { retained: 0, context: None }) }; MOST_DEVICES];

fn primary(device: usize) -> MutexGuard<'static, Primary> {
    PRIMARIES[device].lock().unwrap_or_else(|e| e.into_inner())
}

/// Retains a device's primary context, creating it if nobody has.
pub fn retain(device: usize) -> Arc<Context> {
    let mut primary = primary(device);
    primary.retained += 1;
    primary.context.get_or_insert_with(|| Context::new(device)).clone()
}

/// Releases a device's primary context; the last release destroys it.
///
/// # Errors
/// A context that was not retained.
pub fn release(device: usize) -> Result<(), CUresult> {
    let mut primary = primary(device);
    if primary.retained == 0 {
        return Err(CUresult::CUDA_ERROR_INVALID_CONTEXT);
    }
    primary.retained -= 1;
    if primary.retained == 0
        && let Some(context) = primary.context.take()
    {
        context.destroy();
    }
    Ok(())
}

/// Destroys a device's primary context whoever retained it.
pub fn reset(device: usize) {
    let context = {
        let mut primary = primary(device);
        primary.retained = 0;
        primary.context.take()
    };
    if let Some(context) = context {
        context.destroy();
    }
}

/// A device's primary context, if somebody retains it.
pub fn active(device: usize) -> Option<Arc<Context>> {
    primary(device).context.clone()
}
