//! Attention forward.

use super::list::{LONG, List, ListArgs, SHORT};
use super::{
    ALIGNMENT, Chunk, ChunkGrad, KEYS, Rows, STORED_ROWS, THREADS, TILE_Q, check, fits, head,
    visible,
};
use crate::cpu::attention::Shape;
use crate::cuda::compile::{Source, Variant, source};
use crate::cuda::error::Result;
use crate::cuda::launch::{Grid, Parameter};
use crate::cuda::{DevicePtr, Float, Stream, TensorMap, plain_attention};

static SOURCE: Source = source!("sm90_bf16_attention_fwd.cu");

const STAGES: usize = 2;

/// `struct Args` of the kernel.
#[repr(C)]
struct Args<const BYTES: usize> {
    q: TensorMap,
    out: TensorMap,
    old: DevicePtr,
    old_row: i64,
    lse: DevicePtr,
    q_len: i32,
    q_offset: i32,
    group: i32,
    head_dim: i32,
    scale: f32,
    merge: i32,
    chunks: ListArgs<BYTES>,
}

// SAFETY: `struct Args` of the kernel.
unsafe impl<const BYTES: usize> Parameter for Args<BYTES> {}

fn variant(head: usize, list: usize) -> Variant {
    let variant = Variant::new(&SOURCE, "attention_fwd").with("HEAD", head).with("KEYS", KEYS);
    let variant = variant.with("STAGES", STAGES).with("CONSUMERS", TILE_Q / 64);
    variant.with("LIST_BYTES", list).registers(168).wgmma().tma()
}

fn shared(head: usize) -> u32 {
    (2 * head * (TILE_Q + 2 * STAGES * KEYS) + ALIGNMENT) as u32
}

/// Attention of `q` [q_len, heads, head_dim] over `chunks`: `out` [q_len, heads, head_dim] and the natural
/// log-sum-exp of the scaled scores, `lse` (f32, [heads, q_len]). With `merge`, `out` and `lse` hold an earlier
/// partial result over other keys, and end as the result over all of them. A query sees keys at positions up to
/// its own; one that sees none gets 0 and minus infinity.
///
/// # Errors
/// Heads that do not share key heads evenly, an odd head size or one too large for plain cores, or the kernel
/// cannot be compiled or launched.
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
    check("attention_fwd", shape, chunks)?;
    if shape.q_len == 0 || shape.heads == 0 {
        return Ok(());
    }
    if !fits(dtype, shape, &[q, out], chunks) {
        // SAFETY: as the caller promises.
        return unsafe {
            plain_attention::forward(stream, dtype, shape, q, chunks, out, lse, merge)
        };
    }
    stream.context().bind()?;
    let none = ChunkGrad::default();
    let list = List::new(shape, visible(shape, chunks).map(|(_, chunk)| (chunk, none)))?;
    let table = if list.fits(LONG) { DevicePtr::NULL } else { stream.scratch(list.bytes())? };
    // SAFETY: as the caller promises; the table has room for the list.
    unsafe {
        list.write(stream, table)?;
        if list.fits(SHORT) || !list.fits(LONG) {
            launch::<SHORT>(stream, shape, q, &list, out, lse, merge, table)
        } else {
            launch::<LONG>(stream, shape, q, &list, out, lse, merge, table)
        }
    }
}

/// # Safety
/// As [`forward`].
#[expect(clippy::too_many_arguments, reason = "a kernel takes what it reads and writes")]
unsafe fn launch<const BYTES: usize>(
    stream: &Stream,
    shape: &Shape,
    q: Rows,
    list: &List,
    out: Rows,
    lse: DevicePtr,
    merge: bool,
    table: DevicePtr,
) -> Result<()> {
    let Shape { q_len, heads, kv_heads, head_dim, q_offset, scale } = *shape;
    let head = head(head_dim);
    let args = Args::<BYTES> {
        q: q.map(shape, heads, q_len, TILE_Q)?,
        out: out.map(shape, heads, q_len, STORED_ROWS)?,
        old: out.at,
        old_row: out.stride as i64,
        lse,
        q_len: q_len as i32,
        q_offset: q_offset as i32,
        group: (heads / kv_heads) as i32,
        head_dim: head_dim as i32,
        scale: scale * std::f32::consts::LOG2_E,
        merge: i32::from(merge),
        chunks: list.args(table),
    };
    let blocks = [heads as u32, q_len.div_ceil(TILE_Q) as u32, 1];
    let grid = Grid { blocks, threads: [THREADS, 1, 1], shared: shared(head) };
    let kernel = stream.context().kernel(&variant(head, BYTES))?;
    // SAFETY: as the caller promises; the maps describe the rows.
    unsafe { kernel.launch(stream, grid, &[&args]) }
}

/// All variants.
pub(super) fn variants() -> impl Iterator<Item = Variant> {
    [64, 128].into_iter().flat_map(|head| [SHORT, LONG].map(|list| variant(head, list)))
}
