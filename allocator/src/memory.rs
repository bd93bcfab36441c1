//! A rank's memory: the handle everyone holds.

use std::panic::Location;
use std::path::Path;
use std::sync::Arc;

use crate::adaptor::{Adaptor, Event, FailNth, Limit, Poison};
use crate::allocation::{Allocation, Block, UnitState};
use crate::offload::{CopyQueue, Offload, SecondMemory, Worker};
use crate::plan::{HELD, Ordinals};
use crate::scope::{self, Frame, FrameGuard};
use crate::source::{Host, Source, Space};
use crate::state::{Placed, Request, State};
use crate::sync::Mutex;
use crate::trace::Trace;
use crate::{AllocError, Bytes, MemoryStats, Owner, Phase, Region, UnitId, UnitPlan, UnitUsage};

pub(crate) struct Inner {
    /// Nobody's if it belongs to the process.
    rank: Option<u32>,
    pub(crate) space: Space,
    state: Mutex<State>,
}

impl Inner {
    pub(crate) fn rank(&self) -> Option<u32> {
        self.rank
    }

    pub(crate) fn free(&self, index: usize) {
        self.state.lock().free(index);
    }

    fn allocate(self: &Arc<Self>, request: &Request<'_>) -> Result<Allocation, AllocError> {
        let Placed { number, region, address, cell } = self.state.lock().allocate(request)?;
        let unit = request.unit.filter(|_| HELD.contains(&region)).cloned();
        Ok(Allocation {
            bytes: request.bytes,
            region,
            pointer: Some(address),
            block: Some(Block { memory: self.clone(), index: number, unit, cell }),
            recorded: None,
        })
    }
}

/// One rank's memory. Cloning copies the handle; the memory goes when the last handle and the last
/// allocation are gone.
#[derive(Clone)]
pub struct Memory {
    inner: Arc<Inner>,
}

/// Makes a [`Memory`].
#[must_use]
pub struct MemoryBuilder {
    rank: Option<u32>,
    source: Arc<dyn Source>,
    strict: bool,
    adaptors: Vec<Box<dyn Adaptor>>,
    offload: Option<Offload>,
}

impl MemoryBuilder {
    /// Takes bytes from `source` instead of the host's memory.
    pub fn source(mut self, source: impl Source + 'static) -> Self {
        self.source = Arc::new(source);
        self
    }

    /// A budget on committed bytes.
    pub fn limit(self, bytes: Bytes) -> Self {
        self.adaptor(Limit(bytes))
    }

    /// Fills fresh and freed memory with NaN.
    pub fn poison(self) -> Self {
        self.adaptor(Poison)
    }

    /// Makes the `n`-th allocation, or opening of a unit with a slot, fail (1 is the next).
    pub fn fail_nth(self, n: u64) -> Self {
        self.adaptor(FailNth(n))
    }

    /// Logs every event to a file; the format is in `docs/memory-events.md`.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn trace(self, path: &Path) -> Result<Self, AllocError> {
        let trace = Trace::create(path, self.number())?;
        Ok(self.adaptor(trace))
    }

    /// Makes allocations inside units that the plan does not know an error.
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Lets units offload `ratio` (0 to 1) of what their forwards save in slots to `second`.
    ///
    /// # Errors
    /// The thread that copies cannot be started.
    pub fn offload(
        mut self,
        ratio: f64,
        second: impl SecondMemory + 'static,
    ) -> Result<Self, AllocError> {
        let worker = Worker::start(self.number(), Arc::new(second)).map_err(AllocError::Thread)?;
        self.offload = Some(Offload::new(ratio, Box::new(worker)));
        Ok(self)
    }

    /// As [`MemoryBuilder::offload`], to a second memory that copies by itself.
    pub fn offload_by(mut self, ratio: f64, queue: impl CopyQueue + 'static) -> Self {
        self.offload = Some(Offload::new(ratio, Box::new(queue)));
        self
    }

    /// Wraps another adaptor around what there is.
    pub fn adaptor(mut self, adaptor: impl Adaptor + 'static) -> Self {
        self.adaptors.push(Box::new(adaptor));
        self
    }

    /// The memory.
    pub fn build(self) -> Memory {
        let (rank, space, number) = (self.rank, self.source.space(), self.number());
        let state = State::new(number, self.strict, self.source, self.adaptors, self.offload);
        Memory { inner: Arc::new(Inner { rank, space, state: Mutex::new(state) }) }
    }

    /// The rank's number, 0 for the process.
    fn number(&self) -> u32 {
        self.rank.unwrap_or(0)
    }
}

