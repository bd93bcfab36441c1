//! Attention exchange as it runs: the port that a rank's attention goes through.
//!
//! A program announces what a unit ships and what its rank attends to for others
//! ([`Action::Ship`], [`Action::Attend`]). The unit's run is then a list of steps
//! ([`unit_steps`]) that the unit's calls of attention work off, each one layer's worth; a rank
//! without a unit works them off by itself. Foreign tensors, partial results and gradients on their
//! way live in the rank's region for messages, outside every unit's plan.
//!
//! [`Action::Ship`]: crate::schedule::Action::Ship
//! [`Action::Attend`]: crate::schedule::Action::Attend

mod own;
mod serve;
mod wire;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use slimpipe_autograd::{self as autograd, AttentionCall, AttentionPort, AttentionResult, KvCache};
use slimpipe_ops::attention::{GradRows, attend, attend_backward};
use slimpipe_runtime::{DType, Device, RawTensor};

use self::serve::Foreign;
use self::wire::Wire;
use super::{Error, Result, Span, StageSpec, routes};
use crate::comm::Communicator;
use crate::schedule::exchange::{LayerStep, Roles, unit_steps};
use crate::schedule::{self, Part, Pass, Schedule, Unit};

/// A rank's part in the exchange of attention.
pub(super) struct Exchange(Mutex<State>);

struct State {
    wire: Wire,
    rank: u32,
    /// Layers of every chunk of every rank.
    layers: usize,
    slice_len: usize,
    /// What attention works on; learned while the rank's memory is planned.
    form: Option<Form>,
    /// What goes along with the rank's next unit or help.
    announced: Roles,
    run: Option<Run>,
}

/// What the attention of every layer works on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Form {
    /// Rows, heads and head size of queries.
    queries: [usize; 3],
    kv_heads: usize,
    dtype: DType,
    scale: f32,
}

/// A unit's pass, or a help without a unit, of which something is exchanged.
struct Run {
    pass: Pass,
    unit: Option<Unit>,
    roles: Roles,
    /// What is left to do.
    steps: VecDeque<(usize, LayerStep)>,
    /// By layer, in the order of the pass: slice, keys and values of what is shipped.
    keys: Vec<Vec<(u32, RawTensor, RawTensor)>>,
    /// What was received and is being attended to.
    foreign: Option<Foreign>,
}

/// The rank's part in the exchange that `schedule` asks for, if it does; every rank must call this.
///
/// # Errors
/// Stages with different numbers of layers, slices that cannot be halved, another rank failed.
pub(super) fn join(
    schedule: &Schedule,
    comm: &mut dyn Communicator,
    (layers, slice_len): (usize, usize),
    device: Device,
    origin: Instant,
) -> Result<Option<Arc<Exchange>>> {
    if schedule.exchange() == schedule::Exchange::Off || schedule.ranks() == 1 {
        return Ok(None);
    }
    check_exchange(schedule, layers, slice_len)?;
    let stages = schedule.placement().stages();
    let mut lanes = comm.split(0, comm.rank())?;
    lanes.open(routes::of_attention(schedule))?;
    let wire = Wire::new(lanes, device, origin);
    Ok(Some(Arc::new(Exchange::new(wire, comm.rank(), layers / stages as usize, slice_len))))
}

/// Whether a model of `layers` layers in slices of `slice_len` tokens can exchange attention as
/// `schedule` says.
///
/// # Errors
/// Stages with different numbers of layers, slices that cannot be halved.
pub fn check_exchange(schedule: &Schedule, layers: usize, slice_len: usize) -> Result<()> {
    if schedule.exchange() == schedule::Exchange::Off {
        return Ok(());
    }
    let stages = schedule.placement().stages();
    if !layers.is_multiple_of(stages as usize) {
        return Err(Error::UnevenExchange { layers, stages });
    }
    if slice_len < 2 {
        return Err(Error::ShortExchange { slice_len });
    }
    Ok(())
}

/// Empty caches for the layers of a stage, over which `exchange`, if there is one, attends.
pub(super) fn caches(exchange: Option<&Arc<Exchange>>, spec: &StageSpec) -> Vec<KvCache> {
    let cache = |_| match exchange {
        Some(exchange) => KvCache::with_port(exchange.clone()),
        None => KvCache::new(),
    };
    spec.layers.clone().map(cache).collect()
}

impl Exchange {
    fn new(wire: Wire, rank: u32, layers: usize, slice_len: usize) -> Self {
        Self(Mutex::new(State {
            wire,
            rank,
            layers,
            slice_len,
            form: None,
            announced: Roles::default(),
            run: None,
        }))
    }

    /// Notes that `helper` attends to `part` of the next unit's prefix.
    pub(super) fn ship(&self, part: Part, helper: u32) {
        self.0.lock().announced.ships.push((part, helper));
    }

    /// Notes that the rank attends to `part` of the prefix of `owner`'s `unit`.
    pub(super) fn attend(&self, unit: Unit, part: Part, owner: u32) {
        self.0.lock().announced.attends.push((unit, part, owner));
    }

