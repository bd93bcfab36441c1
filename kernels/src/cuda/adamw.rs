//! One AdamW step on many parameters.

use super::compile::{Source, Variant, source};
use super::error::Result;
use super::launch::{Grid, Parameter as Argument};
use super::tensors::Tensors;
use super::{DevicePtr, Stream};
pub use crate::cpu::adamw::AdamW;

static SOURCE: Source = source!("sm90_f32_adamw.cu");

/// Parameters that one launch updates.
const MOST: usize = 64;

/// A parameter and its state: all have `len` elements.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// The weight (f32).
    pub weight: DevicePtr,
    /// Gets the rounded weight (bf16), if it is not null.
    pub model_weight: DevicePtr,
    /// The gradient (f32).
    pub grad: DevicePtr,
    /// The first moment (f32).
    pub m: DevicePtr,
    /// The second moment (f32).
    pub v: DevicePtr,
    /// Elements.
    pub len: usize,
    /// Decoupled weight decay.
    pub weight_decay: f32,
}

/// `struct Parameter` of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Item {
    weight: DevicePtr,
    m: DevicePtr,
    v: DevicePtr,
    grad: DevicePtr,
    low: DevicePtr,
    decay: f32,
    unused: u32,
}

// SAFETY: `struct Parameter` of the kernel.
unsafe impl Argument for Item {}

/// `struct Settings` of the kernel.
#[repr(C)]
struct Settings {
    beta1: f32,
    beta2: f32,
    eps: f32,
    rate: f32,
    root: f32,
    grad_scale: f32,
}

// SAFETY: `struct Settings` of the kernel.
unsafe impl Argument for Settings {}

/// Updates parameters and their moments from their gradients times `grad_scale`, and times `clip` (f32) unless that
/// is null. The weight decay of `settings` does not count: each parameter has its own.
///
/// # Errors
/// The kernel cannot be compiled or launched.
///
/// # Safety
/// All addresses are those of that many elements, in memory that the stream may use.
pub unsafe fn step(
    stream: &Stream,
    settings: AdamW,
    parameters: &[Parameter],
    grad_scale: f32,
    clip: DevicePtr,
) -> Result<()> {
    let (rate, root) = settings.corrected();
    let AdamW { lr, beta1, beta2, eps, .. } = settings;
    let settings = Settings { beta1, beta2, eps, rate, root, grad_scale };
    let kernel = stream.context().kernel(&variant())?;
    for group in parameters.chunks(MOST) {
        let item = |p: &Parameter| {
            let Parameter { weight, model_weight: low, grad, m, v, len, weight_decay } = *p;
            (Item { weight, m, v, grad, low, decay: 1.0 - lr * weight_decay, unused: 0 }, len)
        };
        let list = Tensors::<Item, MOST>::new(group.iter().map(item));
        let grid = Grid::line(list.blocks(), 256);
        // SAFETY: as the caller promises.
        unsafe { kernel.launch(stream, grid, &[&list, &settings, &clip])? };
    }
    Ok(())
}

fn variant() -> Variant {
    Variant::new(&SOURCE, "adamw")
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    vec![variant()]
}