/// Makes the memory current on its thread while it lives.
#[must_use = "the memory is current only while the guard lives"]
pub struct MemoryGuard {
    _frame: FrameGuard,
}

/// Makes a phase of a unit current on its thread while it lives.
#[must_use = "the phase lasts as long as the guard"]
pub struct PhaseGuard {
    _frame: FrameGuard,
    /// What ends with it; a task's end is told to nobody.
    unit: Option<(Arc<Inner>, UnitId, Phase)>,
}

impl Drop for PhaseGuard {
    fn drop(&mut self) {
        if let Some((inner, unit, phase)) = &self.unit {
            inner.state.lock().tell(&Event::PhaseEnded(*unit, *phase));
        }
    }
}

impl Memory {
    /// Memory for `rank`, to be furnished with adaptors.
    pub fn builder(rank: u32) -> MemoryBuilder {
        Self::builder_for(Some(rank))
    }

    /// Memory for whoever has entered none, to be furnished with adaptors. It is no rank's.
    pub fn shared() -> MemoryBuilder {
        Self::builder_for(None)
    }

    fn builder_for(rank: Option<u32>) -> MemoryBuilder {
        let (adaptors, offload) = (Vec::new(), None);
        MemoryBuilder { rank, source: Arc::new(Host), strict: false, adaptors, offload }
    }

    /// What follows its addresses.
    pub fn space(&self) -> Space {
        self.inner.space
    }

    /// Makes this memory serve the allocations of this thread.
    pub fn enter(&self) -> MemoryGuard {
        MemoryGuard { _frame: scope::push(Frame::Memory(self.inner.clone())) }
    }

    /// Sets the plan that units of `chunk` follow.
    ///
    /// # Errors
    /// Units are open.
    pub fn install(&self, chunk: u32, plan: UnitPlan) -> Result<(), AllocError> {
        self.install_slices(chunk, vec![plan])
    }

    /// Sets the plans that units of `chunk` follow, one per slice; slices beyond follow the last.
    ///
    /// # Errors
    /// Units are open.
    pub fn install_slices(&self, chunk: u32, plans: Vec<UnitPlan>) -> Result<(), AllocError> {
        self.inner.state.lock().install(chunk, plans)
    }

    /// The plan that units of `slice` and `chunk` follow, if one was installed.
    pub fn plan(&self, chunk: u32, slice: u32) -> Option<Arc<UnitPlan>> {
        self.inner.state.lock().plan(chunk, slice)
    }

    /// Whether there is a second memory to which units can [go](Unit::offload).
    pub fn offloads(&self) -> bool {
        self.inner.state.lock().offloads()
    }

    /// Makes room for a task that follows `plan`, of which only what is recorded as forward counts.
    ///
    /// # Errors
    /// Units are open.
    pub fn install_task(&self, plan: UnitPlan) -> Result<Task, AllocError> {
        let plan = Arc::new(plan);
        self.inner.state.lock().install_task(plan.clone())?;
        Ok(Task { plan })
    }

    /// Allocations on this thread are the task's while the guard lives.
    pub fn task(&self, task: &Task) -> PhaseGuard {
        let ordinals = Ordinals::new(Some(task.plan.clone()));
        let (inner, unit, phase) = (self.inner.clone(), None, Phase::Forward);
        let _frame = scope::push(Frame::Phase { inner, unit, phase, ordinals });
        PhaseGuard { _frame, unit: None }
    }

