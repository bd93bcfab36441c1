//! The fused halves of a SwiGLU MLP on tensor cores, bf16: gate and up projections with their product
//! forward, the gradients of gate and up backward. What each saves is a pass over memory: no
//! projection is read again, no gradient of the hidden layer is stored.
//!
//! Both sum in f32 and round once, where products and activation one by one round in between.

use super::compile::{Source, Variant, source};
use super::error::{CudaError, Result};
use super::gemm::{Matrices, PIECE, THREADS, TILE_K, destination};
use super::launch::{Grid, Parameter};
use super::operand::{Matrix, Operand};
use super::{DevicePtr, Float, Stream, TensorMap};

static FORWARD: Source = source!("sm90_bf16_mlp_swiglu_fwd.cu");
static BACKWARD: Source = source!("sm90_bf16_mlp_swiglu_bwd.cu");

/// Rows and columns of a tile of the hidden layer.
const TILE: usize = 128;
const STAGES: usize = 4;

/// `struct Args` of `mlp_swiglu_fwd`.
#[repr(C)]
struct ForwardArgs {
    x: TensorMap,
    gate_weight: TensorMap,
    up_weight: TensorMap,
    out: TensorMap,
    gate: TensorMap,
    up: TensorMap,
    m: i32,
    n: i32,
    k: i32,
}

// SAFETY: `struct Args` of the kernel.
unsafe impl Parameter for ForwardArgs {}

/// `struct Args` of `mlp_swiglu_bwd`.
#[repr(C)]
struct BackwardArgs {
    dy: TensorMap,
    weight: TensorMap,
    gate: TensorMap,
    up: TensorMap,
    dgate: TensorMap,
    dup: TensorMap,
    hidden: TensorMap,
    m: i32,
    n: i32,
    k: i32,
}

// SAFETY: `struct Args` of the kernel.
unsafe impl Parameter for BackwardArgs {}

fn forward_variant(b_major: usize, save: bool) -> Variant {
    let variant = Variant::new(&FORWARD, "mlp_swiglu_fwd").with("STAGES", STAGES);
    variant.with("B_MAJOR", b_major).with("SAVE", save).registers(168).wgmma().tma()
}

fn backward_variant(b_major: usize, hidden: bool) -> Variant {
    let variant = Variant::new(&BACKWARD, "mlp_swiglu_bwd").with("STAGES", STAGES);
    variant.with("B_MAJOR", b_major).with("HIDDEN", hidden).registers(168).wgmma().tma()
}

/// The operands of a product of [m, k] and [k, n], as far as the kernels can read them and store dense rows of n.
fn operands(
    kernel: &'static str,
    a: Matrices<'_>,
    b: Matrices<'_>,
    (m, n, k): (usize, usize, usize),
) -> Result<(Operand, Operand)> {
    let fail = |what: String| CudaError::Launch { kernel, what };
    let a_matrix =
        Matrix { at: a.at, mn: m, k, mn_stride: a.row_stride, k_stride: a.column_stride };
    let b_matrix =
        Matrix { at: b.at, mn: n, k, mn_stride: b.column_stride, k_stride: b.row_stride };
    let a = a_matrix.operand().filter(|a| a.major == 0);
    let a = a.ok_or_else(|| fail(format!("rows of {k} elements {} apart; they must be dense, begin at multiples of 16 bytes and lie multiples of 8 elements apart", a_matrix.mn_stride)))?;
    let b = b_matrix.operand();
    let b = b.ok_or_else(|| fail(format!("a weight with strides {} and {}; one must be 1, the other a multiple of 8, and it must begin at a multiple of 16 bytes", b_matrix.k_stride, b_matrix.mn_stride)))?;
    if !n.is_multiple_of(8) {
        return Err(fail(format!("a hidden layer of {n}; it must be a multiple of 8")));
    }
    Ok((a, b))
}

/// Whether the fused kernels compute it: `a` [m, k] and the weight [k, n] are such as tensor cores read in place,
/// `a` along its rows, and n is a multiple of 8.
pub fn fits(a: Matrices<'_>, weight: Matrices<'_>, sizes: (usize, usize, usize)) -> bool {
    operands("mlp_swiglu", a, weight, sizes).is_ok()
}

fn grid(stream: &Stream, m: usize, n: usize, shared: usize) -> Grid {
    let tiles = m.div_ceil(TILE) * n.div_ceil(TILE);
    let blocks = tiles.min(stream.context().facts().multiprocessors as usize);
    Grid::line(blocks as u32, THREADS).shared((shared + 1024) as u32)
}

