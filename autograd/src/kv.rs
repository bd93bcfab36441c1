//! Keys and values across sequence slices, and the attention that reads them.
//!
//! Slice i attends to the K/V of slices 0..=i. They stay where slice i wrote them: a [`KvCache`] is
//! a list of chunks, never a concatenation. Writing a chunk is itself differentiable. In backward,
//! attention of slice i *adds* into the dK/dV accumulators of chunks 0..=i, and the write of slice i
//! then takes its own accumulator, which is complete because slices run backward in reverse order:
//! every later slice has added its part. An accumulator is f32 and lives from the backward of the
//! last slice to that of its own.
//!
//! Attending to what was written does not change the cache, so a layer that is
//! [recomputed](crate::recompute) writes outside and attends inside.

use std::sync::Arc;

use parking_lot::Mutex;
use slimpipe_allocator::{Region, scope};
use slimpipe_ops::attention::{self as ops, Chunk, ChunkGrad, GradRows};
use slimpipe_ops::{cast::cast, copy};
use slimpipe_runtime::{DType, RawTensor};

use crate::engine::Backward;
use crate::node::Function;
use crate::port::{AttentionCall, AttentionPort, AttentionResult};
use crate::{Error, Result, Tensor, is_recording, recompute};

/// The keys and values of one (microbatch, layer), slice by slice.
#[derive(Default)]
pub struct KvCache {
    chunks: Vec<Arc<KvChunk>>,
    /// How many slices still have to run backward; shared with their tapes.
    open: Arc<Mutex<usize>>,
    /// Who computes attention, if it is not done here.
    port: Option<Arc<dyn AttentionPort>>,
}

struct KvChunk {
    k: RawTensor,
    v: RawTensor,
    start: usize,
    grads: Mutex<Option<ChunkGrad>>,
}

impl KvCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty cache over which `port` computes all attention.
    pub fn with_port(port: Arc<dyn AttentionPort>) -> Self {
        Self { port: Some(port), ..Self::default() }
    }

    /// Keys and values of slice `slice`, if it was written and not forgotten.
    pub fn slice(&self, slice: usize) -> Option<(&RawTensor, &RawTensor)> {
        self.chunks.get(slice).map(|chunk| (&chunk.k, &chunk.v))
    }

    /// Forgets slices `slices` and later ones: from now on only their tapes keep them alive.
    pub fn truncate(&mut self, slices: usize) {
        self.chunks.truncate(slices);
    }

    /// Number of slices written.
    pub fn slices(&self) -> usize {
        self.chunks.len()
    }

    /// Number of tokens written: the position of the next slice's first token.
    pub fn tokens(&self) -> usize {
        self.chunks.last().map_or(0, |chunk| chunk.start + chunk.k.dims()[0])
    }

    /// Appends a slice's keys `k` and values `v` [rows, kv_heads, head_dim]. The result is what the
    /// slice's queries [attend to](Tensor::attend_to).
    ///
    /// # Errors
    /// Out of memory, or the region that writes is one of [`recompute`](fn@crate::recompute), which would
    /// write again in backward.
    #[track_caller]
    pub fn write(&mut self, k: &Tensor, v: &Tensor) -> Result<KvPrefix> {
        let prefix = self.prefix(k, v)?;
        self.push(&prefix);
        Ok(prefix)
    }

    /// What [`KvCache::write`] gives, before it is appended.
    #[track_caller]
    fn prefix(&self, k: &Tensor, v: &Tensor) -> Result<KvPrefix> {
        recompute::check_write()?;
        let own = Arc::new(KvChunk {
            k: in_kv_region(k.raw())?,
            v: in_kv_region(v.raw())?,
            start: self.tokens(),
            grads: Mutex::new(None),
        });
        // The write's value is never read as a tensor: its node only orders backward.
        let (chunk, dtype) = (own.clone(), k.dtype());
        let write = Tensor::from_op("write_kv", own.k.clone(), &[k, v], || Write { chunk, dtype });
        Ok(KvPrefix {
            chunks: self.chunks.iter().cloned().chain([own]).collect(),
            write,
            open: self.open.clone(),
            turn: *self.open.lock(),
            port: self.port.clone(),
        })
    }

    fn push(&mut self, prefix: &KvPrefix) {
        self.chunks.extend(prefix.chunks.last().cloned());
        if is_recording() {
            *self.open.lock() += 1;
        }
    }

    /// Runs `make` so that its results lie in the unit's K/V region, where they stay for the later
    /// slices. Tensors made elsewhere are copied there when they are written.
    ///
    /// # Errors
    /// What `make` meets.
    pub fn place<T>(make: impl FnOnce() -> Result<T>) -> Result<T> {
        let _kv = scope::place(Region::Kv);
        make()
    }
}

/// Sends a chunk's accumulated gradients on to the operations that made its K and V.
struct Write {
    chunk: Arc<KvChunk>,
    dtype: DType,
}

impl Function for Write {
    /// No tensor depends on a write, so no gradient flows in; it waits in the accumulator.
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, _: RawTensor) -> Result<()> {
        self.unlocked(cx)
    }

    fn unlocked(self: Box<Self>, cx: &mut Backward<'_>) -> Result<()> {
        let Some(ChunkGrad { dk, dv }) = self.chunk.grads.lock().take() else { return Ok(()) };
        let dv_low = cast(&dv, self.dtype)?;
        drop(dv);
        cx.add(1, dv_low)?;
        let dk_low = cast(&dk, self.dtype)?;
        drop(dk);
        cx.add(0, dk_low)
    }
}