    /// Opens a unit: takes its slot. Without a plan for its chunk everything it allocates goes to the
    /// overflow region, and is counted; it is then freed by its own handle alone.
    ///
    /// # Errors
    /// Out of memory, or the unit is open already.
    #[track_caller]
    pub fn unit(&self, id: UnitId) -> Result<Unit, AllocError> {
        let state = self.inner.state.lock().open(id, Location::caller())?;
        Ok(Unit { inner: self.inner.clone(), state })
    }

    /// The figures now.
    pub fn stats(&self) -> MemoryStats {
        self.inner.state.lock().stats()
    }

    /// Starts all peaks, and the count of overflow hits, anew.
    pub fn reset_peaks(&self) {
        self.inner.state.lock().reset_peaks();
    }

    /// Notes in the event log that training step `step` begins, and starts all peaks anew.
    pub fn begin_step(&self, step: u64) {
        let mut state = self.inner.state.lock();
        state.reset_peaks();
        state.tell(&Event::Step(step));
    }

    /// The figures of each open unit.
    pub fn units(&self) -> Vec<UnitUsage> {
        self.inner.state.lock().units()
    }

    /// The `most` largest owners of live bytes, largest first.
    pub fn owners(&self, most: usize) -> Vec<Owner> {
        self.inner.state.lock().owners(most)
    }

    /// Gives back to the system what no live block and no open unit needs. It happens by itself
    /// before a limit is hit.
    pub fn release(&self) {
        self.inner.state.lock().release();
    }

    /// Writes the event log out to where it is so far.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn flush(&self) -> Result<(), AllocError> {
        self.inner.state.lock().flush()
    }
}

/// Work of a rank that belongs to no unit, whose temporaries are planned all the same: they share the
/// frame of the units' temporaries. It keeps nothing, except messages until they are read.
#[derive(Clone)]
pub struct Task {
    plan: Arc<UnitPlan>,
}

/// An open unit: what its forward saves lives in its slots. Dropping it gives everything back at
/// once, however much is still alive; using such a leftover is an error that names the user.
pub struct Unit {
    inner: Arc<Inner>,
    state: Arc<UnitState>,
}

impl Unit {
    /// Which unit this is.
    pub fn id(&self) -> UnitId {
        self.state.id
    }

    /// Its figures now.
    pub fn usage(&self) -> UnitUsage {
        self.inner.state.lock().unit_usage(&self.state)
    }

    /// Starts to copy what forward saved to the second memory, as far as the plan lets it travel; false
    /// if there is nothing of it. It counts as away once the unit is [settled](Unit::settle).
    ///
    /// # Errors
    /// The second memory has no room.
    pub fn offload(&self) -> Result<bool, AllocError> {
        self.inner.state.lock().offload(&self.state)
    }

    /// Takes memory for what is away and starts to copy it back; to be called a while before backward,
    /// which needs it [settled](Unit::settle).
    ///
    /// # Errors
    /// Out of memory, or it could not be brought away.
    #[track_caller]
    pub fn prefetch(&self) -> Result<(), AllocError> {
        let location = Location::caller();
        if self.inner.state.lock().is_leaving(&self.state) {
            self.settle()?;
        }
        self.inner.state.lock().prefetch(&self.state, location)
    }

    /// Waits for the copy in progress, if there is one: what was brought away then gives up its memory,
    /// what came back can be used. It must not be called while an operation uses the unit's tensors.
    ///
    /// # Errors
    /// The bytes could not be moved.
    pub fn settle(&self) -> Result<(), AllocError> {
        let ticket = self.inner.state.lock().ticket(&self.state);
        let Some(ticket) = ticket else { return Ok(()) };
        ticket.wait(); // without the lock: others go on
        self.inner.state.lock().arrive(&self.state)
    }

    fn phase(&self, phase: Phase) -> PhaseGuard {
        let plan = self.inner.state.lock().begin(&self.state, phase);
        let ordinals = Ordinals::new(plan);
        let (inner, unit) = (self.inner.clone(), Some(self.state.clone()));
        let _frame = scope::push(Frame::Phase { inner, unit, phase, ordinals });
        PhaseGuard { _frame, unit: Some((self.inner.clone(), self.id(), phase)) }
    }

