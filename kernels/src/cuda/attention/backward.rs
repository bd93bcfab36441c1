//! Attention backward: what is needed of each row first, then gradients of queries and of keys and
//! values, each kernel with its own products. One kernel for both would have to add up the queries'
//! gradient in an order that varies.

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

static PREPARE: Source = source!("sm90_bf16_attention_bwd_prepare.cu");
static QUERIES: Source = source!("sm90_bf16_attention_bwd_q.cu");
static KEYS_VALUES: Source = source!("sm90_bf16_attention_bwd_kv.cu");

/// Stages of the kernel that goes through keys, and of that which goes through queries.
const KEY_STAGES: usize = 2;
const QUERY_STAGES: usize = 3;
/// Queries of a block of the kernel that goes through queries.
const QUERY_BLOCK: usize = 64;
/// Rows of statistics are filled up to a multiple of this.
const ROWS: usize = 128;
/// The table begins at a multiple of this many bytes.
const TABLE: u64 = 128;

/// `struct Args` of `attention_bwd_prepare`.
#[repr(C)]
struct PrepareArgs {
    out: DevicePtr,
    dout: DevicePtr,
    out_row: i64,
    dout_row: i64,
    lse: DevicePtr,
    lse2: DevicePtr,
    delta: DevicePtr,
    heads: i32,
    q_len: i32,
    padded: i32,
    head_dim: i32,
}

// SAFETY: `struct Args` of the kernel.
unsafe impl Parameter for PrepareArgs {}

/// `struct Args` of `attention_bwd_q`.
#[repr(C)]
struct QueriesArgs<const BYTES: usize> {
    q: TensorMap,
    dout: TensorMap,
    dq: TensorMap,
    old: DevicePtr,
    old_row: i64,
    lse2: DevicePtr,
    delta: DevicePtr,
    q_len: i32,
    padded: i32,
    q_offset: i32,
    group: i32,
    head_dim: i32,
    scale: f32,
    scale_log2: f32,
    accumulate: i32,
    chunks: ListArgs<BYTES>,
}

// SAFETY: `struct Args` of the kernel.
unsafe impl<const BYTES: usize> Parameter for QueriesArgs<BYTES> {}

/// `struct Args` of `attention_bwd_kv`.
#[repr(C)]
struct KeysArgs<const BYTES: usize> {
    q: TensorMap,
    dout: TensorMap,
    lse2: DevicePtr,
    delta: DevicePtr,
    q_len: i32,
    padded: i32,
    q_offset: i32,
    group: i32,
    kv_heads: i32,
    head_dim: i32,
    scale: f32,
    scale_log2: f32,
    chunks: ListArgs<BYTES>,
}

// SAFETY: `struct Args` of the kernel.
unsafe impl<const BYTES: usize> Parameter for KeysArgs<BYTES> {}

fn prepare() -> Variant {
    Variant::new(&PREPARE, "attention_bwd_prepare")
}

fn queries(head: usize, list: usize) -> Variant {
    let variant = Variant::new(&QUERIES, "attention_bwd_q").with("HEAD", head).with("KEYS", KEYS);
    let variant = variant.with("STAGES", KEY_STAGES).with("CONSUMERS", TILE_Q / 64);
    variant.with("LIST_BYTES", list).registers(168).wgmma().tma()
}

fn keys(head: usize, list: usize) -> Variant {
    let variant = Variant::new(&KEYS_VALUES, "attention_bwd_kv").with("HEAD", head);
    let variant = variant.with("KEYS", KEYS).with("QUERIES", QUERY_BLOCK);
    let variant = variant.with("STAGES", QUERY_STAGES).with("LIST_BYTES", list);
    variant.registers(168).wgmma().tma()
}

/// What the kernels leave for each other: the rows' statistics, and the table behind them.
struct Scratch {
    lse2: DevicePtr,
    delta: DevicePtr,
    table: DevicePtr,
    padded: usize,
}

impl Scratch {
    fn new(stream: &Stream, shape: &Shape, list: &List) -> Result<Self> {
        let padded = shape.q_len.next_multiple_of(ROWS);
        let bytes = (shape.heads * padded * size_of::<f32>()) as u64;
        let start = (2 * bytes).next_multiple_of(TABLE);
        let table = if list.fits(LONG) { 0 } else { list.bytes() };
        let at = stream.scratch(start + table)?;
        Ok(Self { lse2: at, delta: at.offset(bytes), table: at.offset(start), padded })
    }
}

