//! Random numbers by their index (Philox4x32-10): the bits are those of the CPU.

use super::compile::{Source, Variant, source};
use super::error::Result;
use super::grid::line;
use super::{DevicePtr, Stream};

static SOURCE: Source = source!("sm90_f32_random.cu");

fn variant(entry: &'static str) -> Variant {
    Variant::new(&SOURCE, entry)
}

/// The stream of random numbers `stream` of `seed`, from number `first` on.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// The seed.
    pub seed: u64,
    /// The stream of the seed.
    pub stream: u64,
    /// The first number.
    pub first: u64,
}

/// Fills `len` elements (f32) with normal numbers of mean 0 and standard deviation `std`. Functions differ from the
/// CPU's in the last bits of f64, which a few numbers in a billion show in f32.
///
/// # Errors
/// The kernel cannot be compiled or launched.
///
/// # Safety
/// The address is that of `len` elements, in memory that the stream may use.
pub unsafe fn normal(
    stream: &Stream,
    numbers: Numbers,
    std: f32,
    len: usize,
    out: DevicePtr,
) -> Result<()> {
    let Numbers { seed, stream: of_seed, first } = numbers;
    let kernel = stream.context().kernel(&variant("normal"))?;
    let grid = line(len as u64 / 2 + 1, 256);
    let args: &super::launch::Args<'_> =
        &[&seed, &of_seed, &first, &(len as u64), &f64::from(std), &out];
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, grid, args) }
}

/// Fills `len` elements (f32) with numbers spread evenly over `low..high`, bit for bit those of the CPU.
///
/// # Errors
/// As [`normal`].
///
/// # Safety
/// As [`normal`].
pub unsafe fn uniform(
    stream: &Stream,
    numbers: Numbers,
    (low, high): (f32, f32),
    len: usize,
    out: DevicePtr,
) -> Result<()> {
    let Numbers { seed, stream: of_seed, first } = numbers;
    let kernel = stream.context().kernel(&variant("uniform"))?;
    let args: &super::launch::Args<'_> =
        &[&seed, &of_seed, &first, &(len as u64), &low, &high, &out];
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, line(len as u64, 256), args) }
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    ["normal", "uniform"].into_iter().map(variant).collect()
}