    /// Allocations on this thread are the unit's forward's while the guard lives.
    pub fn forward(&self) -> PhaseGuard {
        self.phase(Phase::Forward)
    }

    /// Allocations on this thread are the unit's backward's while the guard lives.
    pub fn backward(&self) -> PhaseGuard {
        self.phase(Phase::Backward)
    }

    /// Allocations on this thread are those of the backward's weight part while the guard lives.
    pub fn weight(&self) -> PhaseGuard {
        self.phase(Phase::Weight)
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        self.inner.state.lock().close(&self.state);
    }
}

/// Bytes of the host's memory from the current scope. `op` names the owner in traces and errors.
///
/// # Errors
/// Out of memory.
#[track_caller]
pub fn allocate(bytes: u64, op: &'static str) -> Result<Allocation, AllocError> {
    allocate_in(Space::Host, bytes, op, || Ok(fallback().clone()))
}

/// Bytes of `space` from the current scope; from what `otherwise` gives if no memory of that space was
/// entered. Where the scope is a unit's in another space, they are none of the unit's.
///
/// # Errors
/// Out of memory, or `otherwise` failed.
#[track_caller]
pub fn allocate_in<E: From<AllocError>>(
    space: Space,
    bytes: u64,
    op: &'static str,
    otherwise: impl FnOnce() -> Result<Memory, E>,
) -> Result<Allocation, E> {
    let location = Location::caller();
    scope::with_frames(|frames| {
        let entered = scope::memory_below(frames);
        let inner = entered.filter(|inner| inner.space == space);
        let place = || inner.cloned().map_or_else(|| Ok(otherwise()?.inner), Ok::<_, E>);
        match frames.last() {
            Some(Frame::Phase { inner, unit, phase, ordinals }) if inner.space == space => {
                let (layer, place) = (scope::current_layer(), scope::current_place());
                let planned = match place {
                    Some(place) if place.is_for_callers() => None,
                    _ => ordinals.next(*phase, layer, bytes),
                };
                Ok(inner.allocate(&Request {
                    bytes,
                    op,
                    location,
                    layer,
                    place,
                    unit: unit.as_ref(),
                    planned,
                    in_phase: true,
                })?)
            }
            Some(Frame::Record { record, phase }) if entered.is_none() || inner.is_some() => {
                let recorded =
                    record.lock().allocate(*phase, bytes).map(|index| (record.clone(), index));
                let mut allocation = outside_units(&place()?, bytes, op, location)?;
                allocation.recorded = recorded;
                Ok(allocation)
            }
            _ => Ok(outside_units(&place()?, bytes, op, location)?),
        }
    })
}

fn outside_units(
    inner: &Arc<Inner>,
    bytes: u64,
    op: &'static str,
    location: &'static Location<'static>,
) -> Result<Allocation, AllocError> {
    let (layer, place) = (scope::current_layer(), scope::current_place());
    let (unit, planned, in_phase) = (None, None, false);
    inner.allocate(&Request { bytes, op, location, layer, place, unit, planned, in_phase })
}

/// A size without bytes: recorded if a plan is being recorded, otherwise free of any cost.
pub fn allocate_meta(bytes: u64) -> Allocation {
    let recorded = scope::with_frames(|frames| match frames.last() {
        Some(Frame::Record { record, phase }) => {
            let index = record.lock().allocate(*phase, bytes)?;
            Some((record.clone(), index))
        }
        _ => None,
    });
    let region = scope::current_place().unwrap_or(Region::Transient);
    Allocation { bytes, region, pointer: None, block: None, recorded }
}

/// What serves threads that entered no memory of the host: one for the process, where everything is
/// overflow.
fn fallback() -> &'static Memory {
    static FALLBACK: std::sync::OnceLock<Memory> = std::sync::OnceLock::new();
    FALLBACK.get_or_init(|| Memory::shared().build())
}
