//! Attention over a list of chunks on plain cores: in f32, and for heads of any even size.

use super::compile::{Source, Variant, source};
use super::error::{CudaError, Result};
use super::launch::{Grid, Parameter};
use super::{DevicePtr, Float, Stream};
use crate::cpu::attention::Shape;

static FORWARD: Source = source!("sm90_float_attention_fwd.cu");
static BACKWARD: Source = source!("sm90_float_attention_bwd.cu");

/// Rows of heads: row i begins `i * stride` elements after the first, head h in it `h * head_dim`.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// The first row.
    pub at: DevicePtr,
    /// Elements between rows.
    pub stride: usize,
}

/// Keys and values of some consecutive positions.
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    /// Keys, [len, kv_heads, head_dim].
    pub k: Rows,
    /// Values, [len, kv_heads, head_dim].
    pub v: Rows,
    /// Rows.
    pub len: usize,
    /// Position of the first row.
    pub start: usize,
}

/// Accumulators of a chunk's gradients, f32, dense [len, kv_heads, head_dim]; added to.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChunkGrad {
    /// Gradient of the keys.
    pub dk: DevicePtr,
    /// Gradient of the values.
    pub dv: DevicePtr,
}

/// Chunks that one launch attends to.
const MOST: usize = 256;

/// `struct Chunk` of the kernels.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Item {
    k: DevicePtr,
    v: DevicePtr,
    k_stride: u64,
    v_stride: u64,
    len: u32,
    start: u32,
    dk: DevicePtr,
    dv: DevicePtr,
}

/// `struct Chunks` of the kernels.
#[repr(C)]
struct List {
    items: [Item; MOST],
    count: u32,
}

// SAFETY: `struct Chunks` of the kernels.
unsafe impl Parameter for List {}

impl List {
    fn new(chunks: impl Iterator<Item = (Chunk, Option<ChunkGrad>)>) -> Self {
        let mut list = Self { items: [Item::default(); MOST], count: 0 };
        for (item, (chunk, grad)) in list.items.iter_mut().zip(chunks) {
            let Chunk { k, v, len, start } = chunk;
            let ChunkGrad { dk, dv } = grad.unwrap_or_default();
            *item = Item {
                k: k.at,
                v: v.at,
                k_stride: k.stride as u64,
                v_stride: v.stride as u64,
                len: len as u32,
                start: start as u32,
                dk,
                dv,
            };
            list.count += 1;
        }
        list
    }
}

/// `struct Queries` of the kernels.
#[repr(C)]
struct Queries {
    rows: u32,
    heads: u32,
    kv_heads: u32,
    offset: u32,
    scale: f32,
}

// SAFETY: `struct Queries` of the kernels.
unsafe impl Parameter for Queries {}

impl Queries {
    fn new(shape: &Shape) -> Self {
        Self {
            rows: shape.q_len as u32,
            heads: shape.heads as u32,
            kv_heads: shape.kv_heads as u32,
            offset: shape.q_offset as u32,
            scale: shape.scale,
        }
    }
}

/// `struct Forward` of the backward kernels.
#[repr(C)]
struct Saved {
    q: DevicePtr,
    out: DevicePtr,
    dout: DevicePtr,
    lse: DevicePtr,
    q_stride: u64,
    out_stride: u64,
    dout_stride: u64,
}

// SAFETY: `struct Forward` of the kernels.
unsafe impl Parameter for Saved {}

/// Side of the tiles of rows and keys, so that four tiles of rows fit a block's shared memory.
fn tile(head_dim: usize) -> Result<usize> {
    match head_dim {
        _ if head_dim % 2 == 1 => Err(unfit(head_dim)),
        1..=128 => Ok(64),
        129..=384 => Ok(32),
        385..=768 => Ok(16),
        _ => Err(unfit(head_dim)),
    }
}

fn unfit(head_dim: usize) -> CudaError {
    let what = format!("heads of {head_dim} elements; sizes are even and at most 768");
    CudaError::Launch { kernel: "attention", what }
}

/// Bytes of shared memory that `tiles` tiles of rows of a head and `squares` tiles of scores take.
fn shared(head_dim: usize, tile: usize, tiles: usize, squares: usize) -> u32 {
    (size_of::<f32>() * tile * (tiles * (head_dim + 1) + squares * (tile + 1))) as u32
}

fn variant(
    source: &'static Source,
    entry: &'static str,
    dtype: Float,
    head_dim: usize,
) -> Result<Variant> {
    let variant = Variant::new(source, entry).with("FLOAT", dtype);
    Ok(variant.with("HEAD_DIM", head_dim).with("TILE", tile(head_dim)?))
}

