//! Which memory the current thread allocates from: a stack of scopes pushed by guards.
//!
//! Guards cannot leave their thread and restore what was before. Jobs inside a thread pool never
//! allocate, so the stack of the thread that runs a rank is the only one that matters.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::sync::Arc;

use crate::allocation::UnitState;
use crate::memory::Inner;
use crate::plan::{Ordinals, Record};
use crate::sync::{Mutex, per_thread};
use crate::{Phase, Region, Space};

/// What an allocation on this thread is served by.
pub(crate) enum Frame {
    /// A rank's memory, outside units.
    Memory(Arc<Inner>),
    /// A unit's forward or backward, or a task, which is no unit's.
    Phase { inner: Arc<Inner>, unit: Option<Arc<UnitState>>, phase: Phase, ordinals: Ordinals },
    /// Recording a plan.
    Record { record: Arc<Mutex<Record>>, phase: Phase },
}

per_thread! {
    static FRAMES: RefCell<Vec<Frame>> = RefCell::new(Vec::new());
    static LAYER: Cell<Option<u32>> = Cell::new(None);
    static PLACE: Cell<Option<Region>> = Cell::new(None);
}

/// Pops its frame when dropped.
pub(crate) struct FrameGuard {
    depth: usize,
    /// The layer and the hint that were current outside a phase.
    outside: Option<(Option<u32>, Option<Region>)>,
    not_send: PhantomData<*const ()>,
}

/// Makes `frame` the innermost. A phase begins outside all layers and without a hint.
pub(crate) fn push(frame: Frame) -> FrameGuard {
    let is_phase = !matches!(frame, Frame::Memory(_));
    let outside = is_phase.then(|| (LAYER.with(Cell::take), PLACE.with(Cell::take)));
    let depth = FRAMES.with(|frames| {
        let mut frames = frames.borrow_mut();
        frames.push(frame);
        frames.len()
    });
    FrameGuard { depth, outside, not_send: PhantomData }
}

impl Drop for FrameGuard {
    fn drop(&mut self) {
        let popped = FRAMES.with(|frames| {
            let mut frames = frames.borrow_mut();
            let depth = (self.depth - 1).min(frames.len());
            frames.split_off(depth)
        });
        if let Some((layer, place)) = self.outside {
            LAYER.with(|current| current.set(layer));
            PLACE.with(|current| current.set(place));
        }
        drop(popped); // may free memory, which must not find the frames borrowed
    }
}

/// Runs `f` with the frames, innermost last.
pub(crate) fn with_frames<R>(f: impl FnOnce(&[Frame]) -> R) -> R {
    FRAMES.with(|frames| f(&frames.borrow()))
}

/// The innermost memory, below any recording.
pub(crate) fn memory_below(frames: &[Frame]) -> Option<&Arc<Inner>> {
    frames.iter().rev().find_map(|frame| match frame {
        Frame::Memory(inner) | Frame::Phase { inner, .. } => Some(inner),
        Frame::Record { .. } => None,
    })
}

/// The rank whose memory the current thread allocates from, if it entered one.
pub fn current_rank() -> Option<u32> {
    with_frames(|frames| memory_below(frames)?.rank())
}

/// What kind of memory the current thread allocates from, if it entered one.
pub fn current_space() -> Option<Space> {
    with_frames(|frames| Some(memory_below(frames)?.space))
}

/// Restores the previous layer when dropped.
#[must_use = "the layer lasts as long as the guard"]
pub struct LayerGuard {
    previous: Option<u32>,
    not_send: PhantomData<*const ()>,
}

/// Allocations on this thread belong to layer `index` of the model while the guard lives.
pub fn layer(index: u32) -> LayerGuard {
    LayerGuard { previous: LAYER.with(|layer| layer.replace(Some(index))), not_send: PhantomData }
}

impl Drop for LayerGuard {
    fn drop(&mut self) {
        set_layer(self.previous);
    }
}

/// The layer that allocations on this thread belong to.
pub fn current_layer() -> Option<u32> {
    LAYER.with(Cell::get)
}

/// Sets the layer without a guard: the backward engine walks from node to node.
pub fn set_layer(layer: Option<u32>) {
    LAYER.with(|current| current.set(layer));
}

/// Restores the previous hint when dropped.
#[must_use = "the hint lasts as long as the guard"]
pub struct PlaceGuard {
    previous: Option<Region>,
    not_send: PhantomData<*const ()>,
}

/// Says what allocations on this thread are for, where the plan cannot know: `Persistent`, `Kv`,
/// `KvGrad` or `Comm`. Other regions are not for callers to choose, and naming one changes nothing.
pub fn place(region: Region) -> PlaceGuard {
    PlaceGuard { previous: PLACE.with(|place| place.replace(Some(region))), not_send: PhantomData }
}

impl Drop for PlaceGuard {
    fn drop(&mut self) {
        PLACE.with(|place| place.set(self.previous));
    }
}

pub(crate) fn current_place() -> Option<Region> {
    PLACE.with(Cell::get)
}