/// The gradients of attention. `out` and `lse` are forward's final results, `dout` is the gradient of `out`. `dq`
/// is overwritten (or added to); `grads`, one for each chunk, are added to.
///
/// # Errors
/// As [`forward`](super::forward).
///
/// # Safety
/// All addresses are those of that many elements, in memory that the stream may use.
#[expect(clippy::too_many_arguments, reason = "a kernel takes what it reads and writes")]
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
    check("attention_bwd", shape, chunks)?;
    assert_eq!(chunks.len(), grads.len(), "one pair of accumulators per chunk");
    if shape.q_len == 0 || shape.heads == 0 {
        return Ok(());
    }
    if !fits(dtype, shape, &[q, out, dout, dq], chunks) {
        // SAFETY: as the caller promises.
        return unsafe {
            plain_attention::backward(
                stream,
                dtype,
                shape,
                q,
                out,
                lse,
                dout,
                chunks,
                grads,
                dq,
                accumulate_dq,
            )
        };
    }
    stream.context().bind()?;
    let list = List::new(shape, visible(shape, chunks).map(|(i, chunk)| (chunk, grads[i])))?;
    let seen = |chunk: &Chunk| chunk.len.min(shape.q_offset + shape.q_len - chunk.start);
    let blocks = visible(shape, chunks).map(|(_, chunk)| seen(chunk).div_ceil(KEYS)).sum();
    let scratch = Scratch::new(stream, shape, &list)?;
    let job = Job { stream, shape, q, dout, dq, accumulate_dq, list, blocks, scratch };
    // SAFETY: as the caller promises; the scratch memory has room for the list.
    unsafe {
        job.prepare(out, lse)?;
        job.list.write(stream, job.scratch.table)?;
        if job.list.fits(SHORT) || !job.list.fits(LONG) {
            job.launch::<SHORT>()
        } else {
            job.launch::<LONG>()
        }
    }
}

struct Job<'a> {
    stream: &'a Stream,
    shape: &'a Shape,
    q: Rows,
    dout: Rows,
    dq: Rows,
    accumulate_dq: bool,
    list: List,
    /// Blocks of keys that are seen.
    blocks: usize,
    scratch: Scratch,
}

impl Job<'_> {
    /// # Safety
    /// As [`backward`].
    unsafe fn prepare(&self, out: Rows, lse: DevicePtr) -> Result<()> {
        let Self { stream, shape, scratch, dout, .. } = self;
        let args = PrepareArgs {
            out: out.at,
            dout: dout.at,
            out_row: out.stride as i64,
            dout_row: dout.stride as i64,
            lse,
            lse2: scratch.lse2,
            delta: scratch.delta,
            heads: shape.heads as i32,
            q_len: shape.q_len as i32,
            padded: scratch.padded as i32,
            head_dim: shape.head_dim as i32,
        };
        // A warp for each row of each head.
        let blocks = (shape.heads * scratch.padded).div_ceil(8);
        let kernel = stream.context().kernel(&prepare())?;
        // SAFETY: as the caller promises.
        unsafe { kernel.launch(stream, Grid::line(blocks as u32, 256), &[&args]) }
    }

    /// # Safety
    /// As [`backward`].
    unsafe fn launch<const BYTES: usize>(&self) -> Result<()> {
        let Self { stream, shape, q, dout, dq, accumulate_dq, ref list, blocks, ref scratch } =
            *self;
        let Shape { q_len, heads, kv_heads, head_dim, q_offset, scale } = *shape;
        let head = head(head_dim);
        let rows = |rows: Rows, tile| rows.map(shape, heads, q_len, tile);
        let [q_len, q_offset, group, padded] =
            [q_len, q_offset, heads / kv_heads, scratch.padded].map(|x| x as i32);
        let scale_log2 = scale * std::f32::consts::LOG2_E;
        let threads = [THREADS, 1, 1];

        let args = QueriesArgs::<BYTES> {
            q: rows(q, TILE_Q)?,
            dout: rows(dout, TILE_Q)?,
            dq: rows(dq, STORED_ROWS)?,
            old: dq.at,
            old_row: dq.stride as i64,
            lse2: scratch.lse2,
            delta: scratch.delta,
            q_len,
            padded,
            q_offset,
            group,
            head_dim: head_dim as i32,
            scale,
            scale_log2,
            accumulate: i32::from(accumulate_dq),
            chunks: list.args(scratch.table),
        };
        let shared = (4 * head * (TILE_Q + KEY_STAGES * KEYS) + ALIGNMENT) as u32;
        let tiles = shape.q_len.div_ceil(TILE_Q);
        let grid = Grid { blocks: [heads as u32, tiles as u32, 1], threads, shared };
        let kernel = stream.context().kernel(&queries(head, BYTES))?;
        // SAFETY: as the caller promises; the maps describe the rows.
        unsafe { kernel.launch(stream, grid, &[&args])? };

        let args = KeysArgs::<BYTES> {
            q: rows(q, QUERY_BLOCK)?,
            dout: rows(dout, QUERY_BLOCK)?,
            lse2: scratch.lse2,
            delta: scratch.delta,
            q_len,
            padded,
            q_offset,
            group,
            kv_heads: kv_heads as i32,
            head_dim: head_dim as i32,
            scale,
            scale_log2,
            chunks: list.args(scratch.table),
        };
        // A stage holds statistics of its queries too, in 1024 bytes.
        let stage = 4 * head * QUERY_BLOCK + 1024;
        let shared = (4 * head * KEYS + QUERY_STAGES * stage + ALIGNMENT) as u32;
        let grid = Grid { blocks: [kv_heads as u32, blocks as u32, 1], threads, shared };
        let kernel = stream.context().kernel(&keys(head, BYTES))?;
        // SAFETY: as the caller promises; the maps describe the rows.
        unsafe { kernel.launch(stream, grid, &[&args]) }
    }
}

/// All variants.
pub(super) fn variants() -> impl Iterator<Item = Variant> {
    let of = |head| {
        [SHORT, LONG].into_iter().flat_map(move |list| [queries(head, list), keys(head, list)])
    };
    [prepare()].into_iter().chain([64, 128].into_iter().flat_map(of))
}