/// Attention of `q` [q_len, heads, head_dim] over `chunks`: `out` [q_len, heads, head_dim] and the natural
/// log-sum-exp of the scaled scores, `lse` (f32, [heads, q_len]). With `merge`, `out` and `lse` hold an earlier
/// partial result over other keys, and end as the result over all of them. A query sees keys at positions up to
/// its own; one that sees none gets 0 and minus infinity.
///
/// # Errors
/// An odd or too large head, or the kernel cannot be compiled or launched.
///
/// # Safety
/// All addresses are those of that many elements, in memory that the stream may use.
#[expect(clippy::too_many_arguments, reason = "a kernel takes what it reads and writes")]
pub unsafe fn forward(
    stream: &Stream,
    dtype: Float,
    shape: &Shape,
    q: Rows,
    chunks: &[Chunk],
    out: Rows,
    lse: DevicePtr,
    merge: bool,
) -> Result<()> {
    let variant = variant(&FORWARD, "attention_fwd", dtype, shape.head_dim)?;
    let tile = tile(shape.head_dim)?;
    let grid = Grid {
        blocks: [shape.q_len.div_ceil(tile) as u32, shape.heads as u32, 1],
        threads: [256, 1, 1],
        shared: shared(shape.head_dim, tile, 3, 1),
    };
    let kernel = stream.context().kernel(&variant)?;
    let queries = Queries::new(shape);
    let (q_stride, out_stride) = (q.stride as u64, out.stride as u64);
    for (i, group) in groups(chunks).enumerate() {
        let list = List::new(group.iter().map(|&chunk| (chunk, None)));
        let merge = merge || i > 0;
        let args: &super::launch::Args<'_> =
            &[&q.at, &q_stride, &queries, &list, &out.at, &out_stride, &lse, &merge];
        // SAFETY: as the caller promises.
        unsafe { kernel.launch(stream, grid, args)? };
    }
    Ok(())
}

/// The gradients of attention. `out`, `lse` are forward's final results, `dout` is the gradient of `out`. `dq` is
/// overwritten (or added to); accumulators are added to.
///
/// # Errors
/// As [`forward`].
///
/// # Safety
/// As [`forward`].
#[expect(clippy::too_many_arguments, reason = "a backward takes what forward took and gave")]
pub unsafe fn backward(
    stream: &Stream,
    dtype: Float,
    shape: &Shape,
    q: Rows,
    out: Rows,
    lse: DevicePtr,
    dout: Rows,
    chunks: &[Chunk],
    grads: &[ChunkGrad],
    dq: Rows,
    accumulate_dq: bool,
) -> Result<()> {
    let tile = tile(shape.head_dim)?;
    let kernel = |entry| -> Result<_> {
        stream.context().kernel(&variant(&BACKWARD, entry, dtype, shape.head_dim)?)
    };
    let (dq_kernel, dkv_kernel) = (kernel("attention_bwd_dq")?, kernel("attention_bwd_dkv")?);
    let grid = |tiles: usize, heads: usize, squares: usize| Grid {
        blocks: [tiles as u32, heads as u32, 1],
        threads: [256, 1, 1],
        shared: shared(shape.head_dim, tile, 4, squares),
    };
    let queries = Queries::new(shape);
    let saved = Saved {
        q: q.at,
        out: out.at,
        dout: dout.at,
        lse,
        q_stride: q.stride as u64,
        out_stride: out.stride as u64,
        dout_stride: dout.stride as u64,
    };
    let dq_stride = dq.stride as u64;
    for (i, group) in groups(chunks).enumerate() {
        let grads = &grads[(i * MOST).min(grads.len())..];
        let list = List::new(group.iter().zip(grads).map(|(&chunk, &grad)| (chunk, Some(grad))));
        let accumulate = accumulate_dq || i > 0;
        let q_tiles = shape.q_len.div_ceil(tile);
        let k_tiles = group.iter().map(|chunk| chunk.len.div_ceil(tile)).sum();
        // SAFETY: as the caller promises.
        unsafe {
            dq_kernel.launch(
                stream,
                grid(q_tiles, shape.heads, 1),
                &[&saved, &queries, &list, &dq.at, &dq_stride, &accumulate],
            )?;
            dkv_kernel.launch(
                stream,
                grid(k_tiles, shape.kv_heads, 2),
                &[&saved, &queries, &list],
            )?;
        }
    }
    Ok(())
}

/// The chunks in launches' worth: one without any if there are none.
fn groups(chunks: &[Chunk]) -> impl Iterator<Item = &[Chunk]> {
    let none = chunks.is_empty().then_some(chunks);
    none.into_iter().chain(chunks.chunks(MOST))
}

/// Variants for the sizes of heads that models have.
pub(super) fn variants() -> Vec<Variant> {
    [64, 128].into_iter().flat_map(variants_of).collect()
}

/// The kernels beside tensor cores for heads of `head_dim` elements; none if there can be none.
pub fn variants_of(head_dim: usize) -> Vec<Variant> {
    let each = |dtype| {
        let backward = ["attention_bwd_dq", "attention_bwd_dkv"];
        let backward = backward.map(|entry| variant(&BACKWARD, entry, dtype, head_dim));
        let forward = variant(&FORWARD, "attention_fwd", dtype, head_dim);
        backward.into_iter().chain([forward]).flatten()
    };
    Float::ALL.into_iter().flat_map(each).collect()
}