/// The keys and values that a slice attends to: its own and those of all earlier slices. Cloning
/// copies the handle.
#[derive(Clone)]
pub struct KvPrefix {
    /// Oldest first.
    chunks: Vec<Arc<KvChunk>>,
    /// The slice's own write.
    write: Tensor,
    open: Arc<Mutex<usize>>,
    /// How many earlier slices are to run backward after this one.
    turn: usize,
    port: Option<Arc<dyn AttentionPort>>,
}

impl KvPrefix {
    /// Position of the slice's first token.
    pub fn offset(&self) -> usize {
        self.chunks.last().map_or(0, |own| own.start)
    }

    /// Lets the slice run backward: all later ones have, and no earlier one.
    fn take_turn(&self) -> Result<()> {
        let mut open = self.open.lock();
        // It may have been taken by another attention of the same slice.
        if *open != self.turn && *open != self.turn + 1 {
            return Err(Error::OutOfOrder { slice: self.turn, expected: open.saturating_sub(1) });
        }
        *open = self.turn;
        Ok(())
    }

    fn views(&self) -> Vec<Chunk<'_>> {
        self.chunks.iter().map(|chunk| chunk.view()).collect()
    }
}

struct Attend {
    q: RawTensor,
    out: RawTensor,
    lse: RawTensor,
    kv: KvPrefix,
    scale: f32,
}

impl Function for Attend {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        self.kv.take_turn()?;
        let (views, chunks) = (self.kv.views(), &self.kv.chunks);
        let mut locked: Vec<_> = chunks.iter().map(|chunk| chunk.grads.lock()).collect();
        let mut grads = Vec::with_capacity(locked.len());
        for (grad, chunk) in locked.iter_mut().zip(chunks) {
            if grad.is_none() {
                **grad = Some(chunk.new_grads()?);
            }
            grads.extend(grad.as_mut().map(GradRows::all));
        }
        let (Self { q, out, lse, scale, .. }, offset) = (&*self, self.kv.offset());
        let dq = match &self.kv.port {
            None => ops::attend_backward(q, &views, out, lse, &grad, *scale, offset, &mut grads)?,
            Some(port) => port.backward(
                &AttentionCall { q, chunks: &views, scale: *scale, offset },
                &AttentionResult { out, lse, grad: &grad },
                &mut grads,
            )?,
        };
        drop((locked, grad));
        drop(self);
        cx.unlock(1);
        cx.add(0, dq)
    }
}

impl KvChunk {
    fn view(&self) -> Chunk<'_> {
        Chunk { k: &self.k, v: &self.v, start: self.start }
    }

    fn new_grads(&self) -> Result<ChunkGrad> {
        let _accumulator = scope::place(Region::KvGrad);
        let zeros = |name| -> Result<RawTensor> {
            let mut zeros = RawTensor::empty(*self.k.shape(), DType::F32, self.k.device(), name)?;
            zeros.fill_zero()?;
            Ok(zeros)
        };
        Ok(ChunkGrad { dk: zeros("key_gradient")?, dv: zeros("value_gradient")? })
    }
}

impl Tensor {
    /// Causal attention of a slice's queries `self` [rows, heads, head_dim] over the slices in
    /// `cache` and the slice's own keys `k` and values `v` [rows, kv_heads, head_dim], which are
    /// appended to the cache. Scores are scaled by `scale` (usually 1 / sqrt(head_dim)).
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit, out of memory.
    #[track_caller]
    pub fn attend(&self, k: &Self, v: &Self, cache: &mut KvCache, scale: f32) -> Result<Self> {
        let prefix = cache.prefix(k, v)?;
        let result = self.attend_to(&prefix, scale)?;
        // Last, so that an attention that failed has not written.
        cache.push(&prefix);
        Ok(result)
    }

    /// As [`Tensor::attend`], over keys and values that were [written](KvCache::write) before.
    ///
    /// # Errors
    /// As [`Tensor::attend`].
    #[track_caller]
    pub fn attend_to(&self, kv: &KvPrefix, scale: f32) -> Result<Self> {
        let (q, views, offset) = (self.raw(), kv.views(), kv.offset());
        // The others took part when it ran first; they do not wait for it to be made again.
        let (out, lse) = match kv.port.as_ref().filter(|_| !recompute::is_again()) {
            None => ops::attend(q, &views, scale, offset)?,
            Some(port) => port.forward(&AttentionCall { q, chunks: &views, scale, offset })?,
        };
        drop(views);
        Ok(Self::from_op("attention", out.clone(), &[self, &kv.write], || Attend {
            q: q.clone(),
            out,
            lse,
            kv: kv.clone(),
            scale,
        }))
    }
}

fn in_kv_region(x: &RawTensor) -> Result<RawTensor> {
    let stays = matches!(x.storage().allocation().region(), Region::Kv | Region::Overflow);
    if stays && x.layout().is_contiguous() {
        return Ok(x.clone());
    }
    KvCache::place(|| Ok(copy::copy(x)?))
}