/// `out` = silu(X Wg) * (X Wu), dense [m, n]: `x` is [m, k], both weights [k, n] with equal strides. With `saved`,
/// the projections X Wg and X Wu, dense [m, n], are stored too.
///
/// # Errors
/// Operands that do not [fit](fits), or the kernel cannot be compiled or launched.
///
/// # Safety
/// All elements lie in memory that the stream may use, and outputs overlap nothing.
pub unsafe fn forward(
    stream: &Stream,
    x: Matrices<'_>,
    gate_weight: Matrices<'_>,
    up_weight: Matrices<'_>,
    (m, n, k): (usize, usize, usize),
    out: DevicePtr,
    saved: Option<(DevicePtr, DevicePtr)>,
) -> Result<()> {
    if m == 0 || n == 0 {
        return Ok(());
    }
    const NAME: &str = "mlp_swiglu_fwd";
    let (a, gate_weight) = operands(NAME, x, gate_weight, (m, n, k))?;
    let (_, up_weight) = operands(NAME, x, up_weight, (m, n, k))?;
    if up_weight.major != gate_weight.major {
        let what = "weights that lie differently; transpose one".to_owned();
        return Err(CudaError::Launch { kernel: NAME, what });
    }
    stream.context().bind()?;
    let dense = |at| destination(Float::Bf16, at, m, n, 1);
    let (gate, up) = match saved {
        Some((gate, up)) => (dense(gate)?, dense(up)?),
        None => (TensorMap::NONE, TensorMap::NONE),
    };
    let args = ForwardArgs {
        x: a.map(TILE, 1, 0)?,
        gate_weight: gate_weight.map(TILE, 1, 0)?,
        up_weight: up_weight.map(TILE, 1, 0)?,
        out: dense(out)?,
        gate,
        up,
        m: m as i32,
        n: n as i32,
        k: k as i32,
    };
    let shared = STAGES * 3 * TILE * TILE_K * 2 + 4 * PIECE;
    let variant = forward_variant(gate_weight.major, saved.is_some());
    let kernel = stream.context().kernel(&variant)?;
    // SAFETY: as the caller promises; the maps describe the matrices.
    unsafe { kernel.launch(stream, grid(stream, m, n, shared), &[&args]) }
}

/// The gradients of gate and up, `dgate` and `dup`, from dH = dY Wd: `dy` is [m, k], the weight [k, n], everything
/// else dense [m, n]. With `hidden`, silu(gate) * up is made again and stored there, for the weight's gradient.
///
/// # Errors
/// As [`forward`].
///
/// # Safety
/// As [`forward`].
pub unsafe fn backward(
    stream: &Stream,
    dy: Matrices<'_>,
    weight: Matrices<'_>,
    (m, n, k): (usize, usize, usize),
    (gate, up): (DevicePtr, DevicePtr),
    (dgate, dup): (DevicePtr, DevicePtr),
    hidden: Option<DevicePtr>,
) -> Result<()> {
    if m == 0 || n == 0 {
        return Ok(());
    }
    let (a, b) = operands("mlp_swiglu_bwd", dy, weight, (m, n, k))?;
    stream.context().bind()?;
    let dense = |at| destination(Float::Bf16, at, m, n, 1);
    let args = BackwardArgs {
        dy: a.map(TILE, 1, 0)?,
        weight: b.map(TILE, 1, 0)?,
        gate: dense(gate)?,
        up: dense(up)?,
        dgate: dense(dgate)?,
        dup: dense(dup)?,
        hidden: hidden.map_or(Ok(TensorMap::NONE), dense)?,
        m: m as i32,
        n: n as i32,
        k: k as i32,
    };
    let kept = if hidden.is_some() { 3 } else { 2 };
    let shared = STAGES * 2 * TILE * TILE_K * 2 + kept * 4 * PIECE;
    let kernel = stream.context().kernel(&backward_variant(b.major, hidden.is_some()))?;
    // SAFETY: as the caller promises; the maps describe the matrices.
    unsafe { kernel.launch(stream, grid(stream, m, n, shared), &[&args]) }
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    let of = |b_major| {
        let each = move |extra| [forward_variant(b_major, extra), backward_variant(b_major, extra)];
        [false, true].into_iter().flat_map(each)
    };
    [0, 1].into_iter().flat_map(of).collect()
}