    /// Begins the unit's pass: what was announced goes along with it. `caches` are its keys and
    /// values by layer.
    ///
    /// # Errors
    /// Another rank failed.
    pub(super) fn begin(&self, pass: Pass, unit: Unit, caches: &[KvCache]) -> Result<()> {
        let state = &mut *self.0.lock();
        let roles = std::mem::take(&mut state.announced);
        if roles.is_empty() {
            return Ok(());
        }
        let shipped = |cache: &KvCache| {
            // A slice may be shipped in two halves.
            let slices: BTreeSet<u32> =
                roles.ships.iter().flat_map(|(part, _)| part.slices()).collect();
            let keys = |slice: u32| {
                let (k, v) = cache.slice(slice as usize)?;
                Some((slice, k.clone(), v.clone()))
            };
            slices.into_iter().filter_map(keys).collect()
        };
        let mut keys: Vec<_> = caches.iter().map(shipped).collect();
        if pass == Pass::Backward {
            keys.reverse();
        }
        state.begin(pass, Some(unit), roles, keys)?;
        state.send_keys()
    }

    /// Ends the unit's pass; gives what happened in between, in order.
    ///
    /// # Errors
    /// The unit ran attention less often than it has layers.
    pub(super) fn finish(&self) -> Result<Vec<Span>> {
        let mut state = self.0.lock();
        if let Some(run) = state.run.take()
            && let Some((layer, _)) = run.steps.front()
        {
            let (rank, expected) = (state.rank, state.layers);
            return Err(Error::AttentionCalls { rank, got: *layer, expected });
        }
        Ok(state.wire.take_spans())
    }

    /// Does for others what was announced, without a unit; gives what happened.
    ///
    /// # Errors
    /// Out of memory, another rank failed.
    pub(super) fn help(&self, pass: Pass) -> Result<Vec<Span>> {
        {
            let state = &mut *self.0.lock();
            let roles = std::mem::take(&mut state.announced);
            state.begin(pass, None, roles, Vec::new())?;
            while let Some((layer, step)) = state.next_step() {
                state.serve(layer, step)?;
            }
        }
        self.finish()
    }

    /// Waits until all that was sent is read, and freed.
    ///
    /// # Errors
    /// Another rank failed.
    pub(super) fn settle(&self) -> Result<()> {
        self.0.lock().wire.settle()
    }

    /// Ends the rank's part.
    ///
    /// # Errors
    /// Another rank failed.
    pub(super) fn end(&self) -> Result<()> {
        self.0.lock().wire.end()
    }
}

impl State {
    fn begin(
        &mut self,
        pass: Pass,
        unit: Option<Unit>,
        roles: Roles,
        keys: Vec<Vec<(u32, RawTensor, RawTensor)>>,
    ) -> Result<()> {
        let steps = unit_steps(&roles, unit.is_none(), self.layers).collect();
        self.run = Some(Run { pass, unit, roles, steps, keys, foreign: None });
        Ok(())
    }

    fn next_step(&mut self) -> Option<(usize, LayerStep)> {
        self.run.as_mut()?.steps.pop_front()
    }

    /// Learns what attention works on.
    fn learn(&mut self, call: &AttentionCall<'_>) -> Result<()> {
        let (queries, keys) = (call.q.dims(), call.chunks.first().map(|chunk| chunk.k.dims()));
        let (&[rows, heads, head_dim], Some(&[_, kv_heads, _])) = (queries, keys) else {
            return Ok(()); // attention itself will refuse it
        };
        let (dtype, scale) = (call.q.dtype(), call.scale);
        let form = Form { queries: [rows, heads, head_dim], kv_heads, dtype, scale };
        if *self.form.get_or_insert(form) == form {
            return Ok(());
        }
        Err(Error::Stage(
            "its layers attend with different shapes, so that they cannot exchange attention: set parallel.exchange to off"
                .to_owned(),
        ))
    }
}

/// What the port's caller is told of an error here.
fn told(error: Error) -> autograd::Error {
    match error {
        Error::Autograd(error) => error,
        Error::Tensor(error) => error.into(),
        error => autograd::Error::Port(Box::new(error)),
    }
}

impl AttentionPort for Exchange {
    fn forward(&self, call: &AttentionCall<'_>) -> autograd::Result<(RawTensor, RawTensor)> {
        let state = &mut *self.0.lock();
        if call.q.is_meta() {
            state.learn(call).map_err(told)?;
        }
        match state.run {
            None => Ok(attend(call.q, call.chunks, call.scale, call.offset)?),
            Some(_) => state.forward(call).map_err(told),
        }
    }

    fn backward(
        &self,
        call: &AttentionCall<'_>,
        result: &AttentionResult<'_>,
        grads: &mut [GradRows<'_>],
    ) -> autograd::Result<RawTensor> {
        let state = &mut *self.0.lock();
        if state.run.is_some() {
            return state.backward(call, result, grads).map_err(told);
        }
        let (AttentionCall { q, chunks, scale, offset }, AttentionResult { out, lse, grad }) =
            (*call, *result);
        Ok(attend_backward(q, chunks, out, lse, grad, scale, offset, grads)?)
    }
}
