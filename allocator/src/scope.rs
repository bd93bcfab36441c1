//! Which memory the current thread allocates from: a stack of scopes pushed by guards.
//!
//! Guards cannot leave their thread and restore what was before. Jobs inside a thread pool never
//! allocate, so the stack of the thread that runs a rank is the only one that matters.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::allocation::UnitState;
use crate::memory::Inner;
use crate::plan::{Ordinals, Record};
use crate::{Phase, Region};

/// What an allocation on this thread is served by.
pub(crate) enum Frame {
    /// A rank's memory, outside units.
    Memory(Arc<Inner>),
    /// A unit's forward or backward.
    Unit { inner: Arc<Inner>, unit: Arc<UnitState>, phase: Phase, ordinals: Ordinals },
    /// Recording a plan.
    Record { record: Arc<Mutex<Record>>, phase: Phase },
}

thread_local! {
    static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
    static LAYER: Cell<Option<u32>> = const { Cell::new(None) };
    static PLACE: Cell<Option<Region>> = const { Cell::new(None) };
}

/// Pops its frame when dropped.
pub(crate) struct FrameGuard {
    depth: usize,
    layer: Option<u32>,
    not_send: PhantomData<*const ()>,
}

pub(crate) fn push(frame: Frame) -> FrameGuard {
    let depth = FRAMES.with_borrow_mut(|frames| {
        frames.push(frame);
        frames.len()
    });
    FrameGuard { depth, layer: LAYER.replace(None), not_send: PhantomData }
}

impl Drop for FrameGuard {
    fn drop(&mut self) {
        let popped =
            FRAMES.with_borrow_mut(|frames| frames.split_off((self.depth - 1).min(frames.len())));
        LAYER.set(self.layer);
        drop(popped);
    }
}

/// Runs `f` with the frames, innermost last.
pub(crate) fn with_frames<R>(f: impl FnOnce(&[Frame]) -> R) -> R {
    FRAMES.with_borrow(|frames| f(frames))
}

/// The innermost memory, below any recording.
pub(crate) fn memory_below(frames: &[Frame]) -> Option<&Arc<Inner>> {
    frames.iter().rev().find_map(|frame| match frame {
        Frame::Memory(inner) | Frame::Unit { inner, .. } => Some(inner),
        Frame::Record { .. } => None,
    })
}

/// The rank whose memory the current thread allocates from, if it entered one.
pub fn current_rank() -> Option<u32> {
    with_frames(|frames| memory_below(frames).map(|inner| inner.rank()))
}

/// Restores the previous layer when dropped.
#[must_use = "the layer lasts as long as the guard"]
pub struct LayerGuard {
    previous: Option<u32>,
    not_send: PhantomData<*const ()>,
}

/// Allocations on this thread belong to layer `index` of the model while the guard lives.
pub fn layer(index: u32) -> LayerGuard {
    LayerGuard { previous: LAYER.replace(Some(index)), not_send: PhantomData }
}

impl Drop for LayerGuard {
    fn drop(&mut self) {
        LAYER.set(self.previous);
    }
}

/// The layer that allocations on this thread belong to.
pub fn current_layer() -> Option<u32> {
    LAYER.get()
}

/// Sets the layer without a guard: the backward engine walks from node to node.
pub fn set_layer(layer: Option<u32>) {
    LAYER.set(layer);
}

/// Restores the previous hint when dropped.
#[must_use = "the hint lasts as long as the guard"]
pub struct PlaceGuard {
    previous: Option<Region>,
    not_send: PhantomData<*const ()>,
}

/// Says what allocations on this thread are for, where the plan cannot know: `Persistent`, `Kv` or
/// `KvGrad`.
pub fn place(region: Region) -> PlaceGuard {
    PlaceGuard { previous: PLACE.replace(Some(region)), not_send: PhantomData }
}

impl Drop for PlaceGuard {
    fn drop(&mut self) {
        PLACE.set(self.previous);
    }
}

pub(crate) fn current_place() -> Option<Region> {
    PLACE.get()
}
